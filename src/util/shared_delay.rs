use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::lock;

/// An item that ends after a while.
pub(crate) trait Delayed: Send + 'static {
    /// The time until the item ends.
    const DELAY: Duration;

    /// Returns `true` if the item has ended already, so that it need not wait for its time.
    fn has_ended(&mut self) -> bool;

    /// Ends the item.
    fn end(self);
}

/// A delay of the same length for many items.
///
/// All items share one timer of the runtime. A timer of each item would often be the earliest of
/// all, and the runtime's driver is woken to wait for such a one.
pub(crate) struct SharedDelay<T>(Arc<Mutex<Waiting<T>>>);

struct Waiting<T> {
    /// The items by the end of their time.
    items: VecDeque<(Instant, T)>,
    /// A task waits for the first of them.
    has_task: bool,
}

impl<T> Default for SharedDelay<T> {
    fn default() -> Self {
        let waiting = Waiting {
            items: VecDeque::new(),
            has_task: false,
        };
        Self(Arc::new(Mutex::new(waiting)))
    }
}

impl<T> Clone for SharedDelay<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Delayed> SharedDelay<T> {
    /// Ends the item after its delay.
    pub(crate) fn start(&self, item: T) {
        let now = Instant::now();
        let mut waiting = lock(&self.0);
        waiting.remove_ended(now);
        waiting.items.push_back((now + T::DELAY, item));
        if !std::mem::replace(&mut waiting.has_task, true) {
            let task = Task {
                waiting: self.0.clone(),
                has_ended: false,
            };
            tokio::spawn(task.run());
        }
    }
}

impl<T: Delayed> Waiting<T> {
    /// Removes the items before the first one that has to wait, and ends those whose time is over.
    /// Returns the time of the first one that is left.
    fn remove_ended(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let (end, item) = self.items.front_mut()?;
            let (end, has_ended) = (*end, item.has_ended());
            if !has_ended && end > now {
                return Some(end);
            }
            if let Some((_, item)) = self.items.pop_front()
                && !has_ended
            {
                item.end();
            }
        }
    }
}

struct Task<T> {
    waiting: Arc<Mutex<Waiting<T>>>,
    has_ended: bool,
}

impl<T: Delayed> Task<T> {
    async fn run(mut self) {
        while let Some(end) = self.next() {
            sleep_until(end).await;
        }
    }

    fn next(&mut self) -> Option<Instant> {
        let mut waiting = lock(&self.waiting);
        let next = waiting.remove_ended(Instant::now());
        if next.is_none() {
            // The next item starts another task.
            waiting.has_task = false;
            self.has_ended = true;
        }
        next
    }
}

/// The runtime may end before the task does.
impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if !self.has_ended {
            lock(&self.waiting).has_task = false;
        }
    }
}
