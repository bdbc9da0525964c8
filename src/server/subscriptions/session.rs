//! The listen that the top keeps open for a session.

use std::time::Duration;

use rmcp::model::{
    ErrorData, Extensions, ServerCapabilities, SubscriptionFilter, SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tower::{Service, ServiceExt};

use super::{
    Command,
    sinks::{Acknowledged, SessionPeer},
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, Refusal,
    caller::Session,
    code,
    util::{backoff::Backoff, panics},
};

/// The maximum number of resources to which one session may subscribe.
const MAX_RESOURCES: usize = 1_000;
/// The delays before an ended listen is opened again.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// The lifetime after which the next listen is opened as if it were the first. A shorter listen was
/// probably ended by a layer (tower's `timeout`), which will end the next one too.
const LONG_LIVED: Duration = Duration::from_secs(60);
/// The time limit for the stack's acknowledgement of a listen.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// All changes of lists. Some servers send changes that they did not announce.
fn list_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed()
        .build()
}

/// Returns `true` if a stack with these capabilities announces changes.
fn announces(capabilities: &ServerCapabilities) -> bool {
    let (tools, prompts) = (&capabilities.tools, &capabilities.prompts);
    let resources = capabilities.resources.as_ref();
    tools.as_ref().and_then(|tools| tools.list_changed) == Some(true)
        || prompts.as_ref().and_then(|prompts| prompts.list_changed) == Some(true)
        || resources.and_then(|resources| resources.list_changed) == Some(true)
        || resources.and_then(|resources| resources.subscribe) == Some(true)
}

/// A running listen. Dropping it ends the listen.
type ListenTask = AbortOnDropHandle<Result<(), Error>>;

pub(super) struct SessionListen<S> {
    stack: S,
    peer: SessionPeer,
    session: std::sync::Weak<Session>,
    extensions: Extensions,
    filter: SubscriptionFilter,
    /// The stack has announced changes, so a refusal of a listen may be temporary.
    announced: bool,
    open: Option<ListenTask>,
    opened: Instant,
}

impl<S> SessionListen<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    pub(super) fn new(
        stack: S,
        peer: SessionPeer,
        session: std::sync::Weak<Session>,
        extensions: Extensions,
        capabilities: &ServerCapabilities,
    ) -> Self {
        Self {
            stack,
            peer,
            session,
            extensions,
            filter: list_changes(),
            announced: announces(capabilities),
            open: None,
            opened: Instant::now(),
        }
    }

    /// Opens the first listen, and releases the handshake that waits for it, whatever the result.
    /// Returns `false` if the stack does not support listens.
    async fn begin(&mut self, begun: oneshot::Sender<()>) -> bool {
        match self.reopen(self.filter.clone()).await {
            Ok(accepted) => {
                // If the handshake did not wait, something may have changed before the listen
                // began.
                if begun.send(()).is_err() {
                    self.peer.tell_of_all(&accepted).await;
                }
                true
            }
            Err(error) => !error.is_method_not_found() && (self.announced || !error.is_protocol()),
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        begun: oneshot::Sender<()>,
    ) {
        let mut supported = self.begin(begun).await;
        let mut attempt = 0;
        loop {
            let wanted = supported && self.open.is_none();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) if supported => self.obey(command, &mut supported).await,
                    Some(command) => drop(command.reply.send(None)),
                    None => return,
                },
                () = tokio::time::sleep(REOPEN.delay(attempt)), if wanted => {
                    attempt += 1;
                    if let Ok(accepted) = self.reopen(self.filter.clone()).await {
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
                    if self.opened.elapsed() >= LONG_LIVED {
                        attempt = 0;
                    }
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
                .send(Some(Err(refused(Refusal::new("server", message)))));
            return;
        }
        filter.resource_subscriptions = (!uris.is_empty()).then_some(uris);
        self.extensions = command.extensions;
        let answer = match self.open(filter.clone()).await {
            Ok((told, task)) if !command.subscribe || subscribes(&told.accepted, &command.uri) => {
                self.keep(task);
                self.filter = filter;
                Some(Ok(()))
            }
            // The previous listen stays open unchanged.
            Ok((mut told, _task)) => {
                let said = told.refused.0.remove(&command.uri);
                Some(Err(said.unwrap_or_else(|| {
                    let message = format!("the server refused the subscription to {}", command.uri);
                    refused(Refusal::new("server", message).with_code(code::FORBIDDEN))
                })))
            }
            Err(error) if error.is_method_not_found() => {
                *supported = false;
                None
            }
            Err(error) => Some(Err(error.into())),
        };
        let _ = command.reply.send(answer);
    }

    /// Opens a listen for `filter`, and ends the previous one once the new one is acknowledged.
    async fn reopen(&mut self, filter: SubscriptionFilter) -> Result<SubscriptionFilter, Error> {
        let (told, task) = self.open(filter).await?;
        self.keep(task);
        Ok(told.accepted)
    }

    /// Replaces the previous listen with this one.
    fn keep(&mut self, task: ListenTask) {
        (self.open, self.opened) = (Some(task), Instant::now());
    }

    /// Opens a listen for `filter` beside the previous one, and waits until it is acknowledged.
    async fn open(
        &mut self,
        filter: SubscriptionFilter,
    ) -> Result<(Acknowledged, ListenTask), Error> {
        let Some(session) = self.session.upgrade() else {
            return Err(Error::cancelled("the session has ended"));
        };
        let (sender, acknowledged) = oneshot::channel();
        let mut context = CallContext::default();
        context.extensions = self.extensions.clone();
        context.caller = self.peer.listening(sender, session);
        let message =
            SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
        let call = self
            .stack
            .clone()
            .oneshot(McpRequest::from_parts(message.into(), context));
        let mut task = AbortOnDropHandle::new(tokio::spawn(async move {
            panics::caught_call(call).await.map(|_| ())
        }));
        tokio::select! {
            biased;
            Ok(told) = acknowledged => Ok((told, task)),
            ended = &mut task => match ended {
                Ok(Ok(())) => Err(Error::cancelled("the listen ended before it was acknowledged")),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(Error::cancelled("the listen was aborted")),
            },
            () = tokio::time::sleep(ACKNOWLEDGE_WITHIN) => Err(Error::timeout(ACKNOWLEDGE_WITHIN)),
        }
    }
}

fn refused(refusal: Refusal) -> ErrorData {
    Error::from(refusal).into()
}

fn subscribes(filter: &SubscriptionFilter, uri: &str) -> bool {
    let uris = filter.resource_subscriptions.as_deref().unwrap_or_default();
    uris.iter().any(|accepted| accepted == uri)
}
