//! The end of a connection, and its reason where that is known.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::{Error, TransportError};

/// The reason for the end: a text for callers, and the detail for the operator.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) how: Arc<str>,
    pub(super) detail: Option<Arc<str>>,
}

impl Ended {
    /// Creates the reason. `stderr` holds the last lines that a child process wrote.
    pub(super) fn new(how: String, stderr: &[String]) -> Self {
        let detail = (!stderr.is_empty()).then(|| {
            let mut detail = "the last lines of its standard error:".to_owned();
            for line in stderr {
                detail.push_str("\n    | ");
                detail.push_str(line);
            }
            detail.into()
        });
        Self {
            how: how.into(),
            detail,
        }
    }

    /// Adds the detail to an error.
    pub(super) fn explain(&self, error: TransportError) -> TransportError {
        match &self.detail {
            Some(detail) => error.with_detail(detail.clone()),
            None => error,
        }
    }
}

/// The end of one connection, shared by its transport and its calls.
#[derive(Clone, Debug, Default)]
pub(super) struct End(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closing: CancellationToken,
    known: CancellationToken,
    ended: OnceLock<Ended>,
}

impl End {
    /// Tells the transport that the connection is being closed.
    pub(super) fn start_closing(&self) {
        self.0.closing.cancel();
    }

    /// Resolves when the connection is being closed.
    pub(super) async fn closing(&self) {
        self.0.closing.cancelled().await;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Records how the connection ended. The first record counts.
    pub(super) fn set(&self, ended: Ended) {
        let _ = self.0.ended.set(ended);
        self.0.known.cancel();
    }

    pub(super) fn get(&self) -> Option<&Ended> {
        self.0.ended.get()
    }

    /// Resolves when it is known how the connection ended.
    pub(super) async fn known(&self) {
        self.0.known.cancelled().await;
    }

    /// Adds to a call's transport error how its connection ended.
    pub(super) fn explain(&self, error: Error) -> Error {
        match (error, self.get()) {
            (Error::Transport(error), Some(ended)) => {
                ended.explain(error.with_reason(&ended.how)).into()
            }
            (error, _) => error,
        }
    }
}
