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
    ConfigError,
    auth::{
        AuthError, Verified, Verifier,
        bearer::MAX_TOKEN_BYTES,
        claims::ClaimRules,
        token_cache::{DEFAULT_CAPACITY, TokenCache},
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
/// time](IntrospectionBuilder::time_to_live), in which its revocation is not noticed. An invalid
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
    claim_rules: ClaimRules,
    time_to_live: Option<Duration>,
    token_cache: TokenCache,
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
    time_to_live: Option<Duration>,
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
            time_to_live: Some(Duration::from_secs(30)),
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
        let seen = inner.token_cache.generation();
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
        let verified = inner.claim_rules.check(with_subject(said), now)?;
        if let Some(until) = inner.time_to_live.and_then(|time| now.checked_add(time)) {
            let until = verified.expires_at.map_or(until, |time| until.min(time));
            inner.token_cache.put(token, &verified, until, 0, seen);
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
        self.0.token_cache.get(token, SystemTime::now())
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Introspection")
            .field("claim_rules", &self.0.claim_rules)
            .field("remembered", &self.0.token_cache)
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
    /// this time. `None` asks the server each time. Default: 30 s.
    pub fn time_to_live(mut self, time_to_live: impl Into<Option<Duration>>) -> Self {
        self.time_to_live = time_to_live.into();
        self
    }

    /// Builds the verifier. No request is made yet.
    ///
    /// # Errors
    ///
    /// The URL is malformed, it leads off this machine without TLS, or it is `https://` and neither
    /// feature `rustls` nor `native-tls` is enabled. Also if no audience is set, or both an
    /// audience and `any_audience`.
    pub fn build(self) -> Result<Introspection, ConfigError> {
        let endpoint = secure_url("endpoint", &self.endpoint)?;
        let client = client("endpoint", &endpoint)?;
        if self.audiences.is_empty() != self.any_audience {
            let reason = "name an audience, or accept any by `any_audience`, and not both";
            return Err(ConfigError::new("auth", "audience", reason));
        }
        let claim_rules = ClaimRules {
            issuers: (!self.issuers.is_empty()).then_some(self.issuers),
            audiences: (!self.audiences.is_empty()).then_some(self.audiences),
            // The server's `active` includes the expiry (RFC 7662, section 2.2).
            expires: false,
            ..ClaimRules::default()
        };
        if self.time_to_live.is_some_and(|time| time.is_zero()) {
            let reason = "it is zero; give at least 1 ms, or `None`";
            return Err(ConfigError::new("auth", "time_to_live", reason));
        }
        Ok(Introspection(Arc::new(Inner {
            endpoint,
            client,
            account: self.account,
            claim_rules,
            time_to_live: self.time_to_live,
            token_cache: TokenCache::new(DEFAULT_CAPACITY),
            asked: Semaphore::new(MAX_ASKED),
        })))
    }
}
