//! Filters for the tools, prompts and resources of a member.

use crate::util::glob::matches;

/// Allows and denies items by glob patterns on outward names (for resources: outward URIs).
///
/// Deny wins. With at least one `allow`, only items that match one of them are exposed.
///
/// In a glob, `*` stands for any characters and `?` for one character.
///
/// ```
/// use rmcp_layers::gateway::Filter;
///
/// let filter = Filter::new().allow("db__*").deny("db__drop_*");
/// assert!(filter.exposes("db__query"));
/// assert!(!filter.exposes("db__drop_table"));
/// assert!(!filter.exposes("fs__read"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Filter {
    allow: Vec<String>,
    deny: Vec<String>,
}

impl Filter {
    /// Creates a filter that exposes everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Exposes the items that `glob` matches. Other items are exposed only if another `allow`
    /// matches them.
    #[must_use]
    pub fn allow(mut self, glob: impl Into<String>) -> Self {
        self.allow.push(glob.into());
        self
    }

    /// Hides the items that `glob` matches.
    #[must_use]
    pub fn deny(mut self, glob: impl Into<String>) -> Self {
        self.deny.push(glob.into());
        self
    }

    /// Returns `true` if this name is exposed.
    pub fn exposes(&self, outward: &str) -> bool {
        let allows = || self.allow.iter().any(|glob| matches(glob, outward));
        (self.allow.is_empty() || allows()) && !self.denies(outward)
    }

    pub(in crate::gateway) fn denies(&self, outward: &str) -> bool {
        self.deny.iter().any(|glob| matches(glob, outward))
    }

    /// Returns the globs, each with the method that added it.
    pub(in crate::gateway) fn globs(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let allow = self.allow.iter().map(|glob| ("filter.allow", glob));
        allow.chain(self.deny.iter().map(|glob| ("filter.deny", glob)))
    }

    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}
