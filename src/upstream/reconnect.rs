//! A connection that is made on demand, and again when it is lost.

use std::{
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "metrics")]
use super::session_duration::MeasuredSession;
use super::{connection::Connection, errors};
use crate::{
    Error, TransportError,
    context::served_by::Endpoint,
    util::{backoff::Backoff, lock},
};

/// The time a call waits for an attempt that is due, rather than fail.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// The lifetime below which a lost connection counts as a failure.
const SHORT_LIFE: Duration = Duration::from_secs(10);

type Connecting = Shared<BoxFuture<'static, Result<Arc<Connection>, Error>>>;
type Closing = Shared<BoxFuture<'static, ()>>;

/// Makes one connection.
pub(super) trait Dial: Send + Sync {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>>;

    /// Resolves when no task or process of a connection is left, once all connections have been
    /// dropped.
    fn ended(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Returns `true` if there is only one connection, which is not made again once it is lost.
    fn is_final(&self) -> bool {
        false
    }
}

impl<F> Dial for F
where
    F: Fn() -> BoxFuture<'static, Result<Connection, Error>> + Send + Sync,
{
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        self()
    }
}

/// A connection that is made on demand, by one caller for all, and made again when it is lost.
pub(super) struct Reconnect {
    name: Arc<str>,
    #[cfg_attr(not(feature = "metrics"), allow(dead_code))]
    endpoint: Option<Arc<Endpoint>>,
    dial: Box<dyn Dial>,
    backoff: Backoff,
    connect_timeout: Duration,
    in_background: bool,
    state: Mutex<State>,
    /// Cancels the attempt that is under way.
    stop: CancellationToken,
    this: Weak<Reconnect>,
}

#[derive(Default)]
struct State {
    phase: Phase,
    /// Failures since the last success.
    failures: u32,
    /// Connections in a row that were lost soon after they were made.
    short_lived: u32,
    connected_at: Option<Instant>,
    /// The earliest time of the next attempt.
    next_attempt: Option<Instant>,
    last_error: Option<Error>,
    closed: bool,
    /// The connection at the time of [`Reconnect::retire`]. Calls that hold it go on.
    retired: Weak<Connection>,
    closing: Option<Closing>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Connecting(Connecting),
    Ready(Arc<Connection>),
}

/// The settings of a [`Reconnect`].
pub(super) struct ReconnectSettings {
    pub(super) name: Arc<str>,
    pub(super) endpoint: Option<Arc<Endpoint>>,
    pub(super) backoff: Backoff,
    pub(super) connect_timeout: Duration,
    pub(super) in_background: bool,
}

impl Reconnect {
    pub(super) fn new(settings: ReconnectSettings, dial: Box<dyn Dial>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: settings.name,
            endpoint: settings.endpoint,
            backoff: settings.backoff,
            connect_timeout: settings.connect_timeout,
            in_background: settings.in_background && !dial.is_final(),
            dial,
            state: Mutex::default(),
            stop: CancellationToken::new(),
            this: this.clone(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Returns the connection, if there is one now.
    pub(super) fn ready(&self) -> Option<Arc<Connection>> {
        match &self.state().phase {
            Phase::Ready(connection) if !connection.is_lost() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Returns the connection, and makes it if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if the connection cannot be made. If the next attempt is not due within
    /// [`MAX_WAIT`], the error comes at once and says when the attempt is due.
    pub(super) async fn get(&self) -> Result<Arc<Connection>, Error> {
        loop {
            let next = {
                let mut state = self.state();
                match &state.phase {
                    Phase::Ready(connection) if !connection.is_lost() => {
                        return Ok(connection.clone());
                    }
                    Phase::Connecting(connecting) => Ok(connecting.clone()),
                    _ => match self.wait(&state)? {
                        Some(next_attempt) => Err(next_attempt),
                        None => Ok(self.start(&mut state)),
                    },
                }
            };
            match next {
                Ok(connecting) => return connecting.await,
                Err(next_attempt) => tokio::time::sleep_until(next_attempt).await,
            }
        }
    }

    /// Returns the time until which to wait before the next attempt.
    fn wait(&self, state: &State) -> Result<Option<Instant>, Error> {
        if state.closed {
            return Err(errors::closed(&self.name));
        }
        let Some(next_attempt) = state.next_attempt else {
            return Ok(None);
        };
        let Some(wait) = next_attempt.checked_duration_since(Instant::now()) else {
            return Ok(None);
        };
        if wait.is_zero() {
            return Ok(None);
        }
        if wait <= MAX_WAIT {
            return Ok(Some(next_attempt));
        }
        let why = state.last_error.as_ref().map(ToString::to_string);
        let why = why
            .as_deref()
            .unwrap_or("the connection was lost again and again");
        let mut error = self.error(format!("not connected, next attempt in {wait:.1?} ({why})"));
        if let Some(Error::Transport(last)) = &state.last_error
            && let Some(detail) = last.detail()
        {
            error = error.with_detail(detail);
        }
        Err(error.with_retry_after(wait).into())
    }

    fn error(&self, message: impl Into<std::borrow::Cow<'static, str>>) -> TransportError {
        TransportError::not_delivered(message).with_upstream(self.name.clone())
    }

    /// Begins an attempt that goes on even if no caller waits for it any more.
    fn start(&self, state: &mut State) -> Connecting {
        let dialled = self.dial.dial();
        let limit = self.connect_timeout;
        let name = self.name.clone();
        let this = self.this.clone();
        let stop = self.stop.clone();
        let attempt = tokio::spawn(async move {
            let dialled = stop.run_until_cancelled(tokio::time::timeout(limit, dialled));
            let connected = match dialled.await {
                Some(Ok(connected)) => connected.map(Arc::new),
                None => Err(errors::closed(&name)),
                Some(Err(_)) => {
                    let message = format!("cannot connect within {limit:?}");
                    Err(TransportError::not_delivered(message)
                        .with_upstream(name)
                        .into())
                }
            };
            match this.upgrade() {
                Some(reconnect) => reconnect.settle(connected),
                None => connected,
            }
        });
        let connecting = attempt
            .map(|attempt| {
                attempt.unwrap_or_else(|error| {
                    Err(TransportError::not_delivered("connecting failed")
                        .with_source(error)
                        .into())
                })
            })
            .boxed()
            .shared();
        state.phase = Phase::Connecting(connecting.clone());
        connecting
    }

    /// Records the outcome of an attempt.
    fn settle(&self, connected: Result<Arc<Connection>, Error>) -> Result<Arc<Connection>, Error> {
        let mut state = self.state();
        if state.closed {
            return Err(errors::closed(&self.name));
        }
        match &connected {
            Ok(connection) => {
                state.phase = Phase::Ready(connection.clone());
                state.failures = 0;
                state.next_attempt = None;
                state.last_error = None;
                state.connected_at = Some(Instant::now());
                drop(state);
                tracing::info!(upstream = %self.name, "connected");
                self.watch(connection);
            }
            Err(error) if self.dial.is_final() => {
                state.phase = Phase::Idle;
                let error = error.in_full();
                tracing::debug!(upstream = %self.name, error, "not connected");
            }
            Err(error) => {
                let in_full = error.in_full();
                tracing::warn!(upstream = %self.name, error = in_full, "not connected");
                let wait = self.backoff.delay(state.failures);
                state.phase = Phase::Idle;
                state.failures = state.failures.saturating_add(1);
                state.next_attempt = Some(Instant::now() + wait);
                state.last_error = Some(error.clone());
                drop(state);
                self.try_again_in(wait);
            }
        }
        connected
    }

    /// Waits until the connection is lost, and then makes another.
    fn watch(&self, connection: &Arc<Connection>) {
        let lost = connection.lost();
        #[cfg(feature = "metrics")]
        let session = MeasuredSession::begin(connection, &self.name, self.endpoint.as_deref());
        let connection = Arc::downgrade(connection);
        let this = self.this.clone();
        tokio::spawn(async move {
            lost.cancelled().await;
            #[cfg(feature = "metrics")]
            if let Some(session) = session {
                session.end();
            }
            let Some(reconnect) = this.upgrade() else {
                return;
            };
            let mut state = reconnect.state();
            let why = match &state.phase {
                Phase::Ready(current) if Weak::ptr_eq(&Arc::downgrade(current), &connection) => {
                    let lost = reconnect.error("the connection was lost");
                    current.end().explain(lost.into())
                }
                _ => return,
            };
            if state.closed {
                return;
            }
            let error = why.in_full();
            tracing::warn!(upstream = %reconnect.name, error, "not connected any more");
            state.last_error = Some(why);
            reconnect.lose(&mut state);
        });
    }

    /// Records a lost connection. After a single loss it is made again at once; a server that keeps
    /// dying is given time.
    fn lose(&self, state: &mut State) {
        state.phase = Phase::Idle;
        let lived = state.connected_at.take().map(|at| at.elapsed());
        if lived.is_some_and(|lived| lived < SHORT_LIFE) {
            state.short_lived = state.short_lived.saturating_add(1);
        } else {
            state.short_lived = 0;
        }
        if state.short_lived > 1 {
            let wait = self.backoff.delay(state.short_lived - 2);
            state.next_attempt = Some(Instant::now() + wait);
            self.try_again_in(wait);
        } else if self.in_background {
            drop(self.start(state));
        }
    }

    fn try_again_in(&self, wait: Duration) {
        if !self.in_background {
            return;
        }
        let this = self.this.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(reconnect) = this.upgrade() else {
                return;
            };
            let mut state = reconnect.state();
            if matches!(state.phase, Phase::Idle) && !state.closed {
                drop(reconnect.start(&mut state));
            }
        });
    }

    /// Stops making connections. The current connection stays with the calls that hold it.
    pub(super) fn retire(&self) {
        let mut state = self.state();
        state.closed = true;
        self.stop.cancel();
        if let Phase::Ready(connection) = std::mem::take(&mut state.phase) {
            state.retired = Arc::downgrade(&connection);
        }
    }

    /// Ends the connection and any attempt, and makes no other connection. The end goes on even if
    /// no caller waits for it, and all callers that do wait share it.
    pub(super) fn close(&self) -> Closing {
        let mut state = self.state();
        if let Some(closing) = &state.closing {
            return closing.clone();
        }
        state.closed = true;
        self.stop.cancel();
        let phase = std::mem::take(&mut state.phase);
        let retired = state.retired.upgrade();
        let ended = self.dial.ended();
        let closing = tokio::spawn(async move {
            match phase {
                Phase::Idle => {}
                Phase::Connecting(attempt) => drop(attempt.await),
                Phase::Ready(connection) => connection.close().await,
            }
            if let Some(retired) = retired {
                retired.close().await;
            }
            ended.await;
        });
        let closing = closing.map(drop).boxed().shared();
        state.closing = Some(closing.clone());
        closing
    }
}

impl Drop for Reconnect {
    /// Cancels the attempt under way: no caller is left to use its connection.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
