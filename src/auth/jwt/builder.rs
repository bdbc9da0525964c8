use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jsonwebtoken::Algorithm;

use super::{
    Inner, JwtVerifier,
    jwks::Jwks,
    jwks_refresh::Live,
    keys::{Key, KeySet},
    parse::Types,
};
use crate::{
    Error,
    auth::{
        bearer::MAX_TOKEN_BYTES,
        claims::Expected,
        rules::impossible,
        token_cache::{Memory, REMEMBERED},
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
    /// The reason for which the first invalid key was refused.
    wrong: Option<String>,
    inline: Vec<String>,
    jwks: Option<Jwks>,
    algorithms: Option<Vec<Algorithm>>,
    issuers: Vec<String>,
    any_issuer: bool,
    audiences: Vec<String>,
    any_audience: bool,
    expected: Expected,
    types: Types,
    max_bytes: usize,
    remembered: usize,
    clock: super::Clock,
}

impl Default for JwtVerifierBuilder {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            wrong: None,
            inline: Vec::new(),
            jwks: None,
            algorithms: None,
            issuers: Vec::new(),
            any_issuer: false,
            audiences: Vec::new(),
            any_audience: false,
            expected: Expected::default(),
            types: Types::Common,
            max_bytes: MAX_TOKEN_BYTES,
            remembered: REMEMBERED,
            clock: Arc::new(SystemTime::now),
        }
    }
}

impl JwtVerifierBuilder {
    /// Adds a secret that is shared with the issuer. It is used for HS256, from 48 bytes on also
    /// for HS384, and from 64 bytes on also for HS512. Minimum: 32 random bytes (RFC 7518, section
    /// 3.2). Do not use a secret that a person made up: it can be guessed.
    pub fn secret(self, secret: impl AsRef<[u8]>) -> Self {
        self.add(Key::secret(None, secret.as_ref()))
    }

    /// Adds a public key in PEM: RSA of at least 2048 bits, EC on P-256 or P-384, or Ed25519.
    pub fn pem(self, pem: impl AsRef<[u8]>) -> Self {
        self.add(Key::pem(None, pem.as_ref()))
    }

    /// Adds a public key in PEM for tokens whose header has this `kid`.
    pub fn pem_with_id(self, kid: impl Into<String>, pem: impl AsRef<[u8]>) -> Self {
        self.add(Key::pem(Some(kid.into()), pem.as_ref()))
    }

    fn add(mut self, key: Result<Key, String>) -> Self {
        match key {
            Ok(key) => self.keys.push(key),
            Err(reason) => {
                self.wrong.get_or_insert(reason);
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
            self.wrong
                .get_or_insert_with(|| "two JWK sets that change: use `AnyOf`".to_owned());
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
        self.expected.expires = false;
        self
    }

    /// Sets the allowed clock difference. Default: 30 s. Limit: 5 min.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.expected.leeway = leeway;
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
        self.expected.subject = claim.into();
        self
    }

    /// Sets the claims that may contain the scopes. The first one that is present is used. Default:
    /// `scope`, then `scp`.
    pub fn scope_claims(mut self, claims: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.expected.scopes = claims.into_iter().map(Into::into).collect();
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
    pub fn remembered_tokens(mut self, count: usize) -> Self {
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
    /// A refusal (by `auth`) of an invalid configuration: no key, a malformed or weak key, no
    /// issuer or audience unless waived, or a JWK set with `stale_for` below `refresh_every`.
    pub fn build(mut self) -> Result<JwtVerifier, Error> {
        if let Some(wrong) = self.wrong.take() {
            return Err(impossible(wrong));
        }
        self.expected.issuers = named("issuer", self.issuers, self.any_issuer)?;
        self.expected.audiences = named("audience", self.audiences, self.any_audience)?;
        if self.expected.leeway > MAX_LEEWAY {
            return Err(impossible("a leeway of more than 5 min".to_owned()));
        }
        if let Some(jwks) = &self.jwks
            && (jwks.refresh_every.is_zero() || jwks.stale_for < jwks.refresh_every)
        {
            let wrong = "the JWK set is too old before it is fetched again: `stale_for` has to be at least \
                         `refresh_every`, and that more than nothing";
            return Err(impossible(wrong.to_owned()));
        }
        let fixed = Arc::new(fixed(self.keys, &self.inline, self.algorithms.as_deref())?);
        if fixed.is_empty() && self.jwks.is_none() {
            return Err(impossible(
                "there is no key: give a secret, a PEM, or a JWK set".to_owned(),
            ));
        }
        let memory = Arc::new(Memory::new(self.remembered));
        let live = self
            .jwks
            .map(|jwks| Live::new(jwks, self.algorithms.clone(), fixed.clone(), memory.clone()));
        Ok(JwtVerifier(Arc::new(Inner {
            fixed,
            live,
            algorithms: self.algorithms,
            expected: self.expected,
            types: self.types,
            max_bytes: self.max_bytes,
            memory,
            clock: self.clock,
        })))
    }
}

/// Returns the accepted values of `iss` or `aud`; `None` accepts any.
fn named(what: &str, names: Vec<String>, any: bool) -> Result<Option<Vec<String>>, Error> {
    match (names.is_empty(), any) {
        (false, false) => Ok(Some(names)),
        (true, true) => Ok(None),
        (true, false) => Err(impossible(format!(
            "there is no {what}: name it, or take any by `any_{what}`"
        ))),
        (false, true) => Err(impossible(format!(
            "one {what} is named, and any is taken: which is it?"
        ))),
    }
}

fn fixed(
    mut keys: Vec<Key>,
    sets: &[String],
    allowed: Option<&[Algorithm]>,
) -> Result<KeySet, Error> {
    if let Some(allowed) = allowed
        && !keys.iter_mut().all(|key| key.allow(allowed))
    {
        return Err(impossible(format!(
            "a key is for none of the algorithms that are allowed: {allowed:?}"
        )));
    }
    for set in sets {
        let set = KeySet::parse(set.as_bytes(), allowed)
            .map_err(|reason| impossible(format!("the JWK set: {reason}")))?;
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
