use std::sync::{Arc, Mutex};

use super::{ProgressReporter, reporter::fraction};
use crate::util::lock;

/// One of several pieces of work whose progress is added up.
#[derive(Clone)]
pub(super) struct Share {
    all: Arc<All>,
    index: usize,
}

struct All {
    outer: ProgressReporter,
    /// The done part of each piece, from 0 to 1.
    done: Mutex<Vec<f64>>,
}

impl Share {
    /// Returns the shares of a number of pieces.
    pub(super) fn of(outer: &ProgressReporter, count: usize) -> impl Iterator<Item = Self> + use<> {
        let all = Arc::new(All {
            outer: outer.clone(),
            done: Mutex::new(vec![0.0; count]),
        });
        (0..count).map(move |index| Self {
            all: all.clone(),
            index,
        })
    }

    pub(super) async fn report(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let Some(fraction) = fraction(progress, total) else {
            return;
        };
        let (sum, count) = {
            let mut done = lock(&self.all.done);
            if let Some(own) = done.get_mut(self.index) {
                *own = own.max(fraction);
            }
            (done.iter().sum::<f64>(), done.len() as f64)
        };
        self.all.outer.report(sum, Some(count), message).await;
    }
}
