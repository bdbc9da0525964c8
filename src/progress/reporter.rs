use std::{fmt, ops::Range, sync::Arc};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{
        ClientResult, NumberOrString, ProgressNotification, ProgressNotificationParam,
        ProgressToken, ServerNotification, ServerRequest,
    },
    service::RequestContext,
};

use super::{Steps, fan_out::Share};
use crate::{CallContext, Caller, CallerSink, Error, MonotonicProgress};

/// Reports the progress of a call to its caller.
///
/// Without a progress token of the caller, all of its methods do nothing. Progress that does not
/// increase is dropped, because the protocol forbids it. A failure to reach the caller is logged,
/// and does not concern the work.
///
/// A clone reports for the same call.
///
/// ```
/// use rmcp_layers::registry::RegisteredTool;
///
/// let import = RegisteredTool::builder("import")
///     .handler(|(), context| async move {
///         let progress = context.progress();
///         for row in 0..3 {
///             // …
///             progress.report(f64::from(row) + 1.0, Some(3.0), "a row is imported").await;
///         }
///         "imported"
///     })
///     .build()?;
/// # let _ = import;
/// # Ok::<(), rmcp_layers::registry::RegistryError>(())
/// ```
#[derive(Clone)]
pub struct ProgressReporter {
    target: Target,
    part: Option<Part>,
}

#[derive(Clone)]
enum Target {
    Nowhere,
    Caller(Arc<Sender>),
    /// One of several calls whose progress is added up.
    Share(Share),
}

/// The part of a whole that a reporter covers.
#[derive(Clone, Copy)]
struct Part {
    start: f64,
    length: f64,
    total: f64,
}

/// The way to the caller of one call.
struct Sender {
    caller: Caller,
    token: ProgressToken,
    highest: MonotonicProgress,
    /// Concurrent reports are sent one after the other, so that they arrive in order.
    order: tokio::sync::Mutex<()>,
}

impl ProgressReporter {
    /// Returns the reporter of the call with this context.
    pub fn of(context: &CallContext) -> Self {
        Self::to(context.caller.clone(), context.progress_token())
    }

    /// Returns the reporter of the call that an rmcp `ServerHandler` serves.
    pub fn of_handler(context: &RequestContext<RoleServer>) -> Self {
        let caller = Caller::from_peer(context.peer.clone()).in_form_of(&context.extensions);
        Self::to(caller, context.meta.get_progress_token())
    }

    fn to(caller: Caller, token: Option<ProgressToken>) -> Self {
        let sender = token.map(|token| Sender {
            caller,
            token,
            highest: MonotonicProgress::default(),
            order: tokio::sync::Mutex::default(),
        });
        Self {
            target: sender.map_or(Target::Nowhere, |sender| Target::Caller(Arc::new(sender))),
            part: None,
        }
    }

    pub(super) fn of_share(share: Share) -> Self {
        Self {
            target: Target::Share(share),
            part: None,
        }
    }

    /// Returns `true` if the caller asked for progress.
    pub fn is_wanted(&self) -> bool {
        !matches!(self.target, Target::Nowhere)
    }

    /// Reports this progress of a total, with a message for people.
    ///
    /// It waits until the notification is sent.
    pub async fn report(
        &self,
        progress: f64,
        total: Option<f64>,
        message: impl Into<Option<&str>>,
    ) {
        let (progress, total) = match self.part {
            Some(part) => (part.at(progress, total), Some(part.total)),
            None => (progress, total),
        };
        let message = message.into();
        match &self.target {
            Target::Nowhere => {}
            Target::Caller(sender) => sender.send(progress, total, message).await,
            // It may be a share itself.
            Target::Share(share) => Box::pin(share.report(progress, total, message)).await,
        }
    }

    /// Returns a reporter for a part of this one: its progress from none to all of it is this one's
    /// progress over `range`, of this `total`.
    ///
    /// A report of the part without a total never reaches the end of the range: the progress `p`
    /// stands for `p / (p + 1)` of it.
    ///
    /// ```
    /// # async fn upload(_: rmcp_layers::progress::ProgressReporter) {}
    /// # async fn example(context: rmcp_layers::CallContext) {
    /// let progress = context.progress();
    /// progress.report(1.0, Some(4.0), "packed").await;
    /// upload(progress.part(1.0..4.0, 4.0)).await;
    /// # }
    /// ```
    #[must_use]
    pub fn part(&self, range: Range<f64>, total: f64) -> Self {
        let own = Part {
            start: range.start,
            length: (range.end - range.start).max(0.0),
            total,
        };
        let part = match self.part {
            None => own,
            Some(outer) => Part {
                start: outer.at(own.start, Some(total)),
                length: outer.at(range.end, Some(total)) - outer.at(own.start, Some(total)),
                total: outer.total,
            },
        };
        Self {
            target: self.target.clone(),
            part: Some(part),
        }
    }

    /// Returns the steps of the call, by their names. Each is reported as it
    /// [begins](Steps::begin_next).
    pub fn steps(&self, names: impl IntoIterator<Item = impl Into<String>>) -> Steps {
        Steps::new(self.clone(), names.into_iter().map(Into::into).collect())
    }

    /// Returns reporters for a number of pieces of work that run at the same time. The caller sees
    /// their sum as one progress.
    #[must_use]
    pub fn fan_out(&self, count: usize) -> Vec<Self> {
        match self.is_wanted() {
            true => Share::of(self, count).map(Self::of_share).collect(),
            false => vec![self.clone(); count],
        }
    }

    /// Sets up the context of another call, which is part of this one's work, so that its progress
    /// is reported here. Its other notifications and requests go to its caller as before.
    ///
    /// ```
    /// # use rmcp_layers::{Error, McpRequest, McpResponse, Stack, CallContext};
    /// # use futures::future::join_all;
    /// # use tower::ServiceExt;
    /// # async fn example(
    /// #     context: CallContext, stack: impl Stack<Error = Error>, requests: Vec<McpRequest>
    /// # ) {
    /// let shares = context.progress().fan_out(requests.len());
    /// let calls = requests.into_iter().zip(shares).map(|(mut request, share)| {
    ///     share.attach(&mut request.context);
    ///     stack.clone().oneshot(request)
    /// });
    /// let answers = join_all(calls).await;
    /// # let _ = answers;
    /// # }
    /// ```
    pub fn attach(&self, context: &mut CallContext) {
        if !self.is_wanted() {
            return;
        }
        let token = ProgressToken(NumberOrString::String("rmcp-layers/part".into()));
        context.meta.set_progress_token(token.clone());
        context.caller = context.caller.wrap(|caller| Attached {
            reporter: self.clone(),
            token,
            caller,
        });
    }
}

impl Part {
    /// Returns the progress of the whole.
    fn at(self, progress: f64, total: Option<f64>) -> f64 {
        self.start + self.length * fraction(progress, total).unwrap_or_default()
    }
}

/// Returns the done part of work, from 0 to 1. Work without a total never ends. Returns `None` for
/// what is no number.
pub(super) fn fraction(progress: f64, total: Option<f64>) -> Option<f64> {
    if progress.is_nan() {
        return None;
    }
    let progress = progress.max(0.0);
    let fraction = match total {
        Some(total) if total > 0.0 => progress / total,
        _ => progress / (progress + 1.0),
    };
    (!fraction.is_nan()).then(|| fraction.clamp(0.0, 1.0))
}

impl Sender {
    async fn send(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let _in_order = self.order.lock().await;
        if !progress.is_finite() || !self.highest.advance(progress) {
            return;
        }
        let mut params = ProgressNotificationParam::new(self.token.clone(), progress);
        params.total = total.filter(|total| total.is_finite());
        params.message = message.map(str::to_owned);
        let notification = ProgressNotification::new(params);
        if let Err(error) = self.caller.notify(notification.into()).await {
            tracing::debug!(%error, "a caller could not be told of progress");
        }
    }
}

/// The caller of a call whose progress is reported by another call.
struct Attached {
    reporter: ProgressReporter,
    token: ProgressToken,
    caller: Caller,
}

impl CallerSink for Attached {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match notification {
                ServerNotification::ProgressNotification(progress)
                    if progress.params.progress_token == self.token =>
                {
                    let params = progress.params;
                    let message = params.message.as_deref();
                    self.reporter
                        .report(params.progress, params.total, message)
                        .await;
                    Ok(())
                }
                other => self.caller.notify(other).await,
            }
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        Box::pin(self.caller.request(request))
    }
}

impl CallContext {
    /// Returns the reporter of the call's progress. Without a progress token, it does nothing.
    ///
    /// Requires the feature `progress`.
    pub fn progress(&self) -> ProgressReporter {
        ProgressReporter::of(self)
    }
}

impl fmt::Debug for ProgressReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressReporter")
            .field("is_wanted", &self.is_wanted())
            .finish_non_exhaustive()
    }
}
