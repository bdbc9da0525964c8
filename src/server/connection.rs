use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use futures::FutureExt;
use rmcp::{
    RoleServer,
    model::{ErrorData, Extensions, GetMeta, InitializeRequestParams, ServerResult},
    service::{Peer, RequestContext},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Shared, handle};
use crate::{
    CallContext, Caller, Error, Lossless, McpRequest, Stack,
    caller::Session,
    direct::{DirectCalls, DirectRequest, DirectSlot, Handover, OngoingCall},
    protocol,
    util::{lock, panics},
};

/// The stack of one connection, and the connection's session.
pub(super) struct Connection<S> {
    stack: Mutex<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) session: Arc<Session>,
    /// The params of the session's handshake, for calls that the transport begins.
    handshake: OnceLock<Arc<InitializeRequestParams>>,
    /// The connection has served a handshake. rmcp states one of most connections without, too.
    has_session: AtomicBool,
}

impl<S> Connection<S> {
    pub(super) fn new(stack: S, shared: Arc<Shared>) -> Self {
        Self {
            stack: Mutex::new(stack),
            session: Arc::new(Session::within(shared.in_flight.ended())),
            shared,
            handshake: OnceLock::new(),
            has_session: AtomicBool::new(false),
        }
    }

    /// Creates another connection over the same stack.
    pub(super) fn another(&self) -> Self
    where
        S: Clone,
    {
        Self::new(lock(&self.stack).clone(), self.shared.clone())
    }

    /// Records that the connection has served a handshake.
    pub(super) fn begin_session(&self) {
        self.has_session.store(true, Ordering::Release);
    }

    /// Sets the params of a handshake, once.
    pub(super) fn set_handshake(&self, handshake: Arc<InitializeRequestParams>) {
        let _ = self.handshake.set(handshake);
    }
}

impl<S: Stack> Connection<S> {
    /// Makes the stack known to the transport that a message came from, so that the transport may
    /// begin calls itself.
    pub(super) fn open_to_transport(
        self: &Arc<Self>,
        extensions: &Extensions,
        peer: &Peer<RoleServer>,
    ) {
        DirectSlot::register(extensions, || {
            if let Some(handshake) = peer.peer_info() {
                self.set_handshake(handshake);
            }
            self.clone()
        });
    }

    pub(super) fn stack(&self) -> S {
        lock(&self.stack).clone()
    }

    /// Sends a request through a clone of the stack. The stack's future is dropped when
    /// `cancellation` fires.
    pub(super) fn dispatch(
        &self,
        mut request: McpRequest,
    ) -> impl Future<Output = Result<Lossless<ServerResult>, ErrorData>> + Send + use<S> {
        let unreadable = protocol::set_aside(&mut request);
        let cancellation = request.context.cancellation.clone();
        let is_notification = request.as_notification().is_some();
        let entered = match is_notification {
            true => Ok(None),
            false => self
                .shared
                .in_flight
                .enter(&request)
                .map(Some)
                .ok_or_else(handle::closing),
        };
        let ended = self.session.closed().clone();
        let answer = panics::caught_call(self.stack().oneshot(request));
        async move {
            let _in_flight = entered.map_err(Error::from)?;
            tokio::select! {
                biased;
                result = answer => match (result, unreadable) {
                    (Ok(response), None) => Ok(response.into_parts().result),
                    (Err(error), None) => Err(ErrorData::from(error)),
                    (result, Some(unreadable)) => Err(unreadable.answer(result).into()),
                },
                () = cancellation.cancelled() => {
                    Err(Error::cancelled("the caller cancelled the request").into())
                }
                // A notification has a time of its own after the end.
                () = ended.cancelled(), if !is_notification => {
                    Err(Error::from(handle::closing()).into())
                }
            }
        }
    }

    /// Returns the context of a request that rmcp serves.
    pub(super) fn context(&self, context: RequestContext<RoleServer>) -> CallContext {
        let RequestContext {
            ct,
            id,
            meta,
            extensions,
            peer,
            ..
        } = context;
        let caller = Caller::from_peer(peer).in_form_of(&extensions);
        CallContext {
            id,
            meta,
            extensions,
            cancellation: ct,
            caller: caller.in_session(self.session.clone()),
            deadline: None,
            notification: None,
            unreadable: None,
        }
    }
}

impl<S: Stack> DirectCalls for Connection<S> {
    fn has_session(&self) -> bool {
        self.has_session.load(Ordering::Acquire)
    }

    fn begin(self: Arc<Self>, request: DirectRequest) -> OngoingCall {
        self.shared.dispatched.fetch_add(1, Ordering::Relaxed);
        let DirectRequest {
            id,
            mut message,
            method,
            received,
            extensions,
        } = request;
        let meta = std::mem::take(message.get_meta_mut());
        let handover = Arc::new(Handover::default());
        let cancellation = CancellationToken::new();
        let caller = Caller::direct(handover.clone())
            .in_form_of(&extensions)
            .in_session(self.session.clone())
            .with_handshake(self.handshake.get().cloned());
        let context = CallContext {
            id,
            meta,
            extensions,
            cancellation: cancellation.clone(),
            caller,
            deadline: None,
            notification: None,
            unreadable: None,
        };
        let era = context.era();
        let message = received.begin(message);
        let answer = self.dispatch(McpRequest::from_parts(message, context));
        let time_limits = self.shared.time_limits.clone();
        let answer = answer.map(move |answer| {
            // The session lasts as long as the call.
            drop(self);
            answer
        });
        OngoingCall::new(
            answer.boxed(),
            method,
            era,
            handover,
            time_limits,
            cancellation,
        )
    }
}
