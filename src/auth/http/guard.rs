//! What is decided on an HTTP request before it goes on.

use std::{sync::Arc, time::SystemTime};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, HeaderName},
    request::Parts,
};
use rmcp::model::ErrorCode;

use super::{
    layer::{RulesOf, Shared},
    message::{Message, Messages},
    mirror,
    refused::{About, Refused},
    sessions::{Full, Room},
};
use crate::{
    Audience, Principal,
    auth::{
        AuthError, AuthErrorKind, Authenticated, Item, Policy, Rules, Verified, bearer_token,
        no_token_in_query,
    },
};

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Who sent a request, and in which session.
pub(super) struct Known {
    pub(super) verified: Verified,
    pub(super) who: Audience,
    pub(super) session: Session,
    /// Where the request may open one.
    pub(super) room: Option<Room>,
}

/// The scopes that a request lacks, and all that do for it.
struct Denied {
    missing: Vec<String>,
    needed: Vec<String>,
}

/// What a request says of its session.
pub(super) enum Session {
    /// Nothing.
    None,
    /// One of the caller's own.
    Own { id: String, held: Arc<()> },
    /// One that is not, whether another's or nobody's.
    NotOwn,
}

impl Known {
    pub(super) fn principal(&self) -> &Principal {
        &self.verified.principal
    }

    pub(super) fn about(&self) -> About {
        About {
            principal: Some(self.principal().clone()),
            ..About::default()
        }
    }
}

impl Shared {
    /// Finds out who sent a request, takes the token off it, and looks whose session it names.
    pub(super) async fn identify(&self, parts: &mut Parts) -> Result<Known, Box<Refused>> {
        let authenticated = match self.authenticate(parts).await {
            Ok(authenticated) => authenticated,
            Err(error) => return Err(self.refuse(error, About::default())),
        };
        parts.headers.remove(AUTHORIZATION);
        let verified = authenticated.verified().clone();
        parts.extensions.insert(authenticated);
        let who = Audience::principal(&verified.principal);
        let session = self.session(&mut parts.headers, &who);
        Ok(Known {
            verified,
            who,
            session,
            room: None,
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

    /// A session that is not the caller's own gets another id on the way, one that nobody has: so the answer is the
    /// same whether somebody has it or not, because it is the inner service's answer to an unknown id.
    fn session(&self, headers: &mut HeaderMap, who: &Audience) -> Session {
        let mut named = headers.get_all(SESSION_ID).iter();
        let session = match (named.next(), named.next()) {
            (None, _) => Session::None,
            (Some(only), None) => self.own(only, who),
            (Some(_), Some(_)) => Session::NotOwn,
        };
        if let Session::NotOwn = session
            && let Ok(nobodys) = HeaderValue::try_from(format!("{:032x}", rand::random::<u128>()))
        {
            headers.insert(SESSION_ID, nobodys);
        }
        // What a stream had before may only be asked for by who had it. Revision 2026-07-28 has no such thing.
        if !matches!(session, Session::Own { .. }) {
            headers.remove(LAST_EVENT_ID);
        }
        session
    }

    fn own(&self, id: &HeaderValue, who: &Audience) -> Session {
        let Ok(id) = id.to_str() else {
            return Session::NotOwn;
        };
        match self.sessions.hold(id, who) {
            Some(held) => Session::Own {
                id: id.to_owned(),
                held,
            },
            None => Session::NotOwn,
        }
    }

    /// Decides on a body that was read. Says what it is about.
    pub(super) fn decide(
        &self,
        parts: &Parts,
        body: &[u8],
        known: &mut Known,
    ) -> Result<About, Box<Refused>> {
        let mut about = known.about();
        let messages = match Messages::read(body) {
            Ok(messages) => messages,
            // The inner service says what is wrong with what is no JSON.
            Err(error) if !error.is_data() => return Ok(about),
            Err(_) => {
                return Err(Refused::bad(
                    StatusCode::BAD_REQUEST,
                    ErrorCode::INVALID_REQUEST,
                    "the body is no JSON-RPC message",
                    about,
                ));
            }
        };
        if let Some(message) = messages.one() {
            about.say(message);
        }
        if let Err(reason) = mirror::agrees(&parts.headers, &messages) {
            let status = StatusCode::BAD_REQUEST;
            return Err(Refused::bad(
                status,
                ErrorCode::HEADER_MISMATCH,
                reason,
                about,
            ));
        }
        if let Err(denied) = self.check(&messages, known.principal()) {
            return Err(self.lacking(denied, about));
        }
        let opens = about.method.as_deref() == Some("initialize");
        if opens && matches!(known.session, Session::None) {
            match self.sessions.reserve(&known.who) {
                Ok(room) => known.room = Some(room),
                Err(Full) => return Err(Refused::no_room(about)),
            }
        }
        Ok(about)
    }

    /// Asks the rules, where the caller may hear what is forbidden. All that is missing is said at once.
    fn check(&self, messages: &Messages<'_>, principal: &Principal) -> Result<(), Denied> {
        let Some(rules) = self.rules.as_ref().map(RulesOf::now) else {
            return Ok(());
        };
        let mut denied = false;
        let (mut missing, mut needed) = (Vec::new(), Vec::new());
        for message in messages.all() {
            let Some(method) = message.method.as_deref() else {
                continue;
            };
            let required = rules.required(method, message.target());
            if required.are_granted(principal)
                || (!rules.reveals_forbidden() && is_hidden(&rules, message, method, principal))
            {
                continue;
            }
            denied = true;
            let known = |all: &mut Vec<String>, more: Vec<String>| {
                for scope in more {
                    if !all.contains(&scope) {
                        all.push(scope);
                    }
                }
            };
            known(&mut missing, required.missing(principal));
            known(&mut needed, required.needed(principal));
        }
        match denied {
            false => Ok(()),
            true => Err(Denied { missing, needed }),
        }
    }

    /// The refusal of what lacks scopes. The challenge names all that are needed, held or not: a client that asks for
    /// those it names, and no more, would lose the others.
    fn lacking(&self, denied: Denied, about: About) -> Box<Refused> {
        let needed = AuthError::insufficient_scope(denied.needed);
        let challenge = self.challenge(&needed);
        Refused::by(
            AuthError::insufficient_scope(denied.missing),
            challenge,
            about,
        )
    }

    fn challenge(&self, error: &AuthError) -> String {
        let metadata = self
            .resource
            .as_ref()
            .map(super::ProtectedResource::metadata_url);
        error.www_authenticate(metadata, self.realm.as_deref())
    }

    pub(super) fn refuse(&self, error: AuthError, about: About) -> Box<Refused> {
        let mut challenge = self.challenge(&error);
        // What to ask for at first (MCP 2026-07-28, Authorization, "Scope Selection Strategy").
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
        Refused::by(error, challenge, about)
    }

    /// Puts a refusal on record.
    pub(super) async fn record(
        &self,
        verb: &Method,
        refused: &Refused,
        since: tokio::time::Instant,
    ) {
        let Some(audit) = &self.audit else { return };
        let about = &refused.about;
        audit
            .refused_http(crate::auth::audit::RefusedHttp {
                verb,
                method: about.method.as_deref(),
                name: about.name.as_deref(),
                id: about.id.as_ref(),
                principal: about.principal.as_ref(),
                reason: &refused.reason,
                status: refused.status,
                code: refused.code(),
                since,
            })
            .await;
    }
}

/// Whether a message names what this principal is not to know of. `AuthLayer` answers as if nothing had that name.
fn is_hidden(rules: &Rules, message: &Message<'_>, method: &str, principal: &Principal) -> bool {
    let Some(target) = message.target() else {
        return rules.needs_target(method);
    };
    let item = match method {
        "tools/call" => Item::Tool(target),
        "prompts/get" => Item::Prompt(target),
        "completion/complete" => return true,
        _ if rules.needs_target(method) => Item::Resource(target),
        _ => return true,
    };
    !rules.shows(item, principal)
}
