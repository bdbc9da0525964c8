use std::{fmt, sync::Arc};

use rmcp::model::sha256_digest;

use crate::{Audience, CallContext, McpRequest};

/// A function that names the conversation of a request.
pub(super) type ConversationKey = Arc<dyn Fn(&McpRequest) -> Option<String> + Send + Sync>;

/// The conversation that a request belongs to: a principal and a session.
///
/// [`BudgetHandle::conversation_of`](super::BudgetHandle::conversation_of) returns it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Conversation {
    principal: Option<Audience>,
    session: Session,
}

/// The part of a conversation's identity that is not its principal.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Session {
    /// Named by the operator's function.
    Named(Arc<str>),
    /// A session over HTTP, which replicas may serve in turn.
    Http(Arc<str>),
    /// A connection of this process.
    Connection(u64),
    /// A caller in this process, without a connection and a principal.
    Process,
    /// None: all sessions of a principal that have none of their own.
    None,
}

impl Conversation {
    /// Returns the conversation of a request. Returns `None` if no later request can be told to
    /// belong to the same one.
    pub(super) fn of(request: &McpRequest, key: Option<&ConversationKey>) -> Option<Self> {
        let context = &request.context;
        let principal = context.principal().map(Audience::principal);
        let session = match key.and_then(|key| key(request)) {
            Some(name) => Session::Named(name.into()),
            None => Session::of(context, principal.is_some())?,
        };
        Some(Self { principal, session })
    }

    /// Returns text that differs between conversations and is equal in every process that can serve
    /// this one.
    pub(super) fn to_key(&self) -> String {
        let mut bytes = Vec::new();
        match &self.principal {
            Some(principal) => {
                let principal = principal.to_bytes();
                bytes.extend(principal.len().to_be_bytes());
                bytes.extend(principal);
            }
            None => bytes.extend(0_usize.to_be_bytes()),
        }
        self.session.write_to(&mut bytes);
        sha256_digest(&bytes)
    }
}

impl Session {
    fn of(context: &CallContext, has_principal: bool) -> Option<Self> {
        let parts = context.extensions.get::<http::request::Parts>();
        // A request of MCP 2026-07-28 says so, and belongs to no session, whatever its headers say.
        let has_sessions = context.meta.protocol_version().is_none();
        let session = |parts: &http::request::Parts| {
            let session = parts.headers.get("mcp-session-id");
            session.filter(|_| has_sessions).cloned()
        };
        match parts {
            Some(parts) => match session(parts) {
                Some(id) => Some(Self::Http(String::from_utf8_lossy(id.as_bytes()).into())),
                None if has_principal => Some(Self::None),
                // Each request of MCP 2026-07-28 stands by itself.
                None => None,
            },
            None => Some(match context.caller.session_id() {
                Some(session) => Self::Connection(session),
                None if has_principal => Self::None,
                None => Self::Process,
            }),
        }
    }

    fn write_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Named(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name.as_bytes());
            }
            Self::Http(session) => {
                bytes.push(1);
                bytes.extend_from_slice(session.as_bytes());
            }
            Self::Connection(session) => {
                bytes.push(2);
                bytes.extend(process().to_be_bytes());
                bytes.extend(session.to_be_bytes());
            }
            Self::Process => {
                bytes.push(3);
                bytes.extend(process().to_be_bytes());
            }
            Self::None => bytes.push(4),
        }
    }
}

/// Returns a number that differs between processes, whose connections have the same numbers.
fn process() -> u128 {
    static PROCESS: std::sync::OnceLock<u128> = std::sync::OnceLock::new();
    *PROCESS.get_or_init(rand::random)
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The id of a session is a secret of its caller.
        f.debug_tuple("Conversation").field(&self.to_key()).finish()
    }
}

/// The caller that a kept result belongs to: its principal, else its session, else the headers
/// that identify it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Owner(Audience, Option<Session>);

impl Owner {
    pub(super) fn of(context: &CallContext) -> Self {
        Self::in_audience(Audience::of(context), context)
    }

    /// Returns the caller of a context whose audience is known: headers take a while to read.
    pub(super) fn in_audience(audience: Audience, context: &CallContext) -> Self {
        // Without a principal, two sessions may be two users.
        let session = match audience.is_principal() {
            true => None,
            false => Session::of(context, false),
        };
        Self(audience, session)
    }

    /// Returns text that differs between owners and is equal in every process that can serve one.
    pub(super) fn to_key(&self) -> String {
        let mut bytes = self.0.to_bytes();
        if let Some(session) = &self.1 {
            session.write_to(&mut bytes);
        }
        sha256_digest(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ProtocolVersion;

    use super::*;
    use crate::Principal;

    fn over_http(session: Option<&str>, principal: Option<&str>) -> McpRequest {
        let mut head = http::Request::builder();
        if let Some(session) = session {
            head = head.header("mcp-session-id", session);
        }
        let (parts, ()) = head.body(()).unwrap().into_parts();
        let mut request = McpRequest::call_tool("read").build();
        request.context.extensions.insert(parts);
        if let Some(principal) = principal {
            request.context.set_principal(Principal::new(principal));
        }
        request
    }

    #[test]
    fn a_conversation_is_a_principal_in_a_session() {
        let of = |session, principal| Conversation::of(&over_http(session, principal), None);
        assert_eq!(of(Some("1"), Some("ann")), of(Some("1"), Some("ann")));
        assert_ne!(of(Some("1"), Some("ann")), of(Some("1"), Some("ben")));
        assert_ne!(of(Some("1"), Some("ann")), of(Some("2"), Some("ann")));
        assert_ne!(of(None, Some("ann")), of(None, Some("ben")));
        assert_eq!(of(None, None), None);
        assert_ne!(of(Some("1"), None), of(Some("2"), None));
    }

    #[test]
    fn a_caller_without_sessions_names_none_by_a_header() {
        let modern = |session| {
            let mut request = over_http(Some(session), None);
            let version = ProtocolVersion::LATEST.to_string();
            let key = "io.modelcontextprotocol/protocolVersion".to_owned();
            request.context.meta.insert(key, version.into());
            request
        };
        assert_eq!(Conversation::of(&modern("1"), None), None);
        let owner = |session| Owner::of(&modern(session).context).to_key();
        assert_eq!(owner("1"), owner("2"));
    }

    #[test]
    fn a_name_of_the_operator_is_one_of_the_principal() {
        let key: ConversationKey = Arc::new(|_| Some("thread-7".to_owned()));
        let of = |principal| Conversation::of(&over_http(None, principal), Some(&key)).unwrap();
        assert_eq!(of(Some("ann")), of(Some("ann")));
        assert_ne!(of(Some("ann")), of(Some("ben")));
        assert_ne!(of(Some("ann")).to_key(), of(None).to_key());
    }

    #[test]
    fn a_principal_owns_its_results_in_all_of_its_sessions() {
        let of = |session, principal| Owner::of(&over_http(session, principal).context).to_key();
        assert_eq!(of(Some("1"), Some("ann")), of(Some("2"), Some("ann")));
        assert_ne!(of(Some("1"), Some("ann")), of(Some("1"), Some("ben")));
        assert_ne!(of(Some("1"), None), of(Some("2"), None));
        assert_eq!(of(None, None), of(None, None));
    }
}
