use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::AuthError;
use crate::Principal;

/// Says whom a token speaks for.
///
/// A verifier asks whoever knows (a key, an authorization server, a table), and fails closed: where it cannot
/// tell, it refuses. It never logs the token, and keeps it in clear no longer than it needs to.
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

    /// What is known of a token without asking anybody: it was verified before, and is good still, so that its expiry
    /// is not looked at again. Asked before
    /// [`verify`](Self::verify), so that a token that comes again costs no more than a lookup. `None` by
    /// default.
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

/// What a token that is good says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// Whom it speaks for.
    pub principal: Principal,
    /// Until when, if it says so, with the verifier's leeway. A listen that is still open then is closed.
    pub expires_at: Option<SystemTime>,
}

impl Verified {
    /// A token that speaks for `principal`, and does not say until when.
    pub fn new(principal: Principal) -> Self {
        Self {
            principal,
            expires_at: None,
        }
    }

    /// Says until when.
    #[must_use]
    pub fn expires_at(mut self, time: SystemTime) -> Self {
        self.expires_at = Some(time);
        self
    }
}

/// Tries verifiers in turn: API keys beside JWTs, two issuers at once.
///
/// The first that finds the token good decides. If none does, and one could not tell, the answer is that nobody
/// can; else it is the last one's, but an expired token is told from one that nobody knows.
///
/// Give to a verifier only tokens it should see: each one that is asked learns the token.
#[derive(Clone)]
pub struct AnyOf(Arc<[Arc<dyn Verifier>]>);

impl AnyOf {
    /// Tries these, in this order.
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

/// Says that whoever sent an HTTP request has been authenticated on the way in, so that the token is not verified
/// twice: the HTTP companion puts it in the request's extensions, and [`AuthLayer`](super::AuthLayer) takes it
/// from the [`http::request::Parts`] that rmcp hands on.
///
/// Only this crate makes one, and nothing that a client sends turns into one.
#[derive(Clone)]
pub struct Authenticated {
    verified: Verified,
    token: Secret,
    at: Instant,
}

impl Authenticated {
    /// After `token` has been verified. It is kept for the exchange of tokens alone, and nobody can read it.
    pub(crate) fn new(verified: Verified, token: &str) -> Self {
        Self {
            verified,
            token: Secret::new(token),
            at: Instant::now(),
        }
    }

    /// Whether this is the token that was verified.
    pub(super) fn is_by(&self, token: &str) -> bool {
        self.token.reveal() == token
    }

    /// How long ago it was verified. A session's copies of its first request may be old.
    pub(super) fn age(&self) -> Duration {
        self.at.elapsed()
    }

    /// Who it is.
    pub fn principal(&self) -> &Principal {
        &self.verified.principal
    }

    /// What its token says.
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

/// A text that is not shown.
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
