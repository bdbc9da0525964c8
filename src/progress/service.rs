use std::{
    fmt, mem,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{NumberOrString, ProgressNotification, ProgressToken};
use tokio::time::Instant;
use tower::Service;

use super::{
    channel::{Channel, ChannelSink},
    layer::Shared,
};
use crate::{
    CallContext, Caller, Error, McpRequest, McpResponse, Stack,
    response::CallResult,
    util::deadline::{end_of, reached},
};

/// The time that a caller has to take the last notification before the result. A caller that reads
/// nothing gets the result when it reads again.
const STALLED: Duration = Duration::from_secs(1);

/// The service of a [`ProgressLayer`](super::ProgressLayer).
#[derive(Clone)]
pub struct Progress<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Progress<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S> fmt::Debug for Progress<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

impl<S: Stack> Service<McpRequest> for Progress<S> {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        if request.is_listen() || request.as_notification().is_some() {
            // They have no progress, and no result to wait for.
            let call = inner.call(request);
            return Box::pin(async move { call.await.map_err(Into::into) });
        }
        let running = Running::begin(&self.shared, &mut request.context);
        let call = inner.call(request);
        Box::pin(async move { running.run(async { call.await.map_err(Into::into) }).await })
    }
}

/// A call whose progress is watched.
struct Running {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    caller: Caller,
    since: Instant,
    /// The caller reads messages and results from one stream of lines.
    is_over_lines: bool,
}

impl Running {
    fn begin(shared: &Arc<Shared>, context: &mut CallContext) -> Self {
        let own = context.progress_token();
        let is_forwarded = own.is_some();
        let watched = shared.settings.idle_timeout.is_some();
        let token = own.or_else(|| {
            // Without a token the server would report nothing, and seem idle.
            watched.then(|| ProgressToken(NumberOrString::String("rmcp-layers/idle".into())))
        });
        if !is_forwarded && let Some(token) = &token {
            context.meta.set_progress_token(token.clone());
        }
        let caller = context.caller.clone();
        let is_over_lines = caller.is_over_lines();
        let hold = match is_over_lines {
            true => shared.settings.result_gap,
            false => Duration::ZERO,
        };
        let channel = Channel::new(shared.clone(), token, is_forwarded, hold);
        let channel = Arc::new(channel);
        context.caller = caller.wrap(|caller| ChannelSink {
            channel: channel.clone(),
            caller,
        });
        Self {
            is_over_lines,
            shared: shared.clone(),
            channel,
            caller,
            since: Instant::now(),
        }
    }

    async fn run(self, call: impl Future<Output = CallResult>) -> CallResult {
        let mut call = pin!(call);
        let settings = &self.shared.settings;
        let end = end_of(settings.timeout);
        let mut sending = Sending::default();
        loop {
            let due = match sending.is_running() {
                true => None,
                false => match self.channel.take_due(Instant::now()) {
                    Ok(progress) => {
                        sending.begin(&self.caller, progress);
                        self.count_sent();
                        None
                    }
                    Err(due) => due,
                },
            };
            let idle_end = self.channel.idle_end(settings.idle_timeout);
            let heartbeat = match sending.is_running() {
                true => None,
                false => self.channel.heartbeat_at(self.since),
            };
            let next = [due, end, idle_end, heartbeat].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = sending.finished(), if sending.is_running() => {}
                answer = &mut call => return self.finish(answer, sending).await,
                () = self.channel.arrived.notified() => {}
                () = reached(next) => {
                    let now = Instant::now();
                    if let Some(error) = self.timeout_at(now, end) {
                        return self.finish(Err(error), sending).await;
                    }
                    if heartbeat.is_some_and(|heartbeat| heartbeat <= now) {
                        self.channel.add_heartbeat(self.since.elapsed());
                    }
                }
            }
        }
    }

    /// Returns the error of a call whose time is over.
    fn timeout_at(&self, now: Instant, end: Option<Instant>) -> Option<Error> {
        let settings = &self.shared.settings;
        let is_over = |end: Option<Instant>| end.is_some_and(|end| end <= now);
        let limit = match is_over(end) {
            true => settings.timeout,
            false if is_over(self.channel.idle_end(settings.idle_timeout)) => settings.idle_timeout,
            false => None,
        }?;
        let counters = &self.shared.counters;
        counters.timeouts.fetch_add(1, Ordering::Relaxed);
        Some(Error::timeout(limit))
    }

    fn count_sent(&self) {
        let counters = &self.shared.counters;
        counters.sent.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the progress before the answer.
    ///
    /// Some clients lose progress that they read together with the result of its call, and some
    /// close the connection over it. So over lines, the waiting notification is dropped, and the
    /// answer keeps its distance from the last one. Over HTTP it is sent.
    async fn finish(self, answer: CallResult, mut sending: Sending) -> CallResult {
        let waiting = self.channel.close();
        if sending.is_running() {
            // A failure to wait means that the caller reads nothing.
            let _ = tokio::time::timeout(STALLED, sending.finished()).await;
        }
        match waiting {
            Some(_) if self.is_over_lines => {
                let counters = &self.shared.counters;
                counters.coalesced.fetch_add(1, Ordering::Relaxed);
            }
            Some(progress) => {
                sending.begin(&self.caller, progress);
                self.count_sent();
                let _ = tokio::time::timeout(STALLED, sending.finished()).await;
            }
            None => {}
        }
        if self.is_over_lines
            && let Some(sent) = sending.last_finished
            && let Some(free) = sent.checked_add(self.shared.settings.result_gap)
        {
            tokio::time::sleep_until(free).await;
        }
        answer
    }
}

/// The notification that is being sent.
#[derive(Default)]
struct Sending {
    running: Option<BoxFuture<'static, ()>>,
    last_finished: Option<Instant>,
}

impl Sending {
    fn begin(&mut self, caller: &Caller, progress: ProgressNotification) {
        let caller = caller.clone();
        self.running = Some(Box::pin(async move {
            if let Err(error) = caller.notify(progress.into()).await {
                tracing::debug!(%error, "a caller could not be told of progress");
            }
        }));
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Waits until the notification is sent.
    async fn finished(&mut self) {
        if let Some(running) = &mut self.running {
            running.await;
            self.running = None;
            self.last_finished = Some(Instant::now());
        }
    }
}
