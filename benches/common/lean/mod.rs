//! Callers that cost less than the server they call, so that a bench measures the server.
//!
//! A request is a template in which only the digits of its id change. An answer is read to its end
//! and checked for its id and its text, and is not parsed as JSON. Both callers run well on a
//! current-thread runtime. They need tokio and `futures` alone: `benches/peers` shares them.

mod http;
mod message;
mod pipe;

use std::time::{Duration, Instant};

pub use self::{
    http::{HttpCaller, together},
    message::{Revision, Tool, long_text},
    pipe::PipeCaller,
};

/// The time limit of a handshake or of a turn, beyond the time that the turn is meant to take.
const LIMIT: Duration = Duration::from_secs(20);

/// The calls that were answered in one turn.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    pub calls: usize,
    pub time: Duration,
}

impl Turn {
    /// Returns the calls a second.
    pub fn rate(&self) -> f64 {
        self.calls as f64 / self.time.as_secs_f64()
    }
}

/// Runs `work`, which is meant to take `time`.
async fn within<F: Future>(time: Duration, work: F) -> F::Output {
    tokio::time::timeout(time + LIMIT, work)
        .await
        .expect("the calls are answered in time")
}

/// Returns the median of durations in microseconds.
fn median_us(times: &mut [Duration]) -> f64 {
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    middle.as_secs_f64() * 1e6
}

/// Repeats `call` until `time` has passed, and returns the duration of each repetition.
async fn repeated(time: Duration, mut call: impl AsyncFnMut()) -> Vec<Duration> {
    let until = Instant::now() + time;
    let mut times = Vec::new();
    let mut started = Instant::now();
    while started < until {
        call().await;
        let ended = Instant::now();
        times.push(ended - started);
        started = ended;
    }
    times
}
