use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, GetExtensions, GetMeta, JsonRpcMessage, ProtocolVersion,
    RequestMetaObject,
};

use crate::wire::received::Received;

/// The state of a connection with a client.
#[derive(Debug, Default)]
pub(super) enum Lifecycle {
    /// No request has begun a session. rmcp ends the connection at any other message.
    #[default]
    Opening,
    /// The client has sent `initialize`.
    Session,
    /// Each request declares its client, as the first one with this `_meta` did (since 2026-07-28).
    PerRequest(RequestMetaObject),
}

impl Lifecycle {
    /// Returns `true` if rmcp can take the message in this state.
    ///
    /// A request that cannot be read may not declare its client. It is declared like the first one,
    /// because rmcp refuses the request otherwise, without the reason.
    pub(super) fn admit(&mut self, message: &mut ClientJsonRpcMessage) -> bool {
        let JsonRpcMessage::Request(message) = message else {
            return !matches!(self, Self::Opening);
        };
        let request = &mut message.request;
        match self {
            Self::Opening => self.open(request),
            Self::Session => {}
            Self::PerRequest(declared) => {
                let received = request.extensions().get::<Received>();
                let is_unreadable = received.is_some_and(|it| it.unreadable().is_some());
                if is_unreadable && !is_declared(request.get_meta()) {
                    request.get_meta_mut().extend(declared.clone());
                }
            }
        }
        true
    }

    fn open(&mut self, request: &ClientRequest) {
        match request {
            ClientRequest::InitializeRequest(_) => *self = Self::Session,
            ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => {}
            request if is_declared(request.get_meta()) => {
                let mut declared = RequestMetaObject::new();
                for name in RequestMetaObject::DRAFT_REQUIRED_KEYS {
                    if let Some(value) = request.get_meta().get(name) {
                        declared.insert(name.to_owned(), value.clone());
                    }
                }
                *self = Self::PerRequest(declared);
            }
            _ => {}
        }
    }
}

/// Returns `true` if rmcp serves a request with this `_meta` without a session.
fn is_declared(meta: &RequestMetaObject) -> bool {
    let version = meta.protocol_version();
    version.is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
        && meta
            .missing_required_keys(&ProtocolVersion::V_2026_07_28)
            .is_empty()
}
