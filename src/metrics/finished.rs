use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use rmcp::model::RequestId;
use serde::{Serialize, Serializer};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::util::lock;

/// Limit of finished requests that wait for one reader of [`FinishedCalls`].
const MAX_WAITING: usize = 1_024;

/// A finished request, as a [`MetricsLayer`](super::MetricsLayer) has recorded it.
///
/// Texts that a caller chose are bounded. Limit: 128 bytes for a method and a request id, 256 bytes
/// for a name. Longer text is cut and followed by its original length. It contains no argument and
/// no content of a result.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FinishedCall {
    /// The time at which the request ended, in seconds since 1970.
    #[serde(serialize_with = "seconds_since_1970")]
    pub time: SystemTime,
    /// The side of the layer: `server` or `client`.
    pub side: &'static str,
    /// The caller's id for the request.
    pub request_id: RequestId,
    /// The JSON-RPC method.
    pub method: String,
    /// The tool or prompt, whether it is known or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The upstream or gateway member that the request reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Arc<str>>,
    /// The name of the [`Outcome`](crate::Outcome), or `panicked`.
    pub outcome: &'static str,
    /// `true` if the request failed.
    pub failed: bool,
    /// The JSON-RPC code of the answer, if it is an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The time until the answer, in seconds.
    #[serde(rename = "duration_s", serialize_with = "seconds")]
    pub duration: Duration,
    /// The cache status, if a cache applied: `hit`, `stale`, `shared` or `miss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<&'static str>,
    /// The number of attempts. A failed request counts as one.
    pub attempts: u32,
    /// The `trace-id` of the caller's trace context, if the request has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn seconds_since_1970<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    seconds(&since.unwrap_or_default(), serializer)
}

/// Receivers of finished requests: readers of the stream, and the failures that are kept.
#[derive(Debug)]
pub(super) struct Recent {
    readers: broadcast::Sender<Arc<FinishedCall>>,
    /// The number of readers, which is cheaper to ask for than that of receivers.
    reading: Arc<AtomicUsize>,
    failures: Mutex<VecDeque<Arc<FinishedCall>>>,
    max_failures: usize,
}

impl Recent {
    pub(super) fn new(max_failures: usize) -> Self {
        Self {
            readers: broadcast::Sender::new(MAX_WAITING),
            reading: Arc::default(),
            failures: Mutex::default(),
            max_failures,
        }
    }

    /// Returns `true` if a request with this end has a receiver.
    pub(super) fn wants(&self, failed: bool) -> bool {
        (failed && self.max_failures > 0) || self.reading.load(Ordering::Relaxed) > 0
    }

    pub(super) fn add(&self, call: FinishedCall) {
        let call = Arc::new(call);
        if call.failed && self.max_failures > 0 {
            let mut failures = lock(&self.failures);
            if failures.len() >= self.max_failures {
                failures.pop_front();
            }
            failures.push_back(call.clone());
        }
        // Without a reader it is dropped.
        let _ = self.readers.send(call);
    }

    /// Returns the latest failures, newest first.
    pub(super) fn failures(&self, limit: usize) -> Vec<Arc<FinishedCall>> {
        let failures = lock(&self.failures);
        failures.iter().rev().take(limit).cloned().collect()
    }

    pub(super) fn read(&self) -> FinishedCalls {
        let lost = Arc::new(AtomicU64::new(0));
        self.reading.fetch_add(1, Ordering::Relaxed);
        let state = (self.readers.subscribe(), lost.clone());
        let calls = futures::stream::unfold(state, |(mut receiver, lost)| async move {
            loop {
                match receiver.recv().await {
                    Ok(call) => return Some((call, (receiver, lost))),
                    Err(RecvError::Lagged(missed)) => {
                        lost.fetch_add(missed, Ordering::Relaxed);
                    }
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        FinishedCalls {
            calls: calls.boxed(),
            lost,
            reading: self.reading.clone(),
        }
    }
}

/// A stream of finished requests, from now on; see [`MetricsHandle::calls`].
///
/// It ends when the layer, its services and its handles are gone. Limit: 1,024 requests that wait
/// to be read (the oldest is [lost](Self::lost)).
///
/// [`MetricsHandle::calls`]: super::MetricsHandle::calls
pub struct FinishedCalls {
    calls: BoxStream<'static, Arc<FinishedCall>>,
    lost: Arc<AtomicU64>,
    reading: Arc<AtomicUsize>,
}

impl Drop for FinishedCalls {
    fn drop(&mut self) {
        self.reading.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FinishedCalls {
    /// Returns the number of requests that this reader has lost, because it was too slow.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Stream for FinishedCalls {
    type Item = Arc<FinishedCall>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.calls.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for FinishedCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishedCalls")
            .field("lost", &self.lost())
            .finish_non_exhaustive()
    }
}
