use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use http::StatusCode;
use serde_json::{Map, Value};

use crate::{Error, Refusal, code};

/// The error for a caller that is not authenticated, or not allowed to make a request.
///
/// A caller receives only the [`Display`](fmt::Display) text, the
/// [challenge](Self::www_authenticate) and the [refusal](Refusal) made from this error. They help
/// an honest client, but do not disclose how close a token came to being valid. The precise
/// [reason](Self::reason) is for logs and the audit record.
///
/// | [`AuthErrorKind`] | HTTP status | JSON-RPC code | `error` (RFC 6750, section 3.1) |
/// |---|---|---|---|
/// | [`MissingToken`](AuthErrorKind::MissingToken) | 401 | -31401 | none (as the RFC requires) |
/// | [`Malformed`](AuthErrorKind::Malformed) | 400 | -31401 | `invalid_request` |
/// | [`Invalid`](AuthErrorKind::Invalid) | 401 | -31401 | `invalid_token` |
/// | [`Expired`](AuthErrorKind::Expired) | 401 | -31401 | `invalid_token` |
/// | [`Unavailable`](AuthErrorKind::Unavailable) | 503 | -31503 | none |
/// | [`InsufficientScope`](AuthErrorKind::InsufficientScope) | 403 | -31403 | `insufficient_scope` |
///
/// ```
/// use rmcp_layers::auth::AuthError;
///
/// let error = AuthError::insufficient_scope(["files:write"]);
/// assert_eq!(
///     error.www_authenticate(None, None),
///     r#"Bearer error="insufficient_scope", scope="files:write""#
/// );
/// ```
#[derive(Clone, Debug)]
pub struct AuthError {
    kind: AuthErrorKind,
    reason: Cow<'static, str>,
    missing: Vec<String>,
    retry_after: Option<Duration>,
}

/// The kinds of [`AuthError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuthErrorKind {
    /// The request has no token.
    MissingToken,
    /// The request sends its token in a way that is not allowed: several tokens, different tokens,
    /// or a token in the query string.
    Malformed,
    /// The token is invalid.
    Invalid,
    /// The token has expired.
    Expired,
    /// The token cannot be verified at the moment, because its verifier is unavailable.
    Unavailable,
    /// The token is valid, but does not allow the request.
    InsufficientScope,
}

impl AuthErrorKind {
    /// Returns the name of the kind, as used in logs and audit records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::Malformed => "malformed",
            Self::Invalid => "invalid_token",
            Self::Expired => "expired_token",
            Self::Unavailable => "unavailable",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

impl fmt::Display for AuthErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AuthError {
    fn new(kind: AuthErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            reason: reason.into(),
            missing: Vec::new(),
            retry_after: None,
        }
    }

    /// Creates the error for a request without a token.
    pub fn missing_token() -> Self {
        Self::new(AuthErrorKind::MissingToken, "there is no token")
    }

    /// Creates the error for a token that was sent in a wrong way. `reason` is for logs and must
    /// not contain the token.
    pub fn malformed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(AuthErrorKind::Malformed, reason)
    }

    /// Creates the error for an invalid token. `reason` is for logs and must not contain the token.
    pub fn invalid(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(AuthErrorKind::Invalid, reason)
    }

    /// Creates the error for an expired token.
    pub fn expired() -> Self {
        Self::new(AuthErrorKind::Expired, "the token has expired")
    }

    /// Creates the error for a token that cannot be verified at the moment. `reason` is for logs.
    pub fn unavailable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(AuthErrorKind::Unavailable, reason)
    }

    /// Creates the error for a token that lacks these scopes. Pass no scopes if none would help.
    pub fn insufficient_scope(missing: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            missing: missing.into_iter().map(Into::into).collect(),
            ..Self::new(AuthErrorKind::InsufficientScope, "a scope is missing")
        }
    }

    /// Sets the reason, for logs.
    #[must_use]
    pub fn with_reason(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.reason = reason.into();
        self
    }

    /// Sets the time after which a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> AuthErrorKind {
        self.kind
    }

    /// Returns the reason, for logs and audit records. It may help an attacker, so do not send it
    /// to callers.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Returns all missing scopes.
    pub fn missing_scopes(&self) -> &[String] {
        &self.missing
    }

    /// Returns the time after which a retry makes sense, if it is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the HTTP status for this error.
    pub fn status(&self) -> StatusCode {
        match self.kind {
            AuthErrorKind::Malformed => StatusCode::BAD_REQUEST,
            AuthErrorKind::MissingToken | AuthErrorKind::Invalid | AuthErrorKind::Expired => {
                StatusCode::UNAUTHORIZED
            }
            AuthErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            AuthErrorKind::InsufficientScope => StatusCode::FORBIDDEN,
        }
    }

    /// Returns the `error` code of RFC 6750, section 3.1. That section defines none for a request
    /// without a token.
    pub fn error_code(&self) -> Option<&'static str> {
        match self.kind {
            AuthErrorKind::MissingToken | AuthErrorKind::Unavailable => None,
            AuthErrorKind::Malformed => Some("invalid_request"),
            AuthErrorKind::Invalid | AuthErrorKind::Expired => Some("invalid_token"),
            AuthErrorKind::InsufficientScope => Some("insufficient_scope"),
        }
    }

    /// Returns the value of the `WWW-Authenticate` header (RFC 6750, section 3).
    /// `resource_metadata` is the URL of the protected resource's metadata (RFC 9728, section 5.1).
    /// `realm` is the parameter of RFC 9110. Characters that a quoted string cannot contain are
    /// omitted.
    pub fn www_authenticate(&self, resource_metadata: Option<&str>, realm: Option<&str>) -> String {
        let scope = (!self.missing.is_empty()).then(|| self.missing.join(" "));
        let parameters = [
            ("realm", realm),
            ("error", self.error_code()),
            ("resource_metadata", resource_metadata),
            ("scope", scope.as_deref()),
        ];
        let mut challenge = String::from("Bearer");
        let mut separator = " ";
        for (name, value) in parameters {
            let Some(value) = value else { continue };
            challenge.push_str(separator);
            challenge.push_str(name);
            challenge.push_str("=\"");
            for character in value.chars() {
                match character {
                    '"' | '\\' => challenge.extend(['\\', character]),
                    ' '..='~' => challenge.push(character),
                    _ => {}
                }
            }
            challenge.push('"');
            separator = ", ";
        }
        challenge
    }
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            AuthErrorKind::MissingToken => f.write_str("a token is needed"),
            AuthErrorKind::Malformed => f.write_str("the request brings its token in a wrong way"),
            AuthErrorKind::Invalid | AuthErrorKind::Expired => f.write_str("invalid token"),
            AuthErrorKind::Unavailable => {
                f.write_str("tokens cannot be verified now; try again later")
            }
            AuthErrorKind::InsufficientScope if self.missing.is_empty() => {
                f.write_str("not allowed")
            }
            AuthErrorKind::InsufficientScope => {
                write!(f, "insufficient scope: needs {}", self.missing.join(" "))
            }
        }
    }
}

impl StdError for AuthError {}

/// The refusal's data contains `reason` (the `error` code of RFC 6750, or `missing_token`,
/// `unavailable`), and `scopes` with all missing scopes.
impl From<AuthError> for Refusal {
    fn from(error: AuthError) -> Self {
        let code = match error.kind {
            AuthErrorKind::Unavailable => code::UNAVAILABLE,
            AuthErrorKind::InsufficientScope => code::FORBIDDEN,
            _ => code::UNAUTHENTICATED,
        };
        let reason = error.error_code().unwrap_or_else(|| error.kind.as_str());
        let mut data = Map::from_iter([("reason".to_owned(), Value::from(reason))]);
        if !error.missing.is_empty() {
            data.insert("scopes".to_owned(), error.missing.clone().into());
        }
        let mut refusal = Self::new("auth", error.to_string())
            .with_code(code)
            .with_data(data.into());
        if let Some(after) = error.retry_after {
            refusal = refusal.with_retry_after(after);
        }
        refusal
    }
}

impl From<AuthError> for Error {
    fn from(error: AuthError) -> Self {
        Refusal::from(error).into()
    }
}
