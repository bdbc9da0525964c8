use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use reqwest::{Client, Url};
use serde_json::Value;

use super::{Account, answer, client, secure_url};
use crate::{
    ConfigError,
    auth::{AuthError, BearerToken, Credentials, bearer::check_characters, verifier::Secret},
};

/// Time for which a credential is kept if its issuer does not return an expiry.
const UNSAID: Duration = Duration::from_secs(60);
/// Limit of the time for which a credential is kept, whatever its issuer returns.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Exchanges the caller's token for a token of an upstream (RFC 8693). The upstream thereby knows
/// the caller, and a token is never used for a server for which it was not issued.
///
/// Requires the feature `auth-client`.
///
/// Use it with a [`CredentialLayer`](crate::auth::CredentialLayer), inside an
/// [`AuthLayer`](crate::auth::AuthLayer) with
/// [`allow_token_exchange`](crate::auth::AuthLayerBuilder::allow_token_exchange).
///
/// An exchanged token is kept until it expires, at most 1 h. Without `expires_in` it is kept for 60
/// s.
///
/// ```no_run
/// use rmcp_layers::auth::{CredentialLayer, TokenExchange};
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let credentials = TokenExchange::new("https://issuer.example/token")?
///     .client("gateway", "its secret")
///     .resource("https://files.example/mcp")
///     .into_credentials()?;
/// let layer = CredentialLayer::new(credentials);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenExchange(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    endpoint: Url,
    client: Client,
    account: Option<Account>,
    resource: Option<String>,
    audience: Option<String>,
    scope: Option<String>,
}

impl TokenExchange {
    /// Creates an exchange at the authorization server's token endpoint. The URL has to use TLS or
    /// lead to this machine.
    ///
    /// # Errors
    ///
    /// The URL is malformed, it neither uses TLS nor leads to this machine, or it is `https://` and
    /// neither feature `rustls` nor `native-tls` is enabled.
    pub fn new(endpoint: &str) -> Result<Self, ConfigError> {
        let endpoint = secure_url("endpoint", endpoint)?;
        Ok(Self(Arc::new(Inner {
            client: client("endpoint", &endpoint)?,
            endpoint,
            account: None,
            resource: None,
            audience: None,
            scope: None,
        })))
    }

    fn with(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Sets the client credentials of this server at the authorization server (RFC 6749, section
    /// 2.3.1).
    #[must_use]
    pub fn client(self, id: impl Into<String>, secret: impl AsRef<str>) -> Self {
        let account = Account::new(id.into(), secret.as_ref());
        self.with(|inner| inner.account = Some(account))
    }

    /// Sets the URI of the upstream for which the token is requested (RFC 8707).
    #[must_use]
    pub fn resource(self, uri: impl Into<String>) -> Self {
        self.with(|inner| inner.resource = Some(uri.into()))
    }

    /// Sets the name of the upstream for which the token is requested.
    #[must_use]
    pub fn audience(self, name: impl Into<String>) -> Self {
        self.with(|inner| inner.audience = Some(name.into()))
    }

    /// Sets the scopes to ask for, separated by spaces. Default: the authorization server chooses.
    #[must_use]
    pub fn scope(self, scope: impl Into<String>) -> Self {
        self.with(|inner| inner.scope = Some(scope.into()))
    }

    /// Converts the exchange into a source of credentials.
    ///
    /// # Errors
    ///
    /// Neither a resource nor an audience is set. The token could then be valid for any server.
    pub fn into_credentials(self) -> Result<Credentials, ConfigError> {
        if self.0.resource.is_none() && self.0.audience.is_none() {
            let reason = "it is not set, and `audience` is not either; name the upstream by one";
            return Err(ConfigError::new("auth", "resource", reason));
        }
        Ok(Credentials::exchange(self))
    }

    pub(in crate::auth) async fn exchange(self, token: Secret) -> Result<BearerToken, AuthError> {
        const TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";
        let inner = &self.0;
        let mut form = vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", token.reveal()),
            ("subject_token_type", TYPE),
            ("requested_token_type", TYPE),
        ];
        let said = [
            ("resource", &inner.resource),
            ("audience", &inner.audience),
            ("scope", &inner.scope),
        ];
        for (name, value) in said {
            if let Some(value) = value {
                form.push((name, value));
            }
        }
        let mut request = inner.client.post(inner.endpoint.clone()).form(&form);
        if let Some(account) = &inner.account {
            request = account.on(request);
        }
        let answer = answer(request).await?;
        let wrong = |what| AuthError::unavailable(format!("the exchange of tokens: {what}"));
        let issued = answer.get("access_token").and_then(Value::as_str);
        let issued = issued.ok_or_else(|| wrong("there is no `access_token`"))?;
        check_characters(issued).map_err(|_| wrong("the token is none"))?;
        let bearer = answer.get("token_type").and_then(Value::as_str);
        if !bearer.is_some_and(|kind| kind.eq_ignore_ascii_case("bearer")) {
            return Err(wrong("the token is no bearer token"));
        }
        let lasts = match answer.get("expires_in").and_then(Value::as_u64) {
            Some(seconds) => Duration::from_secs(seconds).min(LONGEST),
            None => UNSAID,
        };
        Ok(BearerToken::new(issued).expires_at(SystemTime::now() + lasts))
    }
}

impl fmt::Debug for TokenExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenExchange")
            .field("resource", &self.0.resource)
            .field("audience", &self.0.audience)
            .finish_non_exhaustive()
    }
}
