//! The decision on an HTTP request before it goes on.

use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, HeaderName},
    request::Parts,
};
use rmcp::model::ErrorCode;

use super::{
    layer::Shared,
    message::{Message, Unreadable},
    mirror,
    refused::{Refused, RequestFacts},
    sessions::{LimitReached, Reservation},
};
use crate::{
    Audience, Decision, HttpRefusal, Principal,
    auth::{
        AuthError, AuthErrorKind, Authenticated, Item, Policy, Rules, Verified, bearer_token,
        no_token_in_query,
    },
    protocol::target::TargetKind,
};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The sender of a request, and its session.
pub(super) struct Sender {
    pub(super) verified: Verified,
    pub(super) audience: Audience,
    pub(super) session: Session,
    /// The reserved place, if the request may open a session.
    pub(super) reservation: Option<Reservation>,
}

/// The scopes that a request lacks, and a set of scopes that suffices for it.
struct MissingScopes {
    missing: Vec<String>,
    needed: Vec<String>,
}

/// The session that a request names.
pub(super) enum Session {
    /// The request names no session.
    None,
    /// A session of the caller.
    Own { id: String, held: Arc<()> },
    /// A session of another caller, or an unknown one.
    NotOwn,
}

impl Sender {
    pub(super) fn principal(&self) -> &Principal {
        &self.verified.principal
    }

    pub(super) fn facts(&self) -> RequestFacts {
        RequestFacts {
            principal: Some(self.principal().clone()),
            ..RequestFacts::default()
        }
    }
}

impl Shared {
    /// Identifies the sender of a request, removes the token, and checks the owner of the session.
    pub(super) async fn identify(&self, parts: &mut Parts) -> Result<Sender, Box<Refused>> {
        let authenticated = match self.authenticate(parts).await {
            Ok(authenticated) => authenticated,
            Err(error) => return Err(self.refuse(error, RequestFacts::default())),
        };
        parts.headers.remove(AUTHORIZATION);
        let verified = authenticated.verified().clone();
        parts.extensions.insert(authenticated);
        let audience = Audience::principal(&verified.principal);
        let session = self.session(&mut parts.headers, &audience);
        Ok(Sender {
            verified,
            audience,
            session,
            reservation: None,
        })
    }

    async fn authenticate(&self, parts: &Parts) -> Result<Authenticated, AuthError> {
        no_token_in_query(&parts.uri)?;
        let token = bearer_token(&parts.headers)?.ok_or_else(AuthError::missing_token)?;
        if token.len() > self.max_token {
            return Err(AuthError::invalid("the token is too long"));
        }
        let verified = match self.verifier.remembered(token) {
            Some(verified) => verified,
            None => self.verifier.verify(token).await?,
        };
        if verified
            .expires_at
            .is_some_and(|time| time <= SystemTime::now())
        {
            return Err(AuthError::expired());
        }
        Ok(Authenticated::new(verified, token))
    }

    /// Replaces the id of a session that is not the caller's own by an unknown one. The response is
    /// then the inner service's response to an unknown id, whether the session exists or not.
    fn session(&self, headers: &mut HeaderMap, audience: &Audience) -> Session {
        let mut named = headers.get_all(SESSION_ID).iter();
        let session = match (named.next(), named.next()) {
            (None, _) => Session::None,
            (Some(only), None) => self.own(only, audience),
            (Some(_), Some(_)) => Session::NotOwn,
        };
        if let Session::NotOwn = session
            && let Ok(unknown) = HeaderValue::try_from(format!("{:032x}", rand::random::<u128>()))
        {
            headers.insert(SESSION_ID, unknown);
        }
        // Only the owner of a session may ask for past events of a stream. Revision 2026-07-28 does
        // not have this header.
        if !matches!(session, Session::Own { .. }) {
            headers.remove(LAST_EVENT_ID);
        }
        session
    }

    fn own(&self, id: &HeaderValue, audience: &Audience) -> Session {
        let Ok(id) = id.to_str() else {
            return Session::NotOwn;
        };
        match self.sessions.hold(id, audience) {
            Some(held) => Session::Own {
                id: id.to_owned(),
                held,
            },
            None => Session::NotOwn,
        }
    }

    /// Decides on a body that was read. Returns its method, target and id.
    pub(super) fn decide(
        &self,
        parts: &Parts,
        body: &Bytes,
        sender: &mut Sender,
    ) -> Result<RequestFacts, Box<Refused>> {
        let mut facts = sender.facts();
        let message = match Message::of(parts, body) {
            Ok(message) => message,
            Err(Unreadable::Answered) => return Ok(facts),
            Err(Unreadable::Refused(error)) => return Err(Refused::unreadable(*error, facts)),
        };
        facts.set_message(&message);
        if let Err(reason) = mirror::agrees(&parts.headers, &message) {
            let status = StatusCode::BAD_REQUEST;
            return Err(Refused::bad(
                status,
                ErrorCode::HEADER_MISMATCH,
                reason,
                facts,
            ));
        }
        if let Err(denied) = self.check(&message, sender.principal()) {
            return Err(self.lacking(denied, facts));
        }
        let opens = facts.method.as_deref() == Some("initialize");
        if opens && matches!(sender.session, Session::None) {
            match self.sessions.reserve(&sender.audience) {
                Ok(reservation) => sender.reservation = Some(reservation),
                Err(LimitReached) => return Err(Refused::no_room(facts)),
            }
        }
        Ok(facts)
    }

    /// Applies the rules if the caller may learn about forbidden names. All missing scopes are
    /// returned at once.
    fn check(&self, message: &Message, principal: &Principal) -> Result<(), MissingScopes> {
        let (Some(rules), Some(method)) = (&self.rules, message.method.as_deref()) else {
            return Ok(());
        };
        let rules = rules.now();
        let required = rules.required(method, message.target.as_deref());
        if required.are_granted(principal)
            || (!rules.reveals_forbidden() && is_hidden(&rules, message, method, principal))
        {
            return Ok(());
        }
        Err(MissingScopes {
            missing: required.missing(principal),
            needed: required.needed(principal),
        })
    }

    /// Builds the refusal of a request that lacks scopes. The challenge names all needed scopes,
    /// including those already granted: a client that asks only for the named scopes would lose the
    /// others.
    fn lacking(&self, denied: MissingScopes, facts: RequestFacts) -> Box<Refused> {
        let needed = AuthError::insufficient_scope(denied.needed);
        let challenge = self.challenge(&needed);
        Refused::by(
            AuthError::insufficient_scope(denied.missing),
            challenge,
            facts,
        )
    }

    fn challenge(&self, error: &AuthError) -> String {
        let metadata = self
            .resource
            .as_ref()
            .map(super::ProtectedResource::metadata_url);
        error.www_authenticate(metadata, self.realm.as_deref())
    }

    pub(super) fn refuse(&self, error: AuthError, facts: RequestFacts) -> Box<Refused> {
        let mut challenge = self.challenge(&error);
        // The scopes to ask for at first (MCP 2026-07-28, Authorization, "Scope Selection
        // Strategy").
        let asks = matches!(
            error.kind(),
            AuthErrorKind::MissingToken | AuthErrorKind::Invalid | AuthErrorKind::Expired
        );
        if let Some(resource) = &self.resource
            && asks
            && !resource.scopes().is_empty()
        {
            challenge.push_str(", scope=\"");
            challenge.push_str(&resource.scopes().join(" "));
            challenge.push('"');
        }
        Refused::by(error, challenge, facts)
    }

    /// Counts a refused request, and passes it to its receiver.
    pub(super) async fn report(
        &self,
        http_method: &Method,
        refused: &Refused,
        since: tokio::time::Instant,
    ) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let Some(receiver) = &self.on_refusal else {
            return;
        };
        let facts = &refused.facts;
        let (status, code) = (refused.status, refused.code());
        let mut refusal = HttpRefusal::new("auth", http_method, status, code, &refused.reason);
        refusal.method = facts.method.as_deref();
        refusal.name = facts.name.as_deref();
        refusal.id = facts.id.as_ref();
        refusal.principal = facts.principal.as_ref();
        refusal.decision = match facts.principal {
            Some(_) => Decision::Denied,
            None => Decision::Unauthenticated,
        };
        refusal.since = since;
        receiver.on_http_refusal(refusal).await;
    }
}

/// Returns `true` if a message names an item that is hidden from this principal. `AuthLayer`
/// answers as if the name did not exist.
fn is_hidden(rules: &Rules, message: &Message, method: &str, principal: &Principal) -> bool {
    let Some(target) = message.target.as_deref() else {
        return rules.needs_target(method);
    };
    let item = match message.target_kind() {
        Some(TargetKind::Tool) => Item::Tool(target),
        Some(TargetKind::Prompt) => Item::Prompt(target),
        Some(TargetKind::Resource | TargetKind::Skill) => Item::Resource(target),
        Some(TargetKind::Task | TargetKind::Reference) | None => return true,
    };
    !rules.shows(item, principal)
}
