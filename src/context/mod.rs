//! The context of a call, and the facts about the call that one layer states and others read.

pub(crate) mod audience;
#[cfg_attr(not(all(feature = "auth", feature = "http-client")), allow(dead_code))]
pub(crate) mod credential;
pub(crate) mod decision;
pub(crate) mod principal;
pub(crate) mod served_by;
pub(crate) mod tool_hints;
pub(crate) mod visibility;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use rmcp::model::{
    ClientCapabilities, ClientNotification, Extensions, Implementation, ProgressToken,
    ProtocolVersion, RequestId, RequestMetaObject,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{Caller, Principal, caller::Era, protocol::Unreadable};

/// The facts of one call beside its message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallContext {
    /// The caller's id for the request. An upstream receives another one.
    pub id: RequestId,
    /// The request's `_meta`, as the caller sent it.
    pub meta: RequestMetaObject,
    /// Facts for inner layers: the HTTP request's parts where rmcp serves HTTP, the [`Principal`]
    /// after authentication, and additions of layers. They are never sent to a server.
    pub extensions: Extensions,
    /// Cancelled when the caller cancels the request or goes away. The stack's future is dropped at
    /// the same moment; the token is for spawned work.
    pub cancellation: CancellationToken,
    /// The caller, as a destination for notifications and requests.
    pub caller: Caller,
    /// The time at which the caller stops waiting, if it is known.
    pub deadline: Option<Instant>,
    /// The notification, if the request carries one. It is kept here so that it survives
    /// [`McpRequest::into_parts`].
    pub(crate) notification: Option<Box<ClientNotification>>,
    /// The reason why the request cannot be read, if the top of the stack has found one.
    pub(crate) unreadable: Option<Arc<Unreadable>>,
}

impl CallContext {
    /// Creates the context of a request with this id: no `_meta`, a [detached](Caller::detached)
    /// caller and no deadline.
    pub fn new(id: RequestId) -> Self {
        Self {
            id,
            meta: RequestMetaObject::new(),
            extensions: Extensions::new(),
            cancellation: CancellationToken::new(),
            caller: Caller::detached(),
            deadline: None,
            notification: None,
            unreadable: None,
        }
    }

    /// Creates the context of a call that a layer makes on its own behalf, such as a health check
    /// or a listen of a cache.
    ///
    /// Such a call has no caller. Its notifications are dropped, and requests of a server are
    /// refused. To receive notifications, [wrap](Caller::wrap) the context's caller. A
    /// [`Caller::new`] in its place would count as a caller, to which an
    /// [`Upstream`](crate::Upstream) sends a server's messages that name no call.
    ///
    /// ```
    /// use rmcp::model::{ClientRequest, DiscoverRequest, ServerNotification};
    /// use rmcp_layers::{CallContext, McpRequest};
    ///
    /// let mut context = CallContext::background();
    /// context.caller = context.caller.filter_map_notifications(|notification| {
    ///     if let ServerNotification::ToolListChangedNotification(_) = notification {
    ///         // Read the list again.
    ///     }
    ///     None
    /// });
    /// let request = McpRequest::from_parts(ClientRequest::from(DiscoverRequest::default()), context);
    /// # let _ = request;
    /// ```
    pub fn background() -> Self {
        Self {
            caller: Caller::detached().quiet(),
            ..Self::default()
        }
    }

    /// Returns the context of a call that a layer makes on its own behalf because of this one, such
    /// as the refresh of a cached response.
    ///
    /// It is a [`background`](Self::background) context for the same principal, session and
    /// handshake, with the `_meta` and the extensions of this one. It has no progress token, no
    /// deadline and its own cancellation token: it may outlive this call.
    #[must_use]
    pub fn to_background(&self) -> Self {
        let mut meta = self.meta.clone();
        meta.shift_remove("progressToken");
        let mut extensions = self.extensions.clone();
        // Facts that layers state about the call belong to its own record.
        extensions.remove::<decision::DecisionSlot>();
        extensions.remove::<served_by::ServedBy>();
        Self {
            meta,
            extensions,
            caller: self.caller.to_background(),
            ..Self::default()
        }
    }

    /// Returns the authenticated caller, if there is one.
    pub fn principal(&self) -> Option<&Principal> {
        self.extensions.get::<Principal>()
    }

    /// Sets the authenticated caller for all inner layers.
    pub fn set_principal(&mut self, principal: Principal) {
        self.extensions.insert(principal);
    }

    /// Returns the token for progress notifications, if the caller asked for them.
    pub fn progress_token(&self) -> Option<ProgressToken> {
        self.meta.get_progress_token()
    }

    /// Returns the revision that the caller speaks, from the request's `_meta` or else from the
    /// handshake.
    pub fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.meta.protocol_version().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.protocol_version.clone())
        })
    }

    /// Returns the generation of the protocol that the caller speaks. A caller without a revision
    /// is in this process.
    pub(crate) fn era(&self) -> Era {
        self.protocol_version()
            .as_ref()
            .map_or(Era::Modern, Era::of)
    }

    /// Returns the caller's capabilities, from the request's `_meta` or else from the handshake.
    pub fn client_capabilities(&self) -> Option<ClientCapabilities> {
        self.meta.client_capabilities().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.capabilities.clone())
        })
    }

    /// Returns the caller's implementation, from the request's `_meta` or else from the handshake.
    pub fn client_info(&self) -> Option<Implementation> {
        self.meta.client_info().or_else(|| {
            let handshake = self.caller.handshake()?;
            Some(handshake.client_info.clone())
        })
    }
}

impl Default for CallContext {
    /// Returns the context of a request that starts in this process, with a fresh id.
    fn default() -> Self {
        Self::new(next_id())
    }
}

/// Marks a request that a layer makes of many servers on its own behalf, in its extensions. A
/// server of a revision before 2026-07-28 is asked only if it declared the capability that the
/// request needs (a list, or log levels), because some servers leave other methods unanswered.
#[cfg_attr(not(feature = "gateway"), allow(dead_code))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnlyDeclared;

/// Returns the id of a request for a record: at most `max` bytes of a string.
#[cfg(any(feature = "audit", feature = "metrics"))]
pub(crate) fn bounded_id(id: &RequestId, max: usize) -> RequestId {
    match id {
        RequestId::String(text) if text.len() > max => {
            RequestId::String(crate::util::text::cut(text, max).into())
        }
        other => other.clone(),
    }
}

/// Returns a new id for a request that starts inside the process.
pub(crate) fn next_id() -> RequestId {
    static NEXT: AtomicI64 = AtomicI64::new(1);
    RequestId::Number(NEXT.fetch_add(1, Ordering::Relaxed))
}
