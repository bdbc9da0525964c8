//! Reads a request's token from its sources and removes it.

use std::{fmt, sync::Arc};

use http::{HeaderValue, header::AUTHORIZATION, request::Parts};
use rmcp::{RoleServer, model::Extensions, service::NotificationContext};
use serde_json::Value;

use super::{
    AuthError, Authenticated,
    bearer::{check_characters, no_token_in_query},
    verifier::Secret,
};
use crate::McpRequest;

/// The key in a request's `_meta` for the caller's token, for transports without headers such as
/// stdio. The value is a string that contains only the token. It is removed before the request goes
/// on.
pub const TOKEN_META_KEY: &str = "rmcp-layers/token";

type Function = Arc<dyn Fn(&McpRequest) -> Option<String> + Send + Sync>;

/// The sources of tokens.
#[derive(Clone)]
pub(super) struct TokenSources {
    pub(super) http: bool,
    pub(super) meta: bool,
    /// The token of a whole session that is not over HTTP.
    pub(super) session: Option<Secret>,
    pub(super) function: Option<Function>,
}

impl Default for TokenSources {
    fn default() -> Self {
        Self {
            http: true,
            meta: true,
            session: None,
            function: None,
        }
    }
}

/// The credentials that a request contained.
pub(super) enum PresentedToken {
    Nothing,
    Token(Token),
    /// The HTTP companion has already verified the token.
    Authenticated(Authenticated),
}

/// A token, in the form in which it was found.
pub(super) enum Token {
    /// A header value, and the offset of the token in it.
    Header(HeaderValue, usize),
    Text(String),
    Session(Secret),
}

impl Token {
    /// # Errors
    ///
    /// The token is not UTF-8.
    pub(super) fn as_str(&self) -> Result<&str, AuthError> {
        match self {
            Self::Header(value, start) => std::str::from_utf8(&value.as_bytes()[*start..])
                .map_err(|_| AuthError::invalid("the token is not UTF-8")),
            Self::Text(text) => Ok(text),
            Self::Session(secret) => Ok(secret.reveal()),
        }
    }

    /// Checks that the token has only allowed characters. A remembered token need not be checked.
    pub(super) fn check(&self) -> Result<(), AuthError> {
        check_characters(self.as_str()?)
    }
}

/// All credentials that were removed from a request.
#[derive(Default)]
struct RemovedTokens {
    header: Option<HeaderValue>,
    /// `true` if there are several `Authorization` headers.
    several: bool,
    meta: Option<Value>,
    authenticated: Option<Authenticated>,
    in_query: Option<AuthError>,
    is_http: bool,
}

impl TokenSources {
    /// Removes the token from all sources of a request, including the ones that are disabled.
    pub(super) fn remove_tokens(
        &self,
        request: &mut McpRequest,
    ) -> Result<PresentedToken, AuthError> {
        let by_function = self
            .function
            .as_ref()
            .and_then(|function| function(request));
        let is_notification = request.as_notification().is_some();
        let context = &mut request.context;
        let mut removed = RemovedTokens {
            meta: context.meta.shift_remove(TOKEN_META_KEY),
            ..RemovedTokens::default()
        };
        removed.strip_http(&mut context.extensions);
        if is_notification
            && let Some(notice) = context
                .extensions
                .get_mut::<NotificationContext<RoleServer>>()
        {
            // rmcp keeps its own copies of both.
            notice.meta.shift_remove(TOKEN_META_KEY);
            RemovedTokens::default().strip_http(&mut notice.extensions);
        }
        self.judge(removed, by_function)
    }

    fn judge(
        &self,
        removed: RemovedTokens,
        by_function: Option<String>,
    ) -> Result<PresentedToken, AuthError> {
        if let Some(error) = removed.in_query {
            return Err(error);
        }
        let mut presented = match (removed.authenticated, self.http) {
            (Some(authenticated), true) => PresentedToken::Authenticated(authenticated),
            _ => PresentedToken::Nothing,
        };
        if self.http {
            if removed.several {
                return Err(AuthError::malformed("several Authorization headers"));
            }
            if let Some(token) = removed.header.and_then(bearer) {
                presented = presented.and(token)?;
            }
        }
        match removed.meta {
            Some(Value::String(token)) if self.meta => {
                presented = presented.and(Token::Text(token))?
            }
            Some(_) if self.meta => {
                return Err(AuthError::malformed("the token in `_meta` is no string"));
            }
            _ => {}
        }
        if let Some(token) = by_function {
            presented = presented.and(Token::Text(token))?;
        }
        match &self.session {
            Some(token) if !removed.is_http => presented.and(Token::Session(token.clone())),
            _ => Ok(presented),
        }
    }
}

impl PresentedToken {
    /// Combines two sources. Different tokens are refused, because it is unknown which one is
    /// meant.
    fn and(self, other: Token) -> Result<Self, AuthError> {
        let same = match &self {
            Self::Nothing => return Ok(Self::Token(other)),
            Self::Token(token) => token.as_str()? == other.as_str()?,
            Self::Authenticated(authenticated) => authenticated.is_by(other.as_str()?),
        };
        match same {
            true => Ok(self),
            false => Err(AuthError::malformed("two tokens that differ")),
        }
    }
}

impl RemovedTokens {
    fn strip_http(&mut self, extensions: &mut Extensions) {
        let Some(parts) = extensions.get_mut::<Parts>() else {
            return;
        };
        self.is_http = true;
        self.in_query = no_token_in_query(&parts.uri).err();
        self.authenticated = parts.extensions.remove::<Authenticated>();
        if let http::header::Entry::Occupied(entry) = parts.headers.entry(AUTHORIZATION) {
            let (_, mut values) = entry.remove_entry_mult();
            self.header = values.next();
            self.several = values.next().is_some();
        }
    }
}

/// Returns the token of an `Authorization` header with the scheme `Bearer`; see
/// [`bearer_token`](super::bearer_token).
fn bearer(value: HeaderValue) -> Option<Token> {
    let bytes = value.as_bytes();
    let (scheme, rest) = bytes.split_at_checked(6)?;
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && spaces > 0;
    (is_bearer && rest.len() > spaces).then_some(Token::Header(value, 6 + spaces))
}

impl fmt::Debug for TokenSources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSources")
            .field("http", &self.http)
            .field("meta", &self.meta)
            .field("session", &self.session)
            .field("function", &self.function.is_some())
            .finish()
    }
}
