//! Calls that a transport of this crate takes to the stack itself, without rmcp's server loop.
//!
//! rmcp takes a request through several tasks and channels until a stack sees it, and its answer
//! back through as many. A transport may begin a call itself instead, and write the answer. If the
//! call needs more than an answer (a message to its caller, time, or rmcp's own reading of the
//! result), it is handed over: rmcp serves the request as it serves any other, and goes on with the
//! same call.

mod handed_over;
mod handover;
mod ongoing;
mod slot;

use rmcp::model::{ClientRequest, Extensions, GetMeta, ProtocolVersion, RequestId};

pub(crate) use self::{
    handed_over::HandedOver,
    handover::{Handover, TimeLimits},
    ongoing::{DirectOutcome, OngoingCall},
    slot::DirectSlot,
};
use crate::{protocol::methods::Method, wire::received::Received};

/// The stack of one connection, in the view of the connection's transport.
pub(crate) trait DirectCalls: Send + Sync + 'static {
    /// Returns `true` if the connection has begun with a handshake.
    fn has_session(&self) -> bool;

    /// Begins a call.
    fn begin(self: std::sync::Arc<Self>, request: DirectRequest) -> OngoingCall;
}

/// A request on its way to a stack.
pub(crate) struct DirectRequest {
    pub(crate) id: RequestId,
    pub(crate) message: ClientRequest,
    pub(crate) method: Method,
    pub(crate) received: Received,
    /// The extensions of the call's context.
    pub(crate) extensions: Extensions,
}

/// Returns what the transport has put into the extensions of a message: its own, or those of the
/// HTTP request that it came with.
fn from_transport<T: Send + Sync + 'static>(extensions: &Extensions) -> Option<&T> {
    extensions.get::<T>().or_else(|| {
        let head = extensions.get::<http::request::Parts>()?;
        head.extensions.get::<T>()
    })
}

/// Returns the method of a request that can be served directly: rmcp does nothing with it but pass
/// it on.
///
/// `has_session` is `true` if the connection has begun with a handshake. The facts about the client
/// are in each request otherwise.
pub(crate) fn direct_method(request: &ClientRequest, has_session: bool) -> Option<Method> {
    let method = Method::of(request).filter(|method| {
        matches!(
            method,
            Method::CallTool | Method::GetPrompt | Method::ReadResource | Method::Complete
        )
    })?;
    let meta = request.get_meta();
    let fits = match meta.protocol_version() {
        None => has_session,
        // rmcp reads the facts that a caller of this revision has to send.
        Some(version) => {
            !has_session
                && version == ProtocolVersion::V_2026_07_28
                && meta.missing_required_keys(&version).is_empty()
        }
    };
    fits.then_some(method)
}
