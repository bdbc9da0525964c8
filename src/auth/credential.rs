use std::{
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use lru::LruCache;
use serde_json::Value;
use tower::{Layer, Service};

use super::{AuthError, bearer::check_characters, rules::impossible, verifier::Secret};
use crate::{
    Error, McpRequest, McpResponse, Principal, Refusal, code,
    context::credential::OutboundCredential,
};

/// Time before its expiry at which a credential is replaced.
const AHEAD: Duration = Duration::from_secs(30);
/// Timeout of a fetch.
const FETCH_WITHIN: Duration = Duration::from_secs(30);
/// Limit of kept credentials, for example one for each exchanged token (the least recently used is
/// evicted).
const KEPT: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The caller's token, for the token exchange only. The type is private to this module, so no other
/// layer can read it.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "auth-client"),
    expect(dead_code, reason = "the exchange alone reads it")
)]
pub(super) struct CallerToken(Secret);

impl CallerToken {
    pub(super) fn new(token: &str) -> Self {
        Self(Secret::new(token))
    }
}

/// A bearer token for an upstream, with its expiry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BearerToken {
    token: Secret,
    expires_at: Option<SystemTime>,
}

impl BearerToken {
    /// Creates a credential that does not expire.
    pub fn new(token: impl AsRef<str>) -> Self {
        Self {
            token: Secret::new(token.as_ref()),
            expires_at: None,
        }
    }

    /// Sets the expiry. The credential is replaced 30 s before.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        self.expires_at
            .is_none_or(|time| now.checked_add(AHEAD).is_some_and(|ahead| ahead < time))
    }
}

/// The source of the credentials for an upstream.
///
/// | Source | One credential for |
/// |---|---|
/// | [`fixed`](Self::fixed) | all callers |
/// | [`refreshed`](Self::refreshed) | all callers, replaced 30 s before it expires |
/// | [`per_principal`](Self::per_principal) | each principal, with the same scopes and claims |
/// | `TokenExchange` (feature `auth-client`) | each token of a caller (RFC 8693) |
///
/// Fetched credentials are kept until they expire. Limit: 10,000 (the least recently used is
/// evicted). All callers that need the same credential wait for one fetch, which continues when
/// they go away. Timeout of a fetch: 30 s. Failures are not kept.
#[derive(Clone)]
pub struct Credentials {
    source: Source,
    kept: Arc<Mutex<LruCache<Key, Fetching>>>,
}

type Fetching = Shared<BoxFuture<'static, Result<BearerToken, AuthError>>>;

#[derive(Clone)]
enum Source {
    Fixed(BearerToken),
    Shared(Arc<dyn Fn() -> BoxFuture<'static, Result<BearerToken, AuthError>> + Send + Sync>),
    Principal(
        Arc<dyn Fn(Principal) -> BoxFuture<'static, Result<BearerToken, AuthError>> + Send + Sync>,
    ),
    #[cfg(feature = "auth-client")]
    Exchange(super::client::TokenExchange),
}

/// The owner of a credential.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Everybody,
    Principal(Alike),
    /// A caller's token, by its SHA-256.
    #[cfg(feature = "auth-client")]
    Token([u8; 32]),
}

/// A principal with its scopes and claims. The same principal with fewer scopes is not equal.
#[derive(Clone)]
struct Alike(Principal);

impl Alike {
    /// Returns the claims without those that differ from token to token.
    fn claims(&self) -> impl Iterator<Item = (&String, &Value)> {
        let claims = self.0.claims().iter();
        claims.filter(|(name, _)| !matches!(&***name, "exp" | "nbf" | "iat" | "jti"))
    }
}

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity() == other.0.identity()
            && self.0.scopes() == other.0.scopes()
            && self.claims().count() == other.claims().count()
            && self
                .claims()
                .all(|(name, value)| other.0.claims().get(name) == Some(value))
    }
}

impl Eq for Alike {}

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.identity().hash(state);
        self.0.scopes().hash(state);
        // The order of claims is irrelevant.
        let hashed = self.claims().map(|claim| {
            let mut hasher = DefaultHasher::new();
            claim.hash(&mut hasher);
            hasher.finish()
        });
        hashed.fold(0, u64::wrapping_add).hash(state);
    }
}

impl Credentials {
    fn over(source: Source) -> Self {
        Self {
            source,
            kept: Arc::new(Mutex::new(LruCache::new(KEPT))),
        }
    }

    /// Uses this token for all callers.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`) if the token has characters that no bearer token can have.
    pub fn fixed(token: impl AsRef<str>) -> Result<Self, Error> {
        let token = token.as_ref();
        check_characters(token).map_err(|error| impossible(error.reason().to_owned()))?;
        Ok(Self::over(Source::Fixed(BearerToken::new(token))))
    }

    /// Uses the credential that `fetch` returns, for all callers. It is this server's own token,
    /// for example by client credentials (RFC 6749, section 4.4).
    pub fn refreshed<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<BearerToken, AuthError>> + Send + 'static,
    {
        Self::over(Source::Shared(Arc::new(move || fetch().boxed())))
    }

    /// Uses the credential that `fetch` returns for each principal. `fetch` may use all scopes and
    /// claims of the principal. A credential is therefore shared only by tokens with the same
    /// issuer, subject, scopes and claims, except for `exp`, `nbf`, `iat` and `jti` (RFC 7519).
    /// Calls without a principal are refused.
    pub fn per_principal<F, Fut>(fetch: F) -> Self
    where
        F: Fn(Principal) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<BearerToken, AuthError>> + Send + 'static,
    {
        Self::over(Source::Principal(Arc::new(move |principal| {
            fetch(principal).boxed()
        })))
    }

    /// Sends these credentials with every HTTP request to an endpoint: its handshake, calls,
    /// streams, and the end of its session. In a call through a [`CredentialLayer`], the layer's
    /// credential is sent instead.
    ///
    /// Requires the feature `http-client`.
    ///
    /// ```
    /// use rmcp_layers::{HttpEndpoint, auth::{BearerToken, Credentials}};
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let credentials = Credentials::refreshed(async || Ok(BearerToken::new("fetched from a vault")));
    /// let endpoint = credentials.for_endpoint(HttpEndpoint::new("https://files.example/mcp"))?;
    /// # let _ = endpoint;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`) if the credentials depend on the principal or the token, because all
    /// callers share a connection and its handshake.
    #[cfg(feature = "http-client")]
    pub fn for_endpoint(
        &self,
        endpoint: crate::HttpEndpoint,
    ) -> Result<crate::HttpEndpoint, Error> {
        match &self.source {
            Source::Fixed(credential) => Ok(endpoint.bearer(credential.token.reveal())),
            Source::Shared(fetch) => {
                let (credentials, fetch) = (self.clone(), fetch.clone());
                Ok(endpoint.bearer_from(move || {
                    let (credentials, fetch) = (credentials.clone(), fetch.clone());
                    async move {
                        let fetched = credentials.fetched(Key::Everybody, Box::new(move || fetch()));
                        Ok(fetched.await?.token.reveal().to_owned())
                    }
                }))
            }
            _ => Err(impossible(
                "the credentials are not the same for all callers, who share the endpoint's connection: use a \
                 CredentialLayer"
                    .to_owned(),
            )),
        }
    }

    #[cfg(feature = "auth-client")]
    pub(super) fn exchange(exchange: super::client::TokenExchange) -> Self {
        Self::over(Source::Exchange(exchange))
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Key, Fetching>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn of(&self, request: &mut McpRequest) -> Result<BearerToken, Error> {
        let caller_token = request.context.extensions.remove::<CallerToken>();
        let (key, fetch): (_, Box<dyn FnOnce() -> BoxFuture<'static, _> + Send>) =
            match &self.source {
                Source::Fixed(credential) => return Ok(credential.clone()),
                Source::Shared(fetch) => {
                    let fetch = fetch.clone();
                    (Key::Everybody, Box::new(move || fetch()))
                }
                Source::Principal(fetch) => {
                    let principal = request.context.principal().cloned().ok_or_else(|| {
                        misplaced("there is no principal: put the AuthLayer further out")
                    })?;
                    let key = Key::Principal(Alike(principal.clone()));
                    let fetch = fetch.clone();
                    (key, Box::new(move || fetch(principal)))
                }
                #[cfg(feature = "auth-client")]
                Source::Exchange(exchange) => {
                    use sha2::{Digest, Sha256};
                    let Some(CallerToken(token)) = caller_token else {
                        return Err(misplaced(
                            "there is no caller's token to exchange: put an AuthLayer with \
                         `allow_token_exchange(true)` further out, and one exchange between it and \
                         an upstream",
                        ));
                    };
                    let key = Key::Token(Sha256::digest(token.reveal()).into());
                    let exchange = exchange.clone();
                    (key, Box::new(move || exchange.exchange(token).boxed()))
                }
            };
        #[cfg(not(feature = "auth-client"))]
        drop(caller_token);
        self.fetched(key, fetch).await.map_err(Into::into)
    }

    /// Returns the kept or pending credential of the key, otherwise the one that `fetch` returns.
    async fn fetched(
        &self,
        key: Key,
        fetch: Box<dyn FnOnce() -> BoxFuture<'static, Result<BearerToken, AuthError>> + Send>,
    ) -> Result<BearerToken, AuthError> {
        let fetching = {
            let mut kept = self.kept();
            let is_good = |fetching: &Fetching| match fetching.peek() {
                None => true,
                Some(Ok(credential)) => credential.is_fresh(SystemTime::now()),
                Some(Err(_)) => false,
            };
            match kept.get(&key).filter(|fetching| is_good(fetching)) {
                Some(fetching) => fetching.clone(),
                None => {
                    let fetching = apart(fetch).boxed().shared();
                    kept.put(key, fetching.clone());
                    fetching
                }
            }
        };
        fetching.await
    }
}

/// Runs a fetch in its own task. Otherwise a fetch whose waiters have gone away would be resumed
/// much later, and a panic would propagate to every later caller.
fn apart(
    fetch: Box<dyn FnOnce() -> BoxFuture<'static, Result<BearerToken, AuthError>> + Send>,
) -> impl Future<Output = Result<BearerToken, AuthError>> + Send {
    let fetching = async move { fetch().await };
    let task = tokio::spawn(tokio::time::timeout(FETCH_WITHIN, fetching));
    async move {
        match task.await {
            Ok(Ok(fetched)) => fetched,
            Ok(Err(_late)) => Err(AuthError::unavailable(
                "the credential was not fetched in time",
            )),
            Err(_panicked) => Err(AuthError::unavailable(
                "the fetch of the credential panicked",
            )),
        }
    }
}

fn misplaced(message: &'static str) -> Error {
    Refusal::new("auth", message)
        .with_code(code::FORBIDDEN)
        .into()
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Fixed(_) => "fixed",
            Source::Shared(_) => "refreshed",
            Source::Principal(_) => "per principal",
            #[cfg(feature = "auth-client")]
            Source::Exchange(_) => "exchange",
        };
        f.debug_tuple("Credentials").field(&source).finish()
    }
}

/// Sends a separate credential to an upstream over HTTP. Place it directly around the
/// [`Upstream`](crate::Upstream).
///
/// The credential is sent with the HTTP request of that one call, in place of
/// [`HttpEndpoint::bearer`](https://docs.rs/rmcp-layers/latest/rmcp_layers/struct.HttpEndpoint.html#method.bearer),
/// and never with another call's request. Upstreams that are not over HTTP do not get it.
///
/// # Limits
///
/// Requests that do not belong to a call (the handshake, a session's stream and its end) carry the
/// endpoint's own credential. If the credential is the same for all callers,
/// [`Credentials::for_endpoint`] sends it with every request, and this layer is not needed.
/// Credentials of a principal or a token cannot be used there, because all callers share the
/// connection:
///
/// - An upstream that requires a credential for its handshake needs a bearer of this server's own.
/// - A server of a revision before 2026-07-28 that binds sessions to the principal that opened them
///   accepts calls of that principal only.
///
/// In both cases, use one upstream for each caller, such as a gateway's member for each caller.
///
/// ```
/// use rmcp_layers::auth::{CredentialLayer, Credentials};
/// use tower::ServiceBuilder;
/// # use rmcp_layers::Upstream;
/// # struct Nothing;
/// # impl rmcp::ServerHandler for Nothing {}
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// # let upstream = Upstream::in_process(Nothing);
/// let stack = ServiceBuilder::new()
///     .layer(CredentialLayer::new(Credentials::fixed("token-of-this-server")?))
///     .service(upstream);
/// # let _ = stack;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CredentialLayer {
    credentials: Credentials,
}

impl CredentialLayer {
    /// Creates a layer that sends these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials }
    }
}

impl<S> Layer<S> for CredentialLayer {
    type Service = Credential<S>;

    fn layer(&self, inner: S) -> Credential<S> {
        Credential {
            credentials: self.credentials.clone(),
            inner,
        }
    }
}

/// The service of a [`CredentialLayer`].
#[derive(Clone)]
pub struct Credential<S> {
    credentials: Credentials,
    inner: S,
}

impl<S> fmt::Debug for Credential<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Credential<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: McpRequest) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let credentials = self.credentials.clone();
        Box::pin(async move {
            let credential = credentials.of(&mut request).await?;
            let token = credential.token.reveal().to_owned();
            let credential = OutboundCredential::bearer(token);
            request.context.extensions.insert(credential);
            inner.call(request).await.map_err(Into::into)
        })
    }
}
