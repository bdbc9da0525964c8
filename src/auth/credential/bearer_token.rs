use std::time::{Duration, SystemTime};

use crate::auth::verifier::Secret;

/// Time before its expiry at which a credential is replaced.
const AHEAD: Duration = Duration::from_secs(30);
/// A bearer token for an upstream, with its expiry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BearerToken {
    pub(super) token: Secret,
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

    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        self.expires_at
            .is_none_or(|time| now.checked_add(AHEAD).is_some_and(|ahead| ahead < time))
    }
}
