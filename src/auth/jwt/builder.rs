use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jsonwebtoken::Algorithm;

use super::{
    Inner, JwtVerifier,
    jwks::Jwks,
    jwks_refresh::JwksRefresh,
    keys::{Key, KeySet},
    parse::Types,
};
use crate::{
    ConfigError,
    auth::{
        bearer::MAX_TOKEN_BYTES,
        claims::ClaimRules,
        token_cache::{DEFAULT_CAPACITY, TokenCache},
    },
};

/// Limit of the leeway. Clocks that differ by more than a few minutes are misconfigured.
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

/// Builds a [`JwtVerifier`].
///
/// Requires the feature `jwt`.
#[must_use = "call `build` to make the verifier"]
pub struct JwtVerifierBuilder {
    keys: Vec<Key>,
    /// The error of the first invalid key.
    invalid: Option<ConfigError>,
    inline: Vec<String>,
    jwks: Option<Jwks>,
    algorithms: Option<Vec<Algorithm>>,
    issuers: Vec<String>,
    any_issuer: bool,
    audiences: Vec<String>,
    any_audience: bool,
    claim_rules: ClaimRules,
    types: Types,
    max_bytes: usize,
    remembered: usize,
    clock: super::Clock,
}

impl Default for JwtVerifierBuilder {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            invalid: None,
            inline: Vec::new(),
            jwks: None,
            algorithms: None,
            issuers: Vec::new(),
            any_issuer: false,
            audiences: Vec::new(),
            any_audience: false,
            claim_rules: ClaimRules::default(),
            types: Types::Common,
            max_bytes: MAX_TOKEN_BYTES,
            remembered: DEFAULT_CAPACITY,
            clock: Arc::new(SystemTime::now),
        }
    }
}

impl JwtVerifierBuilder {
    /// Adds a secret that is shared with the issuer. It is used for HS256, from 48 bytes on also
    /// for HS384, and from 64 bytes on also for HS512. Minimum: 32 random bytes (RFC 7518, section
    /// 3.2). Do not use a secret that a person made up: it can be guessed.
    pub fn secret(self, secret: impl AsRef<[u8]>) -> Self {
        self.add("secret", Key::secret(None, secret.as_ref()))
    }

    /// Adds a public key in PEM: RSA of at least 2048 bits, EC on P-256 or P-384, or Ed25519.
    pub fn pem(self, pem: impl AsRef<[u8]>) -> Self {
        self.add("pem", Key::pem(None, pem.as_ref()))
    }

    /// Adds a public key in PEM for tokens whose header has this `kid`.
    pub fn pem_with_id(self, kid: impl Into<String>, pem: impl AsRef<[u8]>) -> Self {
        self.add("pem_with_id", Key::pem(Some(kid.into()), pem.as_ref()))
    }

    fn add(mut self, option: &'static str, key: Result<Key, String>) -> Self {
        match key {
            Ok(key) => self.keys.push(key),
            Err(reason) => {
                self.invalid.get_or_insert_with(|| invalid(option, reason));
            }
        }
        self
    }

    /// Adds a JWK set (RFC 7517), as JSON, that does not change.
    pub fn jwks_json(mut self, json: impl Into<String>) -> Self {
        self.inline.push(json.into());
        self
    }

    /// Sets a JWK set that is kept up to date, in a file or at a URL. Limit: one set. For several
    /// issuers, use [`AnyOf`](crate::auth::AnyOf).
    pub fn jwks(mut self, jwks: Jwks) -> Self {
        if self.jwks.replace(jwks).is_some() {
            self.invalid.get_or_insert_with(|| {
                invalid("jwks", "it is given twice; use `AnyOf` for several issuers")
            });
        }
        self
    }

    /// Allows these algorithms only. Default: every algorithm of the type of a key.
    pub fn algorithms(mut self, algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        self.algorithms = Some(algorithms.into_iter().collect());
        self
    }

    /// Adds an accepted issuer. `iss` has to be equal to one of the added issuers. All keys are
    /// trusted for all of them.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuers.push(issuer.into());
        self
    }

    /// Accepts tokens of any issuer, or without one. Every holder of a signing key can then issue
    /// tokens.
    pub fn any_issuer(mut self) -> Self {
        self.any_issuer = true;
        self
    }

    /// Adds an accepted audience. `aud` has to be one of the added audiences, or an array that
    /// contains one. For MCP it is the canonical URI of the server (RFC 8707; MCP 2026-07-28,
    /// Authorization, "Access Token Usage").
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Accepts tokens for any audience. A token that was issued for another server can then be used
    /// here, by that server or by its holders. Use this only if the issuer issues tokens for this
    /// server alone.
    pub fn any_audience(mut self) -> Self {
        self.any_audience = true;
        self
    }

    /// Accepts tokens without `exp`.
    pub fn without_expiry(mut self) -> Self {
        self.claim_rules.expires = false;
        self
    }

    /// Sets the allowed clock difference. Default: 30 s. Limit: 5 min.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.claim_rules.leeway = leeway;
        self
    }

    /// Accepts only tokens with the `typ` `at+jwt` (RFC 9068). Default: `JWT` and a missing `typ`
    /// are accepted too, because many issuers use no other.
    pub fn access_tokens_only(mut self) -> Self {
        self.types = Types::AccessToken;
        self
    }

    /// Sets the claim that becomes the principal's subject. Default: `sub`.
    pub fn subject_claim(mut self, claim: impl Into<String>) -> Self {
        self.claim_rules.subject = claim.into();
        self
    }

    /// Sets the claims that may contain the scopes. The first one that is present is used. Default:
    /// `scope`, then `scp`.
    pub fn scope_claims(mut self, claims: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.claim_rules.scopes = claims.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the maximum length of a token in bytes. Longer tokens are refused unread. Default:
    /// 8,192.
    pub fn max_token_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets the number of valid tokens that are remembered; 0 disables this. Default: 10,000 (the
    /// least recently used is evicted).
    pub fn max_remembered_tokens(mut self, count: usize) -> Self {
        self.remembered = count;
        self
    }

    /// Sets the clock. Intended for tests.
    pub fn clock(mut self, clock: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Builds the verifier. Nothing is fetched yet.
    ///
    /// # Errors
    ///
    /// There is no key, a key is malformed or weak, there is no issuer or audience unless waived,
    /// or the JWK set has a `stale_for` below its `refresh_every`.
    pub fn build(mut self) -> Result<JwtVerifier, ConfigError> {
        if let Some(error) = self.invalid.take() {
            return Err(error);
        }
        self.claim_rules.issuers =
            accepted(["issuer", "any_issuer"], self.issuers, self.any_issuer)?;
        self.claim_rules.audiences = accepted(
            ["audience", "any_audience"],
            self.audiences,
            self.any_audience,
        )?;
        if self.claim_rules.leeway > MAX_LEEWAY {
            return Err(invalid(
                "leeway",
                "it is more than 5 min; set the clocks right",
            ));
        }
        if let Some(jwks) = &self.jwks {
            if jwks.refresh_every.is_zero() {
                let reason = "`refresh_every` is zero; give at least some seconds";
                return Err(invalid("jwks", reason));
            }
            if jwks.stale_for < jwks.refresh_every {
                let reason = "the set would be too old before it is fetched again; give a \
                              `stale_for` of at least `refresh_every`";
                return Err(invalid("jwks", reason));
            }
        }
        let fixed = Arc::new(fixed(self.keys, &self.inline, self.algorithms.as_deref())?);
        if fixed.is_empty() && self.jwks.is_none() {
            let reason = "there is no key; give a `secret`, a `pem` or a JWK set";
            return Err(invalid("jwks", reason));
        }
        let token_cache = Arc::new(TokenCache::new(self.remembered));
        let refresh = self.jwks.map(|jwks| {
            JwksRefresh::new(
                jwks,
                self.algorithms.clone(),
                fixed.clone(),
                token_cache.clone(),
            )
        });
        Ok(JwtVerifier(Arc::new(Inner {
            fixed,
            refresh,
            algorithms: self.algorithms,
            claim_rules: self.claim_rules,
            types: self.types,
            max_bytes: self.max_bytes,
            token_cache,
            clock: self.clock,
        })))
    }
}

fn invalid(option: &'static str, reason: impl Into<Cow<'static, str>>) -> ConfigError {
    ConfigError::new("auth", option, reason)
}

/// Returns the accepted values of `iss` or `aud`; `None` accepts any. The options are the one that
/// names a value and the one that accepts any.
fn accepted(
    [one, any]: [&'static str; 2],
    names: Vec<String>,
    accepts_any: bool,
) -> Result<Option<Vec<String>>, ConfigError> {
    match (names.is_empty(), accepts_any) {
        (false, false) => Ok(Some(names)),
        (true, true) => Ok(None),
        (true, false) => {
            let reason = format!("there is no {one}; name it, or accept any by `{any}`");
            Err(invalid(one, reason))
        }
        (false, true) => {
            let reason = format!("it is set together with `{one}`; leave one of them out");
            Err(invalid(any, reason))
        }
    }
}

fn fixed(
    mut keys: Vec<Key>,
    sets: &[String],
    allowed: Option<&[Algorithm]>,
) -> Result<KeySet, ConfigError> {
    if let Some(allowed) = allowed
        && !keys.iter_mut().all(|key| key.allow(allowed))
    {
        let reason = format!("a key fits none of {allowed:?}; add an algorithm of its type");
        return Err(invalid("algorithms", reason));
    }
    for set in sets {
        let set = KeySet::parse(set.as_bytes(), allowed)
            .map_err(|reason| invalid("jwks_json", format!("the JWK set: {reason}")))?;
        keys.extend(set.into_keys());
    }
    Ok(KeySet::new(keys))
}

impl fmt::Debug for JwtVerifierBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifierBuilder")
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}
