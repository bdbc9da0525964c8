use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::AuthError;
use crate::Principal;

/// Determines the principal that a token speaks for.
///
/// A verifier checks the token with a key, an authorization server or a table. It fails closed: if
/// it cannot decide, it refuses the token. It must not log the token, and should keep it in clear
/// no longer than necessary.
///
/// ```
/// use futures::{FutureExt, future::BoxFuture};
/// use rmcp_layers::{Principal, auth::{AuthError, Verified, Verifier}};
///
/// struct Door;
///
/// impl Verifier for Door {
///     fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
///         async move {
///             match token {
///                 "sesame" => Ok(Verified::new(Principal::new("ali").with_scopes(["cave"]))),
///                 _ => Err(AuthError::invalid("not the word")),
///             }
///         }
///         .boxed()
///     }
/// }
/// # assert!(Door.verify("sesame").now_or_never().unwrap().is_ok());
/// ```
pub trait Verifier: Send + Sync + 'static {
    /// Verifies a token.
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>>;

    /// Returns the result for a token that was verified before and is still valid, without waiting.
    /// It is called before [`verify`](Self::verify), so that a known token costs only a lookup. The
    /// expiry of the result is not checked again. The default implementation returns `None`.
    fn remembered(&self, token: &str) -> Option<Verified> {
        let _ = token;
        None
    }
}

impl<V: Verifier + ?Sized> Verifier for Arc<V> {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        (**self).verify(token)
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        (**self).remembered(token)
    }
}

/// The content of a valid token.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The principal that the token speaks for.
    pub principal: Principal,
    /// The expiry of the token, including the verifier's leeway, if it has one. A listen that is
    /// still open then is closed.
    pub expires_at: Option<SystemTime>,
}

impl Verified {
    /// Creates the content of a token that speaks for `principal` and does not expire.
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            expires_at: None,
        }
    }

    /// Sets the expiry.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }
}

/// Tries several verifiers in turn: API keys beside JWTs, or two issuers.
///
/// The first verifier that accepts the token decides. If none accepts it and one was unavailable,
/// the result is [unavailable](super::AuthErrorKind::Unavailable). Otherwise it is
/// [expired](super::AuthErrorKind::Expired) if one verifier found the token expired, and the last
/// verifier's error if none did.
///
/// Each verifier that is tried learns the token, so add only verifiers that may see all tokens.
#[derive(Clone)]
pub struct AnyOf(Arc<[Arc<dyn Verifier>]>);

impl AnyOf {
    /// Creates a verifier that tries these in this order.
    pub fn new(verifiers: impl IntoIterator<Item = Arc<dyn Verifier>>) -> Self {
        Self(verifiers.into_iter().collect())
    }
}

impl fmt::Debug for AnyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AnyOf").field(&self.0.len()).finish()
    }
}

impl Verifier for AnyOf {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        use super::AuthErrorKind::{Expired, Unavailable};
        Box::pin(async move {
            let mut worst = AuthError::invalid("no verifier knows the token");
            for verifier in &*self.0 {
                match verifier.verify(token).await {
                    Ok(verified) => return Ok(verified),
                    Err(error) => match (worst.kind(), error.kind()) {
                        (Unavailable, _) => {}
                        (Expired, kind) if kind != Unavailable => {}
                        _ => worst = error,
                    },
                }
            }
            Err(worst)
        })
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        self.0
            .iter()
            .find_map(|verifier| verifier.remembered(token))
    }
}

/// Proof that the sender of an HTTP request has been authenticated, so that the token is not
/// verified twice. The HTTP companion adds it to the request's extensions.
/// [`AuthLayer`](super::AuthLayer) takes it from the [`http::request::Parts`] that rmcp passes on.
///
/// Only this crate can create one; no input from a client is turned into one.
#[derive(Clone)]
pub struct Authenticated {
    verified: Verified,
    token: Secret,
    at: Instant,
}

impl Authenticated {
    /// Creates the proof after `token` has been verified. The token is kept for the token exchange
    /// only and cannot be read by other code.
    pub(crate) fn new(verified: Verified, token: &str) -> Self {
        Self {
            verified,
            token: Secret::new(token),
            at: Instant::now(),
        }
    }

    /// Returns `true` if this is the token that was verified.
    pub(super) fn is_by(&self, token: &str) -> bool {
        self.token.reveal() == token
    }

    /// Returns the time since the verification. A session's copy of its first request may be old.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// Returns the authenticated principal.
    pub fn principal(&self) -> &Principal {
        &self.verified.principal
    }

    /// Returns the content of its token.
    pub fn verified(&self) -> &Verified {
        &self.verified
    }

    pub(super) fn into_parts(self) -> (Verified, Secret) {
        (self.verified, self.token)
    }
}

impl fmt::Debug for Authenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticated")
            .field("principal", self.principal())
            .finish_non_exhaustive()
    }
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Arc<str>);

impl Secret {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("...")
    }
}
