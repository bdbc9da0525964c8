use crate::{Principal, auth::Scopes};

/// The required scopes of a request: those of its target, and those of its method.
#[derive(Clone, Copy, Debug)]
pub struct Required<'a> {
    pub(super) method: Option<&'a Scopes>,
    pub(super) target: &'a Scopes,
}

impl Required<'_> {
    /// Returns `true` if the principal has all required scopes.
    pub fn are_granted(&self, principal: &Principal) -> bool {
        self.method
            .is_none_or(|scopes| scopes.are_granted(principal))
            && self.target.are_granted(principal)
    }

    /// Returns a set of scopes that suffices: the granted ones that count, and the missing ones.
    pub fn needed(&self, principal: &Principal) -> Vec<String> {
        let mut needed = self
            .method
            .map(|scopes| scopes.needed(principal))
            .unwrap_or_default();
        for scope in self.target.needed(principal) {
            if !needed.contains(&scope) {
                needed.push(scope);
            }
        }
        needed
    }

    /// Returns all scopes that the principal would additionally need.
    pub fn missing(&self, principal: &Principal) -> Vec<String> {
        let mut missing = self
            .method
            .map(|scopes| scopes.missing(principal))
            .unwrap_or_default();
        for scope in self.target.missing(principal) {
            if !missing.contains(&scope) {
                missing.push(scope);
            }
        }
        missing
    }
}
