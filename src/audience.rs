use std::sync::Arc;

use rmcp::model::sha256_digest;

use crate::{CallContext, McpResponse, Principal};

/// Who asks, as far as sharing answers is concerned: whatever is stored, shared or coalesced is keyed by it,
/// so that two users never meet.
///
/// A caller with a [`Principal`] is that principal, whatever session it comes from. One without, who comes over
/// HTTP, is known by a digest of its headers, because somebody further in may know it by one of them: by
/// `Authorization` or `Cookie`, by a key, by what a proxy says of it. Headers that are never about who asks, but
/// about the connection, the format or the tracing of a message, are left out. All others are one audience:
/// nothing tells them apart.
///
/// An inner layer that answers one caller only says so by [`McpResponse::mark_private`], and
/// [`McpResponse::is_for`] is what a store asks before it keeps an answer.
///
/// ```
/// use rmcp_layers::{Audience, McpRequest, Principal};
///
/// let ask = |principal: Option<&str>| {
///     let request = McpRequest::call_tool("inbox");
///     match principal {
///         Some(name) => request.principal(Principal::new(name)).build(),
///         None => request.build(),
///     }
/// };
/// let alice = Audience::of(&ask(Some("alice")).context);
/// assert_eq!(alice, Audience::of(&ask(Some("alice")).context));
/// assert_ne!(alice, Audience::of(&ask(Some("bob")).context));
/// assert_ne!(alice, Audience::of(&ask(None).context));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Audience(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Everybody, whoever asks.
    Everybody,
    /// Those of whom nothing is known.
    Anonymous,
    /// Whoever comes with these headers, by their digest.
    Shown(Arc<str>),
    Principal {
        issuer: Option<Arc<str>>,
        subject: Arc<str>,
    },
}

impl Audience {
    /// Who makes this call.
    pub fn of(context: &CallContext) -> Self {
        match context.principal() {
            Some(principal) => Self::principal(principal),
            None => Self(shown(context).map_or(Kind::Anonymous, Kind::Shown)),
        }
    }

    /// This principal.
    pub fn principal(principal: &Principal) -> Self {
        let (issuer, subject) = principal.shared_identity();
        Self(Kind::Principal {
            issuer: issuer.cloned(),
            subject: subject.clone(),
        })
    }

    /// Everybody: for answers that are declared public (`cacheScope: "public"`, MCP 2026-07-28, SEP-2549).
    /// No call is made by everybody.
    pub const fn everybody() -> Self {
        Self(Kind::Everybody)
    }

    /// Callers of whom nothing is known: no principal, and no header that says anything of them.
    pub const fn anonymous() -> Self {
        Self(Kind::Anonymous)
    }

    /// Whether this is a principal.
    pub fn is_principal(&self) -> bool {
        matches!(self.0, Kind::Principal { .. })
    }

    /// Bytes that differ for any two audiences, and are the same in every process: for keys in a shared store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Adds what [`to_bytes`](Self::to_bytes) gives.
    pub(crate) fn write_to(&self, bytes: &mut Vec<u8>) {
        fn part(bytes: &mut Vec<u8>, text: &str) {
            bytes.extend(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        match &self.0 {
            Kind::Everybody => bytes.push(0),
            Kind::Anonymous => bytes.push(1),
            Kind::Shown(digest) => {
                bytes.push(2);
                part(bytes, digest);
            }
            Kind::Principal { issuer, subject } => {
                bytes.push(if issuer.is_some() { 4 } else { 3 });
                part(bytes, issuer.as_deref().unwrap_or_default());
                part(bytes, subject);
            }
        }
    }
}

/// Headers that say nothing of who is calling. One that is not here and is another for each request makes each
/// request a caller of its own: that costs, and is safe. Those that begin with `mcp-` are MCP's own.
const ABOUT_THE_MESSAGE: [&str; 28] = [
    "accept",
    "accept-encoding",
    "b3",
    "baggage",
    "cache-control",
    "cf-ray",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "dnt",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "origin",
    "pragma",
    "priority",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-correlation-id",
    "x-request-id",
];

fn shown(context: &CallContext) -> Option<Arc<str>> {
    let parts = context.extensions.get::<http::request::Parts>()?;
    let mut headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .filter(|(name, _)| !name.starts_with("mcp-"))
        .filter(|(name, _)| ABOUT_THE_MESSAGE.binary_search(name).is_err())
        .collect();
    // The order of values under one name is theirs; that of the names is nobody's.
    headers.sort_by_key(|(name, _)| *name);
    let mut shown = Vec::new();
    for (name, value) in headers {
        for part in [name.as_bytes(), value] {
            shown.extend(part.len().to_be_bytes());
            shown.extend_from_slice(part);
        }
    }
    (!shown.is_empty()).then(|| sha256_digest(&shown).into())
}

/// Whom an answer is for, if not for everybody who asks the same: in a response's extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrivateTo {
    /// This one and nobody else.
    principal: Option<Principal>,
    /// Nobody that a caller's identity tells: it is for one session, or for two principals at once.
    nobody: bool,
}

impl PrivateTo {
    fn add(&mut self, principal: &Principal) {
        match &self.principal {
            None => self.principal = Some(principal.clone()),
            Some(other) => self.nobody |= other.identity() != principal.identity(),
        }
    }

    /// Whom what is made of both is for.
    #[cfg(feature = "gateway")]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        if let Some(principal) = &other.principal {
            self.add(principal);
        }
        self.nobody |= other.nobody;
        self
    }
}

impl McpResponse {
    /// Whom the answer is for, if not for everybody who asks the same.
    #[cfg(feature = "gateway")]
    pub(crate) fn private_to(&self) -> Option<&PrivateTo> {
        self.extensions.get()
    }

    /// Says that the answer is made of another one that is for these.
    #[cfg(feature = "gateway")]
    pub(crate) fn mark_private_to(&mut self, private: &PrivateTo) {
        let own = self.extensions.get_or_insert_default::<PrivateTo>();
        *own = std::mem::take(own).and(private);
    }

    /// Says that the answer is for this principal and nobody else. A layer that decides by who is calling
    /// (auth, a filter of lists) marks what it lets through, so that a cache outside of it, which may not know
    /// the caller, keeps nothing for others.
    pub fn mark_private(&mut self, principal: &Principal) {
        let private = self.extensions.get_or_insert_default::<PrivateTo>();
        private.add(principal);
    }

    /// Says that the answer is for one session of its caller: it comes from a server that keeps state by
    /// session. Nothing that is keyed by caller keeps or shares it.
    pub fn mark_session_private(&mut self) {
        self.extensions.get_or_insert_default::<PrivateTo>().nobody = true;
    }

    /// Whether what is kept under `audience` may include this answer.
    pub fn is_for(&self, audience: &Audience) -> bool {
        match self.extensions.get::<PrivateTo>() {
            None => true,
            Some(private) => {
                !private.nobody
                    && private
                        .principal
                        .as_ref()
                        .is_none_or(|principal| Audience::principal(principal) == *audience)
            }
        }
    }
}
