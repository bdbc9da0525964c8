//! What a stack shows its upstream.

use super::verifier::Secret;

/// The caller's token, for the exchange of tokens alone: nothing outside of this module can name the type, or read
/// what is in it.
#[derive(Clone, Debug)]
pub(super) struct Delegation(#[expect(dead_code)] Secret);

impl Delegation {
    pub(super) fn new(token: &str) -> Self {
        Self(Secret::new(token))
    }
}

/// Placeholder.
#[derive(Clone, Debug)]
pub struct CredentialLayer;
