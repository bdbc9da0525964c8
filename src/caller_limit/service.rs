use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::future::{Either, Ready, ready};
use pin_project_lite::pin_project;
use tower::Service;

use super::CallerLimitStats;
use crate::{Audience, CallContext, Error, McpRequest, McpResponse, Refusal, util::lock};

/// The service of a [`CallerLimitLayer`](super::CallerLimitLayer).
#[derive(Clone)]
pub struct CallerLimit<S> {
    callers: Arc<Callers>,
    inner: S,
}

impl<S> CallerLimit<S> {
    pub(super) fn new(callers: Arc<Callers>, inner: S) -> Self {
        Self { callers, inner }
    }
}

impl<S> fmt::Debug for CallerLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallerLimit")
            .field("callers", &self.callers)
            .finish_non_exhaustive()
    }
}

/// The number of calls in flight for each caller.
pub(super) struct Callers {
    max_in_flight: usize,
    in_flight: Mutex<HashMap<Key, usize>>,
    refused: AtomicU64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Principal(Audience),
    Session(u64),
    /// A caller in this process, without a session.
    Unknown,
}

impl Key {
    fn of(context: &CallContext) -> Self {
        match (context.principal(), context.caller.session_id()) {
            (Some(principal), _) => Self::Principal(Audience::principal(principal)),
            (None, Some(session)) => Self::Session(session),
            (None, None) => Self::Unknown,
        }
    }
}

impl Callers {
    pub(super) fn new(max_in_flight: usize) -> Self {
        Self {
            max_in_flight,
            in_flight: Mutex::default(),
            refused: AtomicU64::new(0),
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        lock(&self.in_flight)
    }

    pub(super) fn stats(&self) -> CallerLimitStats {
        let in_flight = self.in_flight();
        CallerLimitStats {
            callers: in_flight.len(),
            in_flight: in_flight.values().sum(),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    fn enter(self: &Arc<Self>, key: Key) -> Result<Place, Refusal> {
        let mut in_flight = self.in_flight();
        let count = in_flight.entry(key.clone()).or_default();
        if *count >= self.max_in_flight {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let message = format!(
                "this caller has {count} calls in flight, the most that it may have; try again when one \
                 has ended"
            );
            return Err(Refusal::new("caller_limit", message));
        }
        *count += 1;
        drop(in_flight);
        Ok(Place {
            callers: self.clone(),
            key,
        })
    }
}

impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callers")
            .field("max_in_flight", &self.max_in_flight)
            .field("callers", &self.in_flight().len())
            .finish()
    }
}

/// The place of a call within its caller's limit.
struct Place {
    callers: Arc<Callers>,
    key: Key,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut in_flight = self.callers.in_flight();
        let Some(count) = in_flight.get_mut(&self.key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            in_flight.remove(&self.key);
        }
    }
}

impl<S> Service<McpRequest> for CallerLimit<S>
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = Either<Counted<S::Future>, Ready<Result<McpResponse, Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let place = match request.as_notification() {
            Some(_) => None,
            None => match self.callers.enter(Key::of(&request.context)) {
                Ok(place) => Some(place),
                Err(refusal) => return Either::Right(ready(Err(refusal.into()))),
            },
        };
        Either::Left(Counted {
            call: self.inner.call(request),
            _place: place,
        })
    }
}

pin_project! {
    /// A call that counts until its future is dropped.
    pub struct Counted<F> {
        #[pin]
        call: F,
        _place: Option<Place>,
    }
}

impl<F> fmt::Debug for Counted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

impl<F, E> Future for Counted<F>
where
    F: Future<Output = Result<McpResponse, E>>,
    E: Into<Error>,
{
    type Output = Result<McpResponse, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx).map_err(Into::into)
    }
}
