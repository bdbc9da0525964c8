use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

/// Limit of a JWK set's size in bytes. A hundred RSA keys take 60 KiB.
pub(super) const MAX_JWKS_BYTES: usize = 256 * 1024;

/// Fetches the JSON of a set.
pub(super) type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// The source of an issuer's JWK set (RFC 7517), and how often it is fetched.
///
/// Requires the feature `jwt`.
///
/// The set is fetched when the first token needs it, then [periodically](Self::refresh_every) in
/// the background, and when no key in the set has signed a token. There is at most one fetch at a
/// time, and all tokens that need it wait for the same one. A fetch continues when its caller
/// goes away.
///
/// | Event | Effect |
/// |---|---|
/// | A token names an unknown key, or another key than the set has under the name | The set is fetched, and the token waits for it. If it brings no key under a new name, such tokens cause no other fetch for the [cooldown](Self::cooldown), and wait for the fetch after it. An attacker who invents key ids or signatures can neither raise the rate of fetches nor have tokens with a new key refused |
/// | More than 1,000 tokens wait for the end of a cooldown | Further ones are refused as [unavailable](crate::auth::AuthErrorKind::Unavailable), with the time of the next attempt |
/// | The claims of such a token are invalid | The token is refused at once, without a fetch |
/// | A key is removed from the set | The tokens that it signed are forgotten at once |
/// | The issuer cannot be reached | The keys of the last fetch are used for [`stale_for`](Self::stale_for). After that, and before the first successful fetch, every token is refused as [unavailable](crate::auth::AuthErrorKind::Unavailable) |
/// | The set contains a shared secret, a private key, or a key that is not for signatures | The key is skipped, with a warning |
///
/// ```
/// use std::time::Duration;
/// use rmcp_layers::auth::Jwks;
///
/// let keys = Jwks::file("/etc/keys.json").stale_for(Duration::from_secs(2 * 60 * 60));
/// # let _ = keys;
/// ```
#[derive(Clone)]
pub struct Jwks {
    pub(super) fetch: Fetch,
    pub(super) refresh_every: Duration,
    pub(super) cooldown: Duration,
    pub(super) stale_for: Duration,
}

impl Jwks {
    /// Creates a set that `fetch` returns, for example from a vault or by your own client. Timeout:
    /// 10 s.
    pub fn from_fn<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self::over(Arc::new(move || {
            fetch().map(|set| set.map(String::into_bytes)).boxed()
        }))
    }

    /// Creates a set that is read from a file, and read again as a set at a URL would be. Limit:
    /// 256 KiB.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path: PathBuf = path.into();
        Self::over(Arc::new(move || {
            let path = path.clone();
            async move {
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.unwrap_or_else(|_| Err("the reading was cut off".to_owned()))
            }
            .boxed()
        }))
    }

    /// Creates a set at a URL, which an authorization server's metadata calls `jwks_uri` (RFC 8414,
    /// section 2). The set is fetched by a separate client that does not follow redirects. An
    /// issuer without TLS is accepted only on the loopback interface, because an attacker who can
    /// change the set in transit can issue tokens. Limit: 256 KiB.
    ///
    /// Requires the feature `auth-client`.
    ///
    /// # Errors
    ///
    /// The URL is malformed, it is `http://` and not on the loopback interface, or it is `https://`
    /// and neither feature `rustls` nor `native-tls` is enabled.
    #[cfg(feature = "auth-client")]
    pub fn url(url: &str) -> Result<Self, crate::ConfigError> {
        let url = crate::auth::client::secure_url("url", url)?;
        let client = crate::auth::client::client("url", &url)?;
        Ok(Self::over(Arc::new(move || {
            let request = client.get(url.clone());
            async move { crate::auth::client::body(request, MAX_JWKS_BYTES).await }.boxed()
        })))
    }

    fn over(fetch: Fetch) -> Self {
        Self {
            fetch,
            refresh_every: Duration::from_secs(10 * 60),
            cooldown: Duration::from_secs(5),
            stale_for: Duration::from_secs(60 * 60),
        }
    }

    /// Sets the age at which the set is fetched again in the background. A key that the issuer has
    /// removed is trusted for up to this time. Default: 10 min.
    #[must_use]
    pub fn refresh_every(mut self, time: Duration) -> Self {
        self.refresh_every = time;
        self
    }

    /// Sets the time without fetches for unknown keys, after a fetch that did not bring the unknown
    /// key, or brought it under a name that another key had. Default: 5 s.
    ///
    /// With the default, an issuer that answers is asked at most 12 times a minute, whatever an
    /// attacker sends. A token with a new key waits for at most the cooldown and one fetch. If more
    /// than 10 s of the cooldown are left, tokens with unknown keys are refused instead. A failed
    /// fetch is retried after 1 s, or after the cooldown if that is shorter.
    #[must_use]
    pub fn cooldown(mut self, time: Duration) -> Self {
        self.cooldown = time;
        self
    }

    /// Sets the maximum age of the set while the issuer cannot be reached. After that, every token
    /// is refused as unavailable. Default: 1 h.
    #[must_use]
    pub fn stale_for(mut self, time: Duration) -> Self {
        self.stale_for = time;
        self
    }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let limit = u64::try_from(MAX_JWKS_BYTES).unwrap_or(u64::MAX);
    let mut json = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut json))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    match json.len() > MAX_JWKS_BYTES {
        true => Err(format!("{} has more than 256 KiB", path.display())),
        false => Ok(json),
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks")
            .field("refresh_every", &self.refresh_every)
            .field("cooldown", &self.cooldown)
            .field("stale_for", &self.stale_for)
            .finish_non_exhaustive()
    }
}
