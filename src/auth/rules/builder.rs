use super::Rules;
use crate::{ConfigError, auth::Scopes};

/// Builds [`Rules`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the rules"]
pub struct RulesBuilder(pub(super) Rules);

impl RulesBuilder {
    /// Sets the scopes of a tool, or of the tools that a glob matches.
    ///
    /// A rule for a name applies to each of its versions (`name@version`). A rule with an `@`
    /// applies only to calls that are written in this form. It does not guard the version: a
    /// registry also resolves the plain name to the newest version, and accepts a version in
    /// `_meta`.
    pub fn tool(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.tools.add(name.into(), scopes.into());
        self
    }

    /// Sets the scopes of a prompt, or of the prompts that a glob matches.
    pub fn prompt(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.prompts.add(name.into(), scopes.into());
        self
    }

    /// Sets the scopes of a resource, or of the resources whose URIs a glob matches. Templates are
    /// listed by their URI template, and skills by their URI.
    ///
    /// URIs are compared as they are written. A glob never matches a URI with `..`, which the
    /// server may resolve to a URI outside of the glob.
    pub fn resource(mut self, uri: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.resources.add(uri.into(), scopes.into());
        self
    }

    /// Sets additional scopes of a method, or of the methods that a glob matches:
    /// `logging/setLevel`, `tasks/*`, `acme/reindex`.
    pub fn method(mut self, method: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.methods.add(method.into(), scopes.into());
        self
    }

    /// Sets the scopes of names that no rule matches. [`Scopes::never`] denies them to all callers,
    /// [`Scopes::none`] allows them to all authenticated callers. Default: `admin`.
    pub fn unmatched(mut self, scopes: impl Into<Scopes>) -> Self {
        self.0.unmatched = scopes.into();
        self
    }

    /// Sets whether callers may learn that a forbidden item exists. If `true`, they are refused
    /// with all missing scopes, and a client can ask its user for more (step-up). Otherwise a
    /// forbidden name is answered like an unknown one. Lists are filtered in both cases. Default:
    /// `false`.
    pub fn reveal_forbidden(mut self, reveal: bool) -> Self {
        self.0.reveal = reveal;
        self
    }

    /// Builds the rules.
    ///
    /// # Errors
    ///
    /// A rule can never match because of an earlier rule, or names a scope that no token can have
    /// (RFC 6749, section 3.3).
    pub fn build(self) -> Result<Rules, ConfigError> {
        let rules = self.0;
        let tables = [
            ("tool", &rules.tools),
            ("prompt", &rules.prompts),
            ("resource", &rules.resources),
            ("method", &rules.methods),
        ];
        for (kind, table) in tables {
            if let Some(name) = &table.idle {
                let reason = format!(
                    "the rule `{name}` can never match, because an earlier rule matches the same \
                     names; put it first"
                );
                return Err(ConfigError::new("auth", kind, reason));
            }
        }
        let named = tables
            .into_iter()
            .flat_map(|(kind, table)| table.scopes().map(move |scopes| (kind, scopes)));
        for (option, scopes) in named.chain([("unmatched", &rules.unmatched)]) {
            scopes.check("auth", option)?;
        }
        Ok(rules)
    }
}
