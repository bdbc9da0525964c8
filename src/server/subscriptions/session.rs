//! The listen that the top keeps open for a session.

use rmcp::model::{ErrorData, Extensions, ServerCapabilities, SubscriptionFilter};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt;

use super::{Command, session_peer::SessionPeer};
use crate::{
    CallContext, Error, Refusal, Stack,
    caller::Session,
    code,
    listen::{self, ACKNOWLEDGE_WITHIN, OpenListen, Reopen},
    util::http_head,
};

/// The maximum number of resources to which one session may subscribe.
const MAX_RESOURCES: usize = 1_000;

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
    reopen: Reopen,
    /// The time of the next attempt, while no listen is open.
    retry_at: Instant,
}

impl<S: Stack> SessionListen<S> {
    pub(super) fn new(
        stack: S,
        peer: SessionPeer,
        session: std::sync::Weak<Session>,
        mut extensions: Extensions,
        capabilities: &ServerCapabilities,
    ) -> Self {
        http_head::copy_out(&mut extensions);
        Self {
            stack,
            peer,
            session,
            extensions,
            // Some servers send changes that they did not announce.
            filter: listen::list_changes(),
            announced: announces(capabilities),
            open: None,
            reopen: Reopen::default(),
            retry_at: Instant::now(),
        }
    }

    /// Opens the first listen, and releases the handshake that waits for it, whatever the result.
    /// Returns `false` if the stack does not support listens.
    async fn begin(&mut self, begun: oneshot::Sender<()>) -> bool {
        match self.open_again().await {
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
        // An idle session keeps no room for what it does now and then.
        let mut supported = Box::pin(self.begin(begun)).await;
        loop {
            let wanted = supported && self.open.is_none();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) if supported => {
                        Box::pin(self.apply(command, &mut supported)).await;
                    }
                    Some(command) => drop(command.reply.send(None)),
                    None => return,
                },
                () = tokio::time::sleep_until(self.retry_at), if wanted => {
                    if let Ok(accepted) = Box::pin(self.open_again()).await {
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
                    let error = ended.ok().and_then(Result::err);
                    self.lost(error.as_ref());
                }
            }
        }
    }

    async fn apply(&mut self, command: Command, supported: &mut bool) {
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
        http_head::copy_out(&mut self.extensions);
        let mut missed = None;
        let answer = match self.open(filter.clone()).await {
            Ok(open) if !command.subscribe || subscribes(&open.accepted, &command.uri) => {
                let was_lost = self.open.as_ref().is_none_or(ListenTask::is_finished);
                missed = was_lost.then(|| open.accepted.clone());
                self.keep(open);
                self.filter = filter;
                Some(Ok(()))
            }
            // The previous listen stays open unchanged.
            Ok(mut open) => {
                let said = open.refused.0.remove(&command.uri);
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
        if let Some(accepted) = missed {
            self.peer.tell_of_all(&accepted).await;
        }
    }

    /// Opens a listen for the session's filter, and ends the previous one once the new one is
    /// acknowledged. Returns the accepted part of the filter.
    async fn open_again(&mut self) -> Result<SubscriptionFilter, Error> {
        match self.open(self.filter.clone()).await {
            Ok(open) => {
                let accepted = open.accepted.clone();
                self.keep(open);
                Ok(accepted)
            }
            Err(error) => {
                self.lost(Some(&error));
                Err(error)
            }
        }
    }

    /// Replaces the previous listen with this one.
    fn keep(&mut self, open: OpenListen) {
        self.open = Some(open.spawn());
        self.reopen.opened(Instant::now());
    }

    /// Schedules the next attempt.
    fn lost(&mut self, error: Option<&Error>) {
        self.retry_at = Instant::now() + self.reopen.lost(error);
    }

    /// Opens a listen for `filter` beside the previous one, and waits until it is acknowledged.
    async fn open(&mut self, filter: SubscriptionFilter) -> Result<OpenListen, Error> {
        let Some(session) = self.session.upgrade() else {
            return Err(Error::cancelled("the session has ended"));
        };
        let context = CallContext {
            extensions: self.extensions.clone(),
            caller: self.peer.listening(session),
            ..CallContext::default()
        };
        let stack = self.stack.clone();
        let call = |request| stack.oneshot(request);
        listen::open(filter, context, Some(ACKNOWLEDGE_WITHIN), call).await
    }
}

fn refused(refusal: Refusal) -> ErrorData {
    Error::from(refusal).into()
}

fn subscribes(filter: &SubscriptionFilter, uri: &str) -> bool {
    let uris = filter.resource_subscriptions.as_deref().unwrap_or_default();
    uris.iter().any(|accepted| accepted == uri)
}
