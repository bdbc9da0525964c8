use std::{
    fmt,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Either, Shared, ready},
};
use lru::LruCache;
use serde_json::Value;

use super::BearerToken;
use crate::{
    ConfigError, Error, McpRequest, Principal, Refusal,
    auth::{AuthError, bearer::check_characters, verifier::Secret},
    code,
    util::lock,
};

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
pub(in crate::auth) struct CallerToken(Secret);

impl CallerToken {
    pub(in crate::auth) fn new(token: &str) -> Self {
        Self(Secret::new(token))
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
    Exchange(crate::auth::client::TokenExchange),
}

/// The owner of a credential.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    AllCallers,
    Principal(SameClaims),
    /// A caller's token, by its SHA-256.
    #[cfg(feature = "auth-client")]
    Token([u8; 32]),
}

/// A principal with its scopes and claims. The same principal with fewer scopes is not equal.
#[derive(Clone)]
struct SameClaims(Principal);

impl SameClaims {
    /// Returns the claims without those that differ from token to token.
    fn claims(&self) -> impl Iterator<Item = (&String, &Value)> {
        let claims = self.0.claims().iter();
        claims.filter(|(name, _)| !matches!(&***name, "exp" | "nbf" | "iat" | "jti"))
    }
}

impl PartialEq for SameClaims {
    fn eq(&self, other: &Self) -> bool {
        self.0.identity() == other.0.identity()
            && self.0.scopes() == other.0.scopes()
            && self.claims().count() == other.claims().count()
            && self
                .claims()
                .all(|(name, value)| other.0.claims().get(name) == Some(value))
    }
}

impl Eq for SameClaims {}

impl Hash for SameClaims {
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
    /// The token has characters that no bearer token can have.
    pub fn fixed(token: impl AsRef<str>) -> Result<Self, ConfigError> {
        let token = token.as_ref();
        check_characters(token).map_err(|_| {
            let reason = "the token has characters that no token can have; give the token alone";
            ConfigError::new("auth", "fixed", reason)
        })?;
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

    /// Returns the source of these credentials for an HTTP endpoint, which sends them with every
    /// request: its handshake, calls, streams, and the end of its session. In a call through a
    /// [`CredentialLayer`](super::CredentialLayer), the layer's credential is sent instead.
    ///
    /// ```
    /// use rmcp_layers::{HttpEndpoint, auth::{BearerToken, Credentials}};
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let credentials = Credentials::refreshed(async || Ok(BearerToken::new("fetched from a vault")));
    /// let endpoint = HttpEndpoint::new("https://files.example/mcp")
    ///     .bearer_from(credentials.bearer_source()?);
    /// # let _ = endpoint;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The credentials depend on the principal or the token, but all callers share a connection and
    /// its handshake.
    pub fn bearer_source(
        &self,
    ) -> Result<
        impl Fn() -> BoxFuture<'static, Result<String, Error>> + Clone + Send + Sync + 'static,
        ConfigError,
    > {
        let source = match &self.source {
            Source::Fixed(credential) => Either::Left(credential.clone()),
            Source::Shared(fetch) => Either::Right(fetch.clone()),
            _ => {
                return Err(ConfigError::new(
                    "auth",
                    "bearer_source",
                    "the credentials differ between callers, who share the endpoint's \
                     connection; use a CredentialLayer",
                ));
            }
        };
        let credentials = self.clone();
        Ok(move || match &source {
            Either::Left(credential) => ready(Ok(credential.token.reveal().to_owned())).boxed(),
            Either::Right(fetch) => {
                let (credentials, fetch) = (credentials.clone(), fetch.clone());
                async move {
                    let fetched = credentials.fetched(Key::AllCallers, Box::new(move || fetch()));
                    Ok(fetched.await?.token.reveal().to_owned())
                }
                .boxed()
            }
        })
    }

    #[cfg(feature = "auth-client")]
    pub(in crate::auth) fn exchange(exchange: crate::auth::client::TokenExchange) -> Self {
        Self::over(Source::Exchange(exchange))
    }

    fn kept(&self) -> MutexGuard<'_, LruCache<Key, Fetching>> {
        lock(&self.kept)
    }

    pub(super) async fn of(&self, request: &mut McpRequest) -> Result<BearerToken, Error> {
        let caller_token = request.context.extensions.remove::<CallerToken>();
        let (key, fetch): (_, Box<dyn FnOnce() -> BoxFuture<'static, _> + Send>) =
            match &self.source {
                Source::Fixed(credential) => return Ok(credential.clone()),
                Source::Shared(fetch) => {
                    let fetch = fetch.clone();
                    (Key::AllCallers, Box::new(move || fetch()))
                }
                Source::Principal(fetch) => {
                    let principal = request.context.principal().cloned().ok_or_else(|| {
                        misplaced("there is no principal: put the AuthLayer further out")
                    })?;
                    let key = Key::Principal(SameClaims(principal.clone()));
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
                    let fetching = spawn_fetch(fetch).boxed().shared();
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
fn spawn_fetch(
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
