use std::{fmt, future::Future, path::PathBuf, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};

/// How large a JWK set may be, in bytes. A hundred RSA keys have 60 KiB.
pub(super) const MAX_JWKS_BYTES: usize = 256 * 1024;

/// Brings the JSON of a set.
pub(super) type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<Vec<u8>, String>> + Send + Sync>;

/// Where an issuer publishes its keys, as a JWK set (RFC 7517), and how often that is looked at.
///
/// The set is fetched when the first token needs it, again in the background
/// [as often as said](Self::refresh_every), and when a token names a key that is not in it. At most one fetch is
/// under way, and whoever waits for it waits for the same; a fetch goes on when its caller goes away.
///
/// | | |
/// |---|---|
/// | a token names an unknown key | the set is fetched, and the token waits for it. If that does not bring it, unknown keys cause no other fetch for the [cooldown](Self::cooldown), and tokens that name one meanwhile wait for the fetch after it: whoever makes up names can neither make the verifier fetch more often, nor have the tokens of a new key refused |
/// | more than 1,000 tokens wait for the end of a cooldown | the others are refused as [unavailable](crate::auth::AuthErrorKind::Unavailable), with the time at which to come again |
/// | a token names an unknown key, and would be refused by its claims | it is refused at once, and causes no fetch |
/// | a key is gone from the set | what it vouched for is forgotten at once |
/// | the issuer is down | the keys of the last fetch are used for [as long as said](Self::stale_for); after that, and before a first fetch has succeeded, every token is refused as [unavailable](crate::auth::AuthErrorKind::Unavailable) |
/// | a shared secret, a private key, or one that is not for signatures is in the set | it is passed over, with a warning |
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
    /// A set that `fetch` brings: from a vault, or by a client of your own. A fetch has 10 s.
    pub fn from_fn<F, Fut>(fetch: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        Self::over(Arc::new(move || {
            fetch().map(|set| set.map(String::into_bytes)).boxed()
        }))
    }

    /// A set in a file, which is read again as one at a URL would be. At most 256 KiB.
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

    /// A set at a URL: what an authorization server's metadata calls `jwks_uri` (RFC 8414, section 2). It is
    /// fetched over a client of its own, which follows no redirect. Only an issuer on the loopback interface may
    /// be asked without TLS: whoever can change the set on its way can make tokens. At most 256 KiB.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`), if the URL is malformed, or is `http://` and leads off this machine, or is `https://`
    /// and neither feature `rustls` nor `native-tls` is enabled.
    #[cfg(feature = "auth-client")]
    pub fn url(url: &str) -> Result<Self, crate::Error> {
        let url = crate::auth::client::secure_url(url)?;
        let client = crate::auth::client::client(&url)?;
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

    /// How old the set may be before it is fetched again in the background. 10 min by default: so long a key that
    /// the issuer took away is still believed.
    #[must_use]
    pub fn refresh_every(mut self, time: Duration) -> Self {
        self.refresh_every = time;
        self
    }

    /// How long unknown keys cause no fetch after they caused one that did not bring them: 5 s by default, so that an
    /// issuer that answers is asked 12 times a minute at most, whatever an attacker sends, and a token of a new key
    /// waits no longer than that and one fetch. If the rest of it is over 10 s, tokens of unknown keys do not wait for its end,
    /// but are refused. A fetch that failed is tried again after 1 s, or after this if it is shorter.
    #[must_use]
    pub fn cooldown(mut self, time: Duration) -> Self {
        self.cooldown = time;
        self
    }

    /// How old the set may get while the issuer cannot be reached. 1 h by default. Past it, nobody is let in.
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
