//! The listen that the top keeps open for a session.

use std::time::Duration;

use rmcp::model::{
    ErrorCode, ErrorData, Extensions, ServerCapabilities, SubscriptionFilter,
    SubscriptionsListenRequest, SubscriptionsListenRequestParams,
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
    CallContext, Error, McpRequest, McpResponse, Refusal, backoff::Backoff, caller::Session, code,
    panics, request,
};

/// How many resources one session may subscribe to.
const MAX_RESOURCES: usize = 1_000;
/// How a listen that ended is opened again.
const REOPEN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
/// How long a listen has to live for the next to be opened as if it were the first. One that is ended
/// sooner is ended by something in the stack (tower's `timeout`), and will be again.
const LONG_LIVED: Duration = Duration::from_secs(60);
/// How long the stack has to acknowledge a listen.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// All changes of lists. Some servers tell of changes that they did not announce.
fn list_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed()
        .build()
}

/// Whether a stack with these capabilities says that it tells of changes.
fn announces(capabilities: &ServerCapabilities) -> bool {
    let (tools, prompts) = (&capabilities.tools, &capabilities.prompts);
    let resources = capabilities.resources.as_ref();
    tools.as_ref().and_then(|tools| tools.list_changed) == Some(true)
        || prompts.as_ref().and_then(|prompts| prompts.list_changed) == Some(true)
        || resources.and_then(|resources| resources.list_changed) == Some(true)
        || resources.and_then(|resources| resources.subscribe) == Some(true)
}

/// A listen. Dropping it lets go of it.
type ListenTask = AbortOnDropHandle<Result<(), Error>>;

pub(super) struct SessionListen<S> {
    stack: S,
    peer: SessionPeer,
    session: std::sync::Weak<Session>,
    extensions: Extensions,
    filter: SubscriptionFilter,
    /// The stack has said that it tells of changes, so that a refusal is not its last word.
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

    /// Opens the first listen, and lets go of the handshake that waits for it, whatever comes of it. False
    /// if the stack knows no listen.
    async fn begin(&mut self, begun: oneshot::Sender<()>) -> bool {
        match self.reopen(self.filter.clone()).await {
            Ok(accepted) => {
                // If the handshake did not wait, something may have changed before this.
                if begun.send(()).is_err() {
                    self.peer.tell_of_all(&accepted).await;
                }
                true
            }
            Err(error) => !is_unsupported(&error) && (self.announced || !error.is_protocol()),
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
            // The listen that was open before goes on as it was.
            Ok((mut told, _task)) => {
                let said = told.refused.0.remove(&command.uri);
                Some(Err(said.unwrap_or_else(|| {
                    let message = format!("the server refused the subscription to {}", command.uri);
                    refused(Refusal::new("server", message).with_code(code::FORBIDDEN))
                })))
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
        let (told, task) = self.open(filter).await?;
        self.keep(task);
        Ok(told.accepted)
    }

    /// Takes this listen in place of the one before.
    fn keep(&mut self, task: ListenTask) {
        (self.open, self.opened) = (Some(task), Instant::now());
    }

    /// Opens a listen for `filter`, beside the one before, and waits until it is acknowledged.
    async fn open(
        &mut self,
        filter: SubscriptionFilter,
    ) -> Result<(Acknowledged, ListenTask), Error> {
        let Some(session) = self.session.upgrade() else {
            return Err(Error::cancelled("the session has ended"));
        };
        let (sender, acknowledged) = oneshot::channel();
        let mut context = CallContext::new(request::next_id());
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

fn is_unsupported(error: &Error) -> bool {
    error
        .as_protocol()
        .is_some_and(|error| error.code == ErrorCode::METHOD_NOT_FOUND)
}

fn subscribes(filter: &SubscriptionFilter, uri: &str) -> bool {
    let uris = filter.resource_subscriptions.as_deref().unwrap_or_default();
    uris.iter().any(|accepted| accepted == uri)
}
