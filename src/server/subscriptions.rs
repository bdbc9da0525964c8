//! The change notifications of a session: one `subscriptions/listen` for a caller that knows only
//! `resources/subscribe`.

use std::{
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::{
    RoleServer,
    model::{
        ClientResult, ErrorCode, ErrorData, Extensions, GetExtensions, GetMeta,
        NotificationMetaObject, PromptListChangedNotification, ResourceListChangedNotification,
        ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerCapabilities,
        ServerNotification, ServerRequest, SubscriptionFilter, SubscriptionsListenRequest,
        SubscriptionsListenRequestParams, ToolListChangedNotification,
    },
    service::{Peer, RequestContext},
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;
use tower::{Service, ServiceExt};

use super::{McpServer, Shared};
use crate::{
    CallContext, Caller, CallerSink, Error, McpRequest, McpResponse, backoff::Backoff,
    caller::Session, request,
};

/// How many resources one session may subscribe to.
const MAX_RESOURCES: usize = 1_000;
/// How many subscribe and unsubscribe requests may wait for the session's listen.
const PENDING_COMMANDS: usize = 64;
/// How long a handshake waits for the session's listen to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(1);
/// How a listen that ended is opened again.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// What a session has open.
#[derive(Default)]
pub(super) struct Subscriptions {
    commands: Mutex<Option<mpsc::Sender<Command>>>,
    /// The count of requests before the oldest acknowledgment whose listen has not begun.
    acknowledging: Mutex<Option<u64>>,
    /// Whether the session's caller has finished its handshake.
    initialized: watch::Sender<bool>,
}

impl Subscriptions {
    /// Takes note that rmcp is about to acknowledge a listen, before the stack knows of it.
    pub(super) fn about_to_acknowledge(&self, shared: &Shared) {
        let mut oldest = self
            .acknowledging
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        oldest.get_or_insert_with(|| shared.dispatched.load(Ordering::Relaxed));
    }

    /// The time since that acknowledgment.
    pub(super) fn acknowledged(&self, shared: &Arc<Shared>) -> Window {
        let since = self
            .acknowledging
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        Window {
            shared: shared.clone(),
            since,
        }
    }
}

/// The time between telling a caller that it will hear of changes and the stack beginning to tell of
/// them. What another request changed meanwhile, the caller has to hear of too.
pub(super) struct Window {
    shared: Arc<Shared>,
    since: Option<u64>,
}

impl Window {
    /// Whether anything went through that could have changed something.
    fn let_something_through(&self) -> bool {
        self.since != Some(self.shared.dispatched.load(Ordering::Relaxed))
    }
}

struct Command {
    uri: String,
    subscribe: bool,
    extensions: Extensions,
    reply: oneshot::Sender<Option<Result<(), ErrorData>>>,
}

impl<S> McpServer<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// Opens the session's listen, for the list changes that the stack announces, and gives it a moment
    /// to begin: then the session misses none.
    pub(super) async fn open_session_listen(&self, peer: Peer<RoleServer>, extensions: Extensions) {
        let Some(config) = self.knowledge().config.clone() else {
            return;
        };
        let (sender, commands) = mpsc::channel(PENDING_COMMANDS);
        *self
            .subscriptions
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let actor = SessionListen {
            stack: self.stack(),
            peer: SessionPeer {
                peer,
                initialized: self.subscriptions.initialized.subscribe(),
            },
            session: Arc::downgrade(&self.session),
            extensions,
            filter: list_changes(&config.capabilities),
            open: None,
        };
        let (begun, begins) = oneshot::channel();
        let closed = self.session.closed().clone();
        tokio::spawn(async move { closed.run_until_cancelled(actor.run(commands, begun)).await });
        let _ = tokio::time::timeout(BEGIN_WITHIN, begins).await;
    }

    /// The session's caller has finished its handshake, and may be told of changes.
    pub(super) fn session_initialized(&self) {
        self.subscriptions.initialized.send_replace(true);
    }

    /// Subscribes the session. `None` if the stack knows no listen, or there is no session to tell.
    pub(super) async fn subscribe_session(
        &self,
        uri: String,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        self.command(uri, true, context).await
    }

    pub(super) async fn unsubscribe_session(
        &self,
        uri: String,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        self.command(uri, false, context).await
    }

    async fn command(
        &self,
        uri: String,
        subscribe: bool,
        context: &RequestContext<RoleServer>,
    ) -> Option<Result<(), ErrorData>> {
        let commands = self
            .subscriptions
            .commands
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let (reply, answer) = oneshot::channel();
        let extensions = context.extensions.clone();
        commands
            .send(Command {
                uri,
                subscribe,
                extensions,
                reply,
            })
            .await
            .ok()?;
        answer.await.ok().flatten()
    }
}

/// The changes that a stack with these capabilities announces unasked.
fn list_changes(capabilities: &ServerCapabilities) -> SubscriptionFilter {
    let announced = |flag: Option<bool>| (flag == Some(true)).then_some(true);
    let mut filter = SubscriptionFilter::new();
    filter.tools_list_changed = announced(
        capabilities
            .tools
            .as_ref()
            .and_then(|tools| tools.list_changed),
    );
    filter.prompts_list_changed = announced(
        capabilities
            .prompts
            .as_ref()
            .and_then(|prompts| prompts.list_changed),
    );
    filter.resources_list_changed = announced(
        capabilities
            .resources
            .as_ref()
            .and_then(|resources| resources.list_changed),
    );
    filter
}

fn is_empty(filter: &SubscriptionFilter) -> bool {
    *filter == SubscriptionFilter::new()
        || (filter.tools_list_changed.is_none()
            && filter.prompts_list_changed.is_none()
            && filter.resources_list_changed.is_none()
            && filter
                .resource_subscriptions
                .as_ref()
                .is_none_or(Vec::is_empty))
}

struct SessionListen<S> {
    stack: S,
    peer: SessionPeer,
    session: std::sync::Weak<Session>,
    extensions: Extensions,
    filter: SubscriptionFilter,
    open: Option<AbortOnDropHandle<Result<(), Error>>>,
}

impl<S> SessionListen<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, begun: oneshot::Sender<()>) {
        let mut supported = true;
        if !is_empty(&self.filter) {
            match self.reopen(self.filter.clone()).await {
                Ok(accepted) => {
                    // If the handshake did not wait, something may have changed before this.
                    if begun.send(()).is_err() {
                        self.peer.tell_of_all(&accepted).await;
                    }
                }
                Err(error) => supported = !is_unsupported(&error),
            }
        }
        let mut attempt = 0;
        loop {
            let wanted = supported && self.open.is_none() && !is_empty(&self.filter);
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) if supported => self.obey(command, &mut supported).await,
                    Some(command) => drop(command.reply.send(None)),
                    None => return,
                },
                () = tokio::time::sleep(REOPEN.delay(attempt)), if wanted => {
                    attempt += 1;
                    if let Ok(accepted) = self.reopen(self.filter.clone()).await {
                        attempt = 0;
                        self.peer.tell_of_all(&accepted).await;
                    }
                },
                ended = async {
                    match &mut self.open {
                        Some(open) => open.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.open = None;
                    tracing::debug!(?ended, "the session's listen ended");
                }
            }
        }
    }

    async fn obey(&mut self, command: Command, supported: &mut bool) {
        let mut filter = self.filter.clone();
        let mut uris = filter.resource_subscriptions.take().unwrap_or_default();
        uris.retain(|uri| *uri != command.uri);
        if command.subscribe {
            uris.push(command.uri.clone());
        }
        if uris.len() > MAX_RESOURCES {
            let message = format!("a session may subscribe to {MAX_RESOURCES} resources at once");
            let _ = command
                .reply
                .send(Some(Err(ErrorData::invalid_params(message, None))));
            return;
        }
        filter.resource_subscriptions = (!uris.is_empty()).then_some(uris);
        self.extensions = command.extensions;
        if is_empty(&filter) {
            (self.filter, self.open) = (filter, None);
            let _ = command.reply.send(Some(Ok(())));
            return;
        }
        let answer = match self.reopen(filter.clone()).await {
            Ok(accepted) if !command.subscribe || subscribes(&accepted, &command.uri) => {
                self.filter = filter;
                Some(Ok(()))
            }
            Ok(_) => {
                let message = format!("the server refused the subscription to {}", command.uri);
                Some(Err(ErrorData::invalid_params(message, None)))
            }
            Err(error) if is_unsupported(&error) => {
                *supported = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        };
        let _ = command.reply.send(answer);
    }

    /// Opens a listen for `filter` and, once it is acknowledged, lets go of the one before.
    async fn reopen(&mut self, filter: SubscriptionFilter) -> Result<SubscriptionFilter, Error> {
        let Some(session) = self.session.upgrade() else {
            return Err(Error::cancelled("the session has ended"));
        };
        let (sender, acknowledged) = oneshot::channel();
        let sink = SessionSink {
            peer: self.peer.clone(),
            acknowledged: Mutex::new(Some(sender)),
        };
        let mut context = CallContext::new(request::next_id());
        context.extensions = self.extensions.clone();
        context.caller = Caller::new(sink)
            .in_session(session)
            .with_handshake(self.peer.peer.peer_info());
        let message =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
        let call = self
            .stack
            .clone()
            .oneshot(McpRequest::from_parts(message.into(), context));
        let mut task = AbortOnDropHandle::new(tokio::spawn(async move {
            call.await.map(|_| ()).map_err(Into::into)
        }));
        tokio::select! {
            biased;
            Ok(accepted) = acknowledged => {
                self.open = Some(task);
                Ok(accepted)
            }
            ended = &mut task => match ended {
                Ok(Ok(())) => Err(Error::cancelled("the listen ended before it was acknowledged")),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::cancelled("the listen was aborted")),
            }
        }
    }
}

fn is_unsupported(error: &Error) -> bool {
    error
        .as_protocol()
        .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
}

fn subscribes(filter: &SubscriptionFilter, uri: &str) -> bool {
    let uris = filter.resource_subscriptions.as_deref().unwrap_or_default();
    uris.iter().any(|accepted| accepted == uri)
}

/// The caller of a session: told of nothing before its handshake is finished.
#[derive(Clone)]
struct SessionPeer {
    peer: Peer<RoleServer>,
    initialized: watch::Receiver<bool>,
}

impl SessionPeer {
    async fn tell(&self, notification: ServerNotification) -> Result<(), Error> {
        let mut initialized = self.initialized.clone();
        if initialized
            .wait_for(|initialized| *initialized)
            .await
            .is_err()
        {
            return Err(Error::cancelled("the session has ended"));
        }
        Caller::from_peer(self.peer.clone())
            .notify(notification)
            .await
    }

    /// What changed while nobody listened is not known, so all of it may have.
    async fn tell_of_all(&self, accepted: &SubscriptionFilter) {
        for change in changes_of(accepted) {
            if self.tell(change).await.is_err() {
                return;
            }
        }
    }
}

fn changes_of(filter: &SubscriptionFilter) -> Vec<ServerNotification> {
    let mut changes = Vec::new();
    if filter.tools_list_changed == Some(true) {
        changes.push(ToolListChangedNotification::default().into());
    }
    if filter.prompts_list_changed == Some(true) {
        changes.push(PromptListChangedNotification::default().into());
    }
    if filter.resources_list_changed == Some(true) {
        changes.push(ResourceListChangedNotification::default().into());
    }
    for uri in filter.resource_subscriptions.iter().flatten() {
        let params = ResourceUpdatedNotificationParam::new(uri);
        changes.push(ResourceUpdatedNotification::new(params).into());
    }
    changes
}

/// The way back for a listen that rmcp has already acknowledged to the caller.
pub(super) fn acknowledged(
    peer: Peer<RoleServer>,
    session: Arc<Session>,
    window: Window,
) -> Caller {
    let handshake = peer.peer_info();
    let sink = AcknowledgedSink {
        peer,
        window: Mutex::new(Some(window)),
    };
    Caller::new(sink)
        .in_session(session)
        .with_handshake(handshake)
}

/// Takes what a listen yields to a caller that opened it.
struct AcknowledgedSink {
    peer: Peer<RoleServer>,
    window: Mutex<Option<Window>>,
}

impl CallerSink for AcknowledgedSink {
    fn notify(&self, notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            else {
                return Caller::from_peer(self.peer.clone())
                    .notify(notification)
                    .await;
            };
            let window = self
                .window
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if !window.is_some_and(|window| window.let_something_through()) {
                return Ok(());
            }
            let id = notice
                .extensions
                .get()
                .and_then(NotificationMetaObject::subscription_id);
            for mut change in changes_of(&notice.params.notifications) {
                if let Some(id) = &id {
                    change.get_meta_mut().set_subscription_id(id.clone());
                }
                Caller::from_peer(self.peer.clone()).notify(change).await?;
            }
            Ok(())
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        takes_no_requests(&request)
    }
}

/// Takes what a listen yields to a caller that knows nothing of it. The acknowledgment stays here.
struct SessionSink {
    peer: SessionPeer,
    acknowledged: Mutex<Option<oneshot::Sender<SubscriptionFilter>>>,
}

impl CallerSink for SessionSink {
    fn notify(&self, mut notification: ServerNotification) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            if let ServerNotification::SubscriptionsAcknowledgedNotification(notice) = notification
            {
                let waiting = self
                    .acknowledged
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take();
                if let Some(waiting) = waiting {
                    let _ = waiting.send(notice.params.notifications);
                }
                return Ok(());
            }
            if let Some(meta) = notification
                .extensions_mut()
                .get_mut::<NotificationMetaObject>()
            {
                meta.remove("io.modelcontextprotocol/subscriptionId");
            }
            self.peer.tell(notification).await
        })
    }

    fn request(&self, request: ServerRequest) -> BoxFuture<'_, Result<ClientResult, Error>> {
        takes_no_requests(&request)
    }
}

fn takes_no_requests(_request: &ServerRequest) -> BoxFuture<'static, Result<ClientResult, Error>> {
    let error = ErrorData::invalid_request("a listen takes no requests from a server", None);
    Box::pin(std::future::ready(Err(error.into())))
}
