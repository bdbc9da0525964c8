use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures::future::{BoxFuture, ready};
use rmcp::model::{
    ClientResult, ProgressNotification, ProgressNotificationParam, ProgressToken,
    ServerNotification, ServerRequest,
};
use tokio::{sync::Notify, time::Instant};

use super::layer::Shared;
use crate::{
    Caller, CallerSink, Error, MonotonicProgress,
    util::{lock, text::start_of},
};

/// The progress of one call on its way to the caller: at most one notification waits.
pub(super) struct Channel {
    shared: Arc<Shared>,
    /// The token of the call. Notifications with another one are foreign.
    token: Option<ProgressToken>,
    /// `false` for a token that the layer itself has given to the call.
    is_forwarded: bool,
    /// The time that a notification waits, so that the result may come and replace it.
    hold: Duration,
    /// The highest progress that the server has reported.
    reported: MonotonicProgress,
    /// The highest progress for the caller, heartbeats included.
    highest: MonotonicProgress,
    state: Mutex<State>,
    /// A notification waits where none did, or the time of silence begins anew.
    pub(super) arrived: Notify,
}

struct State {
    waiting: Option<ProgressNotification>,
    /// The time since which one waits.
    waits_since: Instant,
    /// The total of the last notification, for heartbeats.
    total: Option<f64>,
    last_sent: Option<Instant>,
    last_message: Instant,
    /// The number of requests of the server that the caller has not answered.
    asked: usize,
    is_closed: bool,
}

impl Channel {
    pub(super) fn new(
        shared: Arc<Shared>,
        token: Option<ProgressToken>,
        is_forwarded: bool,
        hold: Duration,
    ) -> Self {
        Self {
            shared,
            token,
            is_forwarded,
            hold,
            reported: MonotonicProgress::default(),
            highest: MonotonicProgress::default(),
            state: Mutex::new(State {
                waiting: None,
                waits_since: Instant::now(),
                total: None,
                last_sent: None,
                last_message: Instant::now(),
                asked: 0,
                is_closed: false,
            }),
            arrived: Notify::new(),
        }
    }

    /// Takes a notification of the server. Returns `true` if it is time to send it.
    fn add(&self, mut progress: ProgressNotification) -> bool {
        let counters = &self.shared.counters;
        if self.token.as_ref() != Some(&progress.params.progress_token) {
            counters.foreign.fetch_add(1, Ordering::Relaxed);
            if let Some(dropped) = self.shared.foreign_log.count(1) {
                tracing::warn!(
                    dropped,
                    "progress is dropped: its token is not that of the call that it came for"
                );
            }
            return false;
        }
        let mut state = lock(&self.state);
        state.last_message = Instant::now();
        if state.is_closed || !self.is_forwarded {
            return false;
        }
        let value = progress.params.progress;
        let increases = value.is_finite() && self.reported.advance(value);
        let Some(value) = increases.then(|| self.raise_to(value)).flatten() else {
            counters.not_increasing.fetch_add(1, Ordering::Relaxed);
            return false;
        };
        progress.params.progress = value;
        progress.params.total = progress.params.total.filter(|total| total.is_finite());
        if let Some(message) = &mut progress.params.message {
            let max = self.shared.settings.max_message_bytes;
            if message.len() > max {
                *message = format!("{}…", start_of(message, max));
            }
        }
        state.total = progress.params.total;
        let replaced = state.waiting.take();
        let message = replaced.as_ref().and_then(|it| it.params.message.clone());
        // A message is news until another one comes.
        progress.params.message = progress.params.message.or(message);
        state.waiting = Some(progress);
        if replaced.is_some() {
            counters.coalesced.fetch_add(1, Ordering::Relaxed);
        } else {
            state.waits_since = state.last_message;
            self.arrived.notify_one();
        }
        self.due(&state) <= state.last_message
    }

    /// Raises the progress for the caller to this value, or to the least above the heartbeats that
    /// have reached it. Returns `None` if there is no such number.
    fn raise_to(&self, value: f64) -> Option<f64> {
        if self.highest.advance(value) {
            return Some(value);
        }
        let value = self.highest.highest().map_or(value, just_above);
        (value.is_finite() && self.highest.advance(value)).then_some(value)
    }

    /// Returns the time at which the waiting notification is sent.
    fn due(&self, state: &State) -> Instant {
        let settled = state.waits_since + self.hold;
        match state.last_sent {
            Some(last) => settled.max(last + self.shared.settings.interval),
            None => settled,
        }
    }

    /// Notes a message of the server that is no progress.
    fn note_message(&self) {
        lock(&self.state).last_message = Instant::now();
    }

    /// Notes a request to the caller. Until it is answered, it is the server that waits.
    fn ask(self: &Arc<Self>) -> Asked {
        lock(&self.state).asked += 1;
        Asked(self.clone())
    }

    /// Returns the waiting notification if its time has come, else the time at which it will.
    pub(super) fn take_due(&self, now: Instant) -> Result<ProgressNotification, Option<Instant>> {
        let mut state = lock(&self.state);
        if state.waiting.is_none() {
            return Err(None);
        }
        match self.due(&state) {
            due if due > now => Err(Some(due)),
            _ => {
                let waiting = state.waiting.take().ok_or(None)?;
                state.last_sent = Some(now);
                Ok(waiting)
            }
        }
    }

    /// Returns the waiting notification, and takes no more.
    pub(super) fn close(&self) -> Option<ProgressNotification> {
        let mut state = lock(&self.state);
        state.is_closed = true;
        state.waiting.take()
    }

    /// Returns the time at which a silent call has to be ended.
    pub(super) fn idle_end(&self, limit: Option<Duration>) -> Option<Instant> {
        let limit = limit?;
        let state = lock(&self.state);
        match state.asked {
            0 => state.last_message.checked_add(limit),
            _ => None,
        }
    }

    /// Returns the time of the next heartbeat, unless a notification waits. `since` is the begin of
    /// the call.
    pub(super) fn heartbeat_at(&self, since: Instant) -> Option<Instant> {
        let silence = self.shared.settings.heartbeat?;
        if !self.is_forwarded {
            return None;
        }
        let state = lock(&self.state);
        let is_due = state.waiting.is_none() && self.next_heartbeat().is_some();
        let last = state.last_sent.unwrap_or(since);
        last.checked_add(silence).filter(|_| is_due)
    }

    /// Returns the progress of the next heartbeat: the least that is higher than any before.
    fn next_heartbeat(&self) -> Option<f64> {
        let value = self.highest.highest().map_or(0.0, just_above);
        value.is_finite().then_some(value)
    }

    /// Puts a heartbeat where a notification waits, unless one does.
    pub(super) fn add_heartbeat(&self, running: Duration) {
        let Some(token) = self.token.clone() else {
            return;
        };
        let mut state = lock(&self.state);
        if state.waiting.is_some() || state.is_closed {
            return;
        }
        let Some(value) = self.next_heartbeat() else {
            return;
        };
        self.highest.advance(value);
        let mut params = ProgressNotificationParam::new(token, value);
        params.total = state.total;
        params.message = Some(format!("Still running ({} s)", running.as_secs()));
        state.waiting = Some(ProgressNotification::new(params));
        state.waits_since = Instant::now();
        let counters = &self.shared.counters;
        counters.heartbeats.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns a number that is higher, by as little as a reader of JSON keeps.
fn just_above(value: f64) -> f64 {
    let least = value.abs() * 1e-9;
    (value + least.max(1e-6)).max(value.next_up())
}

/// A request to the caller that is not answered yet.
struct Asked(Arc<Channel>);

impl Drop for Asked {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.asked = state.asked.saturating_sub(1);
        state.last_message = Instant::now();
        self.0.arrived.notify_one();
    }
}

/// The caller of a call, whose progress goes into a channel.
pub(super) struct ChannelSink {
    pub(super) channel: Arc<Channel>,
    pub(super) caller: Caller,
}

impl CallerSink for ChannelSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        match notification {
            ServerNotification::ProgressNotification(progress) => {
                match self.channel.add(progress) {
                    // The call's future sends it, which a handler that is busy keeps from running.
                    true => Box::pin(async {
                        tokio::task::yield_now().await;
                        Ok(())
                    }),
                    false => Box::pin(ready(Ok(()))),
                }
            }
            other => {
                self.channel.note_message();
                Box::pin(self.caller.notify(other))
            }
        }
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        let asked = self.channel.ask();
        Box::pin(async move {
            let _asked = asked;
            self.caller.request(request).await
        })
    }
}
