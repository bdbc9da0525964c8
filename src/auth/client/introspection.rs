use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use reqwest::{Client, Url};
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::{Account, answer, client, secure_url};
use crate::{
    Error,
    auth::{
        AuthError, Verified, Verifier,
        bearer::MAX_TOKEN_BYTES,
        claims::Expected,
        rules::impossible,
        token_cache::{Memory, REMEMBERED},
    },
};

/// Limit of concurrent requests. Further tokens are refused as unavailable.
const MAX_ASKED: usize = 64;

/// Asks an authorization server about each token (RFC 7662). Use it for opaque tokens, and if a
/// token has to end when it is revoked.
///
/// Requires the feature `auth-client`.
///
/// The response is checked like the claims of a JWT: `active`, `iss` and `aud` if they are set,
/// `exp`, `nbf`, `iat`. A valid token is remembered for a [configurable
/// time](IntrospectionBuilder::remember_for), in which its revocation is not noticed. An invalid
/// token is not remembered. Limit: 64 tokens are asked about at once. Above it, and while the
/// server cannot be reached, tokens are refused as
/// [unavailable](crate::auth::AuthErrorKind::Unavailable).
///
/// ```no_run
/// use rmcp_layers::auth::Introspection;
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let verifier = Introspection::builder("https://issuer.example/introspect")
///     .client("mcp-server", "its secret")
///     .audience("https://mcp.example/mcp")
///     .build()?;
/// # let _ = verifier;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Introspection(Arc<Inner>);

struct Inner {
    endpoint: Url,
    client: Client,
    account: Option<Account>,
    expected: Expected,
    remember_for: Duration,
    memory: Memory,
    asked: Semaphore,
}

/// Builds an [`Introspection`].
///
/// Requires the feature `auth-client`.
#[derive(Debug)]
#[must_use = "call `build` to make the verifier"]
pub struct IntrospectionBuilder {
    endpoint: String,
    account: Option<Account>,
    issuers: Vec<String>,
    audiences: Vec<String>,
    any_audience: bool,
    remember_for: Duration,
}

impl Introspection {
    /// Starts a builder for a verifier that asks this endpoint. The URL has to use TLS or lead to
    /// this machine.
    pub fn builder(endpoint: impl Into<String>) -> IntrospectionBuilder {
        IntrospectionBuilder {
            endpoint: endpoint.into(),
            account: None,
            issuers: Vec::new(),
            audiences: Vec::new(),
            any_audience: false,
            remember_for: Duration::from_secs(30),
        }
    }

    async fn ask(&self, token: &str) -> Result<Verified, AuthError> {
        let inner = &self.0;
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::invalid("the token is too long"));
        }
        let _room = inner.asked.try_acquire().map_err(|_| {
            AuthError::unavailable("too many tokens are asked about")
                .with_retry_after(Duration::from_secs(1))
        })?;
        let seen = inner.memory.generation();
        let form = [("token", token), ("token_type_hint", "access_token")];
        let mut request = inner.client.post(inner.endpoint.clone()).form(&form);
        if let Some(account) = &inner.account {
            request = account.on(request);
        }
        let mut said = answer(request).await.map_err(|error| match error.kind() {
            // The authorization server refused this server, not the token.
            crate::auth::AuthErrorKind::InsufficientScope => {
                AuthError::unavailable(error.reason().to_owned())
            }
            _ => error,
        })?;
        if said.shift_remove("active") != Some(Value::Bool(true)) {
            return Err(AuthError::invalid("the token is not active"));
        }
        let now = SystemTime::now();
        let verified = inner.expected.check(with_subject(said), now)?;
        if let Some(until) = now.checked_add(inner.remember_for) {
            let until = verified.expires_at.map_or(until, |time| until.min(time));
            inner.memory.put(token, &verified, until, 0, seen);
        }
        Ok(verified)
    }
}

/// Some servers omit `sub` in a token that was issued to a client itself. The client id then is the
/// subject.
fn with_subject(mut said: Map<String, Value>) -> Map<String, Value> {
    if !said.contains_key("sub")
        && let Some(client) = said.get("client_id").cloned()
    {
        said.insert("sub".to_owned(), client);
    }
    said
}

impl Verifier for Introspection {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        Box::pin(self.ask(token))
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        self.0.memory.get(token, SystemTime::now())
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("expected", &self.0.expected)
            .field("remembered", &self.0.memory)
            .finish_non_exhaustive()
    }
}

impl IntrospectionBuilder {
    /// Sets the client credentials of this server at the authorization server (RFC 7662, section
    /// 2.1; RFC 6749, section 2.3.1).
    pub fn client(mut self, id: impl Into<String>, secret: impl AsRef<str>) -> Self {
        self.account = Some(Account::new(id.into(), secret.as_ref()));
        self
    }

    /// Adds an accepted issuer, which the response then has to name. Default: the response need not
    /// name an issuer, because it comes from the authorization server itself.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Adds an accepted audience. `aud` has to contain one of the added audiences.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens for any audience. Use this only if the authorization server answers for this
    /// server's tokens alone.
    pub fn any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Sets the time for which a valid token is remembered. A revoked token is accepted for up to
    /// this time. Zero asks the server each time. Default: 30 s.
    pub fn remember_for(mut self, time: Duration) -> Self {
        self.remember_for = time;
        self
    }

    /// Builds the verifier. No request is made yet.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`) if the URL is malformed, if it leads off this machine without TLS, or
    /// if it is `https://` and neither feature `rustls` nor `native-tls` is enabled. Also if no
    /// audience is set, or both an audience and `any_audience`.
    pub fn build(self) -> Result<Introspection, Error> {
        let endpoint = secure_url(&self.endpoint)?;
        let client = client(&endpoint)?;
        if self.audiences.is_empty() != self.any_audience {
            return Err(impossible(
                "name an audience, or take any by `any_audience`, and not both".to_owned(),
            ));
        }
        let expected = Expected {
            issuers: (!self.issuers.is_empty()).then_some(self.issuers),
            audiences: (!self.audiences.is_empty()).then_some(self.audiences),
            // The server's `active` includes the expiry (RFC 7662, section 2.2).
            expires: false,
            ..Expected::default()
        };
        let capacity = if self.remember_for.is_zero() {
            0
        } else {
            REMEMBERED
        };
        Ok(Introspection(Arc::new(Inner {
            endpoint,
            client,
            account: self.account,
            expected,
            remember_for: self.remember_for,
            memory: Memory::new(capacity),
            asked: Semaphore::new(MAX_ASKED),
        })))
    }
}
