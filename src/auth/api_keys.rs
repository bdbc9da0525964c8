use std::{collections::HashMap, fmt};

use futures::future::{BoxFuture, ready};
use sha2::{Digest, Sha256};

use super::{AuthError, Verified, Verifier, rules::impossible};
use crate::{Error, Principal};

/// The shortest API key, in bytes. A key is drawn at random, so that nobody guesses it.
const MIN_BYTES: usize = 12;

/// A table of API keys: opaque tokens that this process knows.
///
/// No key is kept: the table has their SHA-256, and what is shown is hashed before it is looked up, so that how
/// long it takes says nothing of a key. That is for keys drawn at random; what people make up needs a slow hash,
/// and is no API key.
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
    /// A table without keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets in whoever shows this key, as this principal.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`), if the key is shorter than 12 bytes, has characters that no bearer token can have
    /// (RFC 6750, section 2.1), or is in the table.
    pub fn key(self, key: impl AsRef<str>, principal: Principal) -> Result<Self, Error> {
        let key = key.as_ref();
        if key.len() < MIN_BYTES || super::bearer::check_characters(key).is_err() {
            return Err(impossible(format!(
                "the API key of `{}` is shorter than {MIN_BYTES} bytes, or has characters that no token has",
                principal.subject()
            )));
        }
        self.hashed(Sha256::digest(key).into(), principal)
    }

    /// As [`key`](Self::key), for a key of which only the SHA-256 is known.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`), if the key is in the table.
    pub fn hashed(mut self, sha256: [u8; 32], principal: Principal) -> Result<Self, Error> {
        let subject = principal.subject().to_owned();
        match self.principals.insert(sha256, principal) {
            None => Ok(self),
            Some(_) => Err(impossible(format!(
                "the API key of `{subject}` is another's already"
            ))),
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
