//! Verification of signed tokens.

mod builder;
mod jwks;
mod jwks_refresh;
mod keys;
mod parse;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::{BoxFuture, ready};
use jsonwebtoken::Algorithm;

pub use builder::JwtVerifierBuilder;
pub use jwks::Jwks;

use self::{
    jwks_refresh::JwksRefresh,
    keys::{KeySet, Signed},
    parse::{Compact, Types},
};
use super::{AuthError, Verified, Verifier, claims::ClaimRules, token_cache::TokenCache};

/// Time for which a token without an expiry is remembered before it is verified again.
const WITHOUT_EXPIRY: Duration = Duration::from_secs(5 * 60);

/// Returns the current time.
pub(super) type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Verifies JSON Web Tokens (RFC 7519) by the rules of RFC 8725.
///
/// Requires the feature `jwt`.
///
/// | Subject | Rule |
/// |---|---|
/// | Keys | secrets (HS256, HS384, HS512), PEM (RS*, PS*, ES256, ES384, EdDSA), and a JWK set inline, in a file or at a URL; see [`Jwks`] |
/// | Algorithms | those of the key's type, limited to the [allowed](JwtVerifierBuilder::algorithms) ones: an RSA key is never used as an HMAC secret, and `none` is refused |
/// | `exp`, `iss`, `aud` | required, unless [waived](JwtVerifierBuilder::any_audience) |
/// | `exp`, `nbf`, `iat` | checked with a [leeway](JwtVerifierBuilder::leeway). Default: 30 s |
/// | Header | never used to find a key: `jku`, `x5u`, `jwk`, `x5c`, `crit`, `b64`, `enc` and `zip` are refused, and so is a `typ` other than `JWT` and `at+jwt` |
/// | Form | at most 8 KiB; base64url without padding and in canonical form; UTF-8; no member of an object twice |
/// | Scopes | `scope` (a string, RFC 8693, or an array), otherwise `scp` |
///
/// A valid token is remembered until it expires, or for 5 min if it does not expire. It is stored
/// as a keyed hash, not in clear. Limit: 10,000 tokens (the least recently used is evicted).
/// Verifying a remembered token costs a lookup. When a key leaves the set, the tokens that it
/// signed are forgotten.
///
/// The caller of a refused token receives `invalid token` without details. The cause is in the
/// [reason](AuthError::reason).
///
/// ```
/// use rmcp_layers::auth::{JwtVerifier, Verifier};
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let verifier = JwtVerifier::builder()
///     .secret("a secret of at least thirty-two bytes, from a vault")
///     .issuer("https://issuer.example")
///     .audience("https://mcp.example/mcp")
///     .build()?;
/// # let _ = verifier;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JwtVerifier(Arc<Inner>);

struct Inner {
    fixed: Arc<KeySet>,
    refresh: Option<Arc<JwksRefresh>>,
    algorithms: Option<Vec<Algorithm>>,
    claim_rules: ClaimRules,
    types: Types,
    max_bytes: usize,
    token_cache: Arc<TokenCache>,
    clock: Clock,
}

impl JwtVerifier {
    /// Starts a builder. A verifier needs at least a key, an issuer and an audience.
    pub fn builder() -> JwtVerifierBuilder {
        JwtVerifierBuilder::default()
    }

    /// Verifies a token as far as this is possible without fetching a JWK set.
    fn verify_now<'a>(&self, token: &'a str) -> Result<Verified, NotVerified<'a>> {
        let inner = &self.0;
        if token.len() > inner.max_bytes {
            return Err(AuthError::invalid("the token is too long").into());
        }
        let seen = inner.token_cache.generation();
        let compact = Compact::parse(token, inner.types)?;
        if let Some(allowed) = &inner.algorithms
            && !allowed.contains(&compact.algorithm)
        {
            return Err(AuthError::invalid("an algorithm that is not allowed").into());
        }
        match inner.fixed.verify(&compact) {
            Signed::By(key) => Ok(self.accept(token, &compact, key, seen)?),
            _ if inner.refresh.is_some() => Err(NotVerified::AskSet(Box::new(compact))),
            _ => Err(AuthError::invalid("no key has signed the token").into()),
        }
    }

    async fn verify_by_set(
        &self,
        refresh: &Arc<JwksRefresh>,
        token: &str,
        compact: Box<Compact<'_>>,
    ) -> Result<Verified, AuthError> {
        let (arrived, kid) = (refresh.arrived(), compact.kid.as_deref());
        for _ in 0..3 {
            let seen = self.0.token_cache.generation();
            let snapshot = refresh.snapshot().await?;
            match snapshot.keys.verify(&compact) {
                Signed::By(key) => return self.accept(token, &compact, key, seen),
                // A token with invalid claims is refused whichever key has signed it.
                Signed::Unknown if self.check(&compact).is_err() => break,
                Signed::Unknown if refresh.look_again(&snapshot, arrived, kid).await? => {}
                Signed::Unknown => break,
            }
        }
        Err(AuthError::invalid("no key of the set has signed the token"))
    }

    /// Checks the claims of a token whose signature is valid, and remembers the token.
    fn accept(
        &self,
        token: &str,
        compact: &Compact<'_>,
        key: u64,
        seen: super::token_cache::Generation,
    ) -> Result<Verified, AuthError> {
        let (verified, now) = self.check(compact)?;
        let until = verified
            .expires_at
            .or_else(|| now.checked_add(WITHOUT_EXPIRY));
        if let Some(until) = until {
            self.0.token_cache.put(token, &verified, until, key, seen);
        }
        Ok(verified)
    }

    /// Checks the claims of the token. Also returns the time of the check.
    fn check(&self, compact: &Compact<'_>) -> Result<(Verified, SystemTime), AuthError> {
        let now = (self.0.clock)();
        let verified = self.0.claim_rules.check(compact.claims()?, now)?;
        Ok((verified, now))
    }
}

/// The reason for which [`JwtVerifier::verify_now`] does not accept a token.
enum NotVerified<'a> {
    Refused(AuthError),
    AskSet(Box<Compact<'a>>),
}

impl From<AuthError> for NotVerified<'_> {
    fn from(error: AuthError) -> Self {
        Self::Refused(error)
    }
}

impl Verifier for JwtVerifier {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        match (self.verify_now(token), &self.0.refresh) {
            (Ok(verified), _) => Box::pin(ready(Ok(verified))),
            (Err(NotVerified::AskSet(compact)), Some(refresh)) => {
                Box::pin(self.verify_by_set(refresh, token, compact))
            }
            (Err(NotVerified::Refused(error)), _) => Box::pin(ready(Err(error))),
            (Err(NotVerified::AskSet(_)), None) => {
                Box::pin(ready(Err(AuthError::invalid("there is no key"))))
            }
        }
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        let inner = &self.0;
        if inner
            .refresh
            .as_ref()
            .is_some_and(|refresh| !refresh.is_fresh())
        {
            return None;
        }
        inner.token_cache.get(token, (inner.clock)())
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier")
            .field("claim_rules", &self.0.claim_rules)
            .field("algorithms", &self.0.algorithms)
            .field("remembered", &self.0.token_cache)
            .finish_non_exhaustive()
    }
}
