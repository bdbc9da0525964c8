use std::sync::Arc;

use rmcp::model::sha256_digest;

use crate::{CallContext, McpResponse, Principal};

/// The set of callers that may share a response. Layers that store, share or coalesce responses use
/// the audience as a key, so that responses never reach another user.
///
/// - A caller with a [`Principal`] is that principal, whatever its session.
/// - A caller over HTTP without a principal is identified by a digest of its headers, because an
///   inner layer or server may identify it by one of them: `Authorization`, `Cookie`, an API key,
///   or a header that a proxy adds. Headers about the connection, the format or the tracing of a
///   message are left out.
/// - All other callers are one audience, because they cannot be distinguished.
///
/// An inner layer that answers for one caller only calls [`McpResponse::mark_private`]. A store
/// calls [`McpResponse::is_for`] before it keeps a response.
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
    /// All callers.
    Everybody,
    /// Callers without any identifying data.
    Anonymous,
    /// Callers with these headers, by their digest.
    Shown(Arc<str>),
    Principal {
        issuer: Option<Arc<str>>,
        subject: Arc<str>,
    },
}

impl Audience {
    /// Returns the audience of the caller in this context.
    pub fn of(context: &CallContext) -> Self {
        match context.principal() {
            Some(principal) => Self::principal(principal),
            None => Self(shown(context).map_or(Kind::Anonymous, Kind::Shown)),
        }
    }

    /// Returns the audience of this principal.
    pub fn principal(principal: &Principal) -> Self {
        let (issuer, subject) = principal.shared_identity();
        Self(Kind::Principal {
            issuer: issuer.cloned(),
            subject: subject.clone(),
        })
    }

    /// Returns the audience of all callers, for responses that are declared public (`cacheScope:
    /// "public"`, MCP 2026-07-28, SEP-2549). [`of`](Self::of) never returns it.
    pub const fn everybody() -> Self {
        Self(Kind::Everybody)
    }

    /// Returns the audience of callers without a principal and without identifying headers.
    pub const fn anonymous() -> Self {
        Self(Kind::Anonymous)
    }

    /// Returns `true` if this is the audience of a principal.
    pub fn is_principal(&self) -> bool {
        matches!(self.0, Kind::Principal { .. })
    }

    /// Returns bytes that differ between audiences and are equal in every process, as a key in a
    /// shared store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes);
        bytes
    }

    /// Appends the bytes of [`to_bytes`](Self::to_bytes).
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

/// Headers that do not identify the caller, besides MCP's own, which begin with `mcp-`. A missing
/// entry is safe but costs: a header that changes with each request makes each request a separate
/// audience.
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
    // The order of values under one name is significant; the order of names is not.
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

/// The callers that a response is restricted to, in its extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct PrivateTo {
    /// The only principal that may receive the response.
    principal: Option<Principal>,
    /// `true` if no audience may keep the response: it belongs to one session, or to two
    /// principals.
    never_stored: bool,
}

impl PrivateTo {
    fn add(&mut self, principal: &Principal) {
        match &self.principal {
            None => self.principal = Some(principal.clone()),
            Some(other) => self.never_stored |= other.identity() != principal.identity(),
        }
    }

    /// Returns the restriction of a response that is made from both.
    #[cfg(feature = "gateway")]
    pub(crate) fn and(mut self, other: &Self) -> Self {
        if let Some(principal) = &other.principal {
            self.add(principal);
        }
        self.never_stored |= other.never_stored;
        self
    }
}

impl McpResponse {
    /// Returns the restriction of the response, if there is one.
    #[cfg(feature = "gateway")]
    pub(crate) fn private_to(&self) -> Option<&PrivateTo> {
        self.extensions.get()
    }

    /// Restricts the response, because it is made from another one with this restriction.
    #[cfg(feature = "gateway")]
    pub(crate) fn mark_private_to(&mut self, private: &PrivateTo) {
        let own = self.extensions.get_or_insert_default::<PrivateTo>();
        *own = std::mem::take(own).and(private);
    }

    /// Restricts the response to this principal. A layer whose responses depend on the caller (auth, a
    /// filter of lists) calls this. An outer cache, which may not know the caller, then does not keep
    /// the response for others.
    pub fn mark_private(&mut self, principal: &Principal) {
        let private = self.extensions.get_or_insert_default::<PrivateTo>();
        private.add(principal);
    }

    /// Restricts the response to one session of its caller, because its server keeps state by
    /// session. Layers that key responses by caller then neither keep nor share it.
    pub fn mark_session_private(&mut self) {
        self.extensions
            .get_or_insert_default::<PrivateTo>()
            .never_stored = true;
    }

    /// Returns `true` if a store may keep this response under `audience`.
    pub fn is_for(&self, audience: &Audience) -> bool {
        match self.extensions.get::<PrivateTo>() {
            None => true,
            Some(private) => {
                !private.never_stored
                    && private
                        .principal
                        .as_ref()
                        .is_none_or(|principal| Audience::principal(principal) == *audience)
            }
        }
    }
}
