use std::sync::Arc;

use rmcp::model::sha256_digest;

use crate::{CallContext, McpResponse, Principal};

/// Who asks, as far as sharing answers is concerned: whatever is stored, shared or coalesced is keyed by it,
/// so that two users never meet.
///
/// A caller with a [`Principal`] is that principal, whatever session it comes from. One without, who shows
/// credentials over HTTP (`Authorization`, `Cookie`), is known by a digest of them, because somebody further in
/// may read them. All others are one audience: nothing tells them apart.
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
    /// Whoever shows these credentials, by their digest.
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
        let (issuer, subject) = principal.identity();
        Self(Kind::Principal {
            issuer: issuer.map(Into::into),
            subject: subject.into(),
        })
    }

    /// Everybody: for answers that are declared public (`cacheScope: "public"`, MCP 2026-07-28, SEP-2549).
    /// No call is made by everybody.
    pub const fn everybody() -> Self {
        Self(Kind::Everybody)
    }

    /// Callers of whom nothing is known: no principal, and no credentials over HTTP.
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

/// The headers by which somebody further in may know a caller that has no principal here.
const CREDENTIALS: [http::HeaderName; 2] = [http::header::AUTHORIZATION, http::header::COOKIE];

fn shown(context: &CallContext) -> Option<Arc<str>> {
    let parts = context.extensions.get::<http::request::Parts>()?;
    let mut shown = Vec::new();
    for name in &CREDENTIALS {
        for value in parts.headers.get_all(name) {
            shown.extend_from_slice(name.as_str().as_bytes());
            shown.extend(value.len().to_be_bytes());
            shown.extend_from_slice(value.as_bytes());
        }
    }
    (!shown.is_empty()).then(|| sha256_digest(&shown).into())
}

/// Whom an answer is for, if not for everybody who asks the same: in a response's extensions.
#[derive(Clone, Debug, Default)]
struct PrivateTo {
    /// These and nobody else. Two different ones is nobody.
    principals: Vec<Principal>,
    /// One session of its caller.
    session: bool,
}

impl McpResponse {
    /// Says that the answer is for this principal and nobody else. A layer that decides by who is calling
    /// (auth, a filter of lists) marks what it lets through, so that a cache outside of it, which may not know
    /// the caller, keeps nothing for others.
    pub fn mark_private(&mut self, principal: &Principal) {
        let private = self.extensions.get_or_insert_default::<PrivateTo>();
        let known = |other: &Principal| other.identity() == principal.identity();
        if !private.principals.iter().any(known) {
            private.principals.push(principal.clone());
        }
    }

    /// Says that the answer is for one session of its caller: it comes from a server that keeps state by
    /// session. Nothing that is keyed by caller keeps or shares it.
    pub fn mark_session_private(&mut self) {
        self.extensions.get_or_insert_default::<PrivateTo>().session = true;
    }

    /// Whether what is kept under `audience` may include this answer.
    pub fn is_for(&self, audience: &Audience) -> bool {
        match self.extensions.get::<PrivateTo>() {
            None => true,
            Some(private) => {
                !private.session
                    && private
                        .principals
                        .iter()
                        .all(|principal| Audience::principal(principal) == *audience)
            }
        }
    }
}
