use std::{collections::HashMap, fmt};

use futures::future::{BoxFuture, ready};
use sha2::{Digest, Sha256};

use super::{AuthError, Verified, Verifier};
use crate::{ConfigError, Principal};

/// Minimum length of an API key in bytes. Keys have to be random, so that they cannot be guessed.
const MIN_BYTES: usize = 12;

/// A table of API keys: opaque tokens that this process knows.
///
/// The table contains the SHA-256 hashes of the keys, not the keys. A presented key is hashed
/// before the lookup, so the time of the lookup does not disclose anything about a key. Use random
/// keys only. A secret that a person made up needs a slow hash and is not suitable as an API key.
///
/// ```
/// use rmcp_layers::{Principal, auth::ApiKeys};
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let keys = ApiKeys::new()
///     .key("k-3f9a5c1e77d04b2a", Principal::new("ci").with_scopes(["build"]))?;
/// # let _ = keys;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct ApiKeys {
    principals: HashMap<[u8; 32], Principal>,
}

impl ApiKeys {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key, which authenticates as this principal.
    ///
    /// # Errors
    ///
    /// The key is shorter than 12 bytes, has characters that no bearer token can have (RFC 6750,
    /// section 2.1), or is already in the table.
    pub fn key(self, key: impl AsRef<str>, principal: Principal) -> Result<Self, ConfigError> {
        let key = key.as_ref();
        if key.len() < MIN_BYTES || super::bearer::check_characters(key).is_err() {
            let reason = format!(
                "the key of `{}` is shorter than {MIN_BYTES} bytes, or has characters that no \
                 token can have; generate a random one",
                principal.subject()
            );
            return Err(ConfigError::new("auth", "key", reason));
        }
        self.hashed(Sha256::digest(key).into(), principal)
    }

    /// Adds a key of which only the SHA-256 is known; see [`key`](Self::key).
    ///
    /// # Errors
    ///
    /// The key is already in the table.
    pub fn hashed(mut self, sha256: [u8; 32], principal: Principal) -> Result<Self, ConfigError> {
        let subject = principal.subject().to_owned();
        match self.principals.insert(sha256, principal) {
            None => Ok(self),
            Some(_) => Err(ConfigError::new(
                "auth",
                "key",
                format!("the key of `{subject}` is given twice; give each principal its own"),
            )),
        }
    }

    fn find(&self, key: &str) -> Option<Verified> {
        let digest: [u8; 32] = Sha256::digest(key).into();
        self.principals.get(&digest).cloned().map(Verified::new)
    }
}

impl Verifier for ApiKeys {
    fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
        let found = self.find(token);
        Box::pin(ready(
            found.ok_or_else(|| AuthError::invalid("no API key that is known")),
        ))
    }

    fn remembered(&self, token: &str) -> Option<Verified> {
        self.find(token)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("keys", &self.principals.len())
            .finish()
    }
}
