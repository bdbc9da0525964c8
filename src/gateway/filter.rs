//! Which of a member's tools, prompts and resources are let out.

use crate::glob::matches;

/// Allows and denies by glob on outward names (for resources: outward URIs). Deny wins; with any `allow`,
/// only what one of them matches is let out.
///
/// In a glob `*` stands for any characters, `?` for one.
///
/// ```
/// use rmcp_layers::gateway::Filter;
///
/// let filter = Filter::new().allow("db__*").deny("db__drop_*");
/// assert!(filter.lets_out("db__query"));
/// assert!(!filter.lets_out("db__drop_table"));
/// assert!(!filter.lets_out("fs__read"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Filter {
    /// Lets everything out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets out what `glob` matches, and of the rest only what another `allow` does.
    #[must_use]
    pub fn allow(mut self, glob: impl Into<String>) -> Self {
        self.allow.push(glob.into());
        self
    }

    /// Keeps back what `glob` matches.
    #[must_use]
    pub fn deny(mut self, glob: impl Into<String>) -> Self {
        self.deny.push(glob.into());
        self
    }

    /// Whether this name is let out.
    pub fn lets_out(&self, outward: &str) -> bool {
        let allows = || self.allow.iter().any(|glob| matches(glob, outward));
        (self.allow.is_empty() || allows()) && !self.denies(outward)
    }

    pub(super) fn denies(&self, outward: &str) -> bool {
        self.deny.iter().any(|glob| matches(glob, outward))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}
