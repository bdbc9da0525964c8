//! The rules by which outward names of tools and prompts are built.

use std::borrow::Cow;

use rmcp::model::sha256_digest;

use crate::ConfigError;

/// The default maximum length of an outward name. Hosts of models refuse longer ones.
pub(in crate::gateway) const MAX_NAME_LENGTH: usize = 64;
/// The number of hash characters in a changed name.
const HASH_LENGTH: usize = 10;

/// The rules by which names are built.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Style {
    pub(in crate::gateway) separator: String,
    pub(in crate::gateway) max_length: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            separator: "__".to_owned(),
            max_length: MAX_NAME_LENGTH,
        }
    }
}

impl Style {
    /// Returns the reason, with the remedy, if `member` cannot be a member's name.
    pub(in crate::gateway) fn check_member(&self, member: &str) -> Result<(), String> {
        if !member.starts_with(|c: char| c.is_ascii_alphabetic()) || !member.bytes().all(is_legal) {
            return Err(format!(
                "{member:?} is not a valid name; use a letter, then letters, digits, `_`, `-` and `.`"
            ));
        }
        let prefix = self.prefix(member);
        if prefix.find(&self.separator) != Some(member.len()) {
            return Err(format!(
                "the name {member:?} contains the separator {0:?} or ends with a part of it; use a \
                 name without {0:?}",
                self.separator
            ));
        }
        if prefix.len() + HASH_LENGTH + 2 > self.max_length {
            return Err(format!(
                "the name {member:?} is too long for outward names of {} characters; use a shorter one",
                self.max_length
            ));
        }
        Ok(())
    }

    /// Returns an error if no name can be built by these rules.
    pub(in crate::gateway) fn check(&self) -> Result<(), ConfigError> {
        if self.separator.is_empty() || !self.separator.bytes().all(is_legal) {
            let reason = format!(
                "{:?} cannot separate names; use letters, digits, `_`, `-` and `.`",
                self.separator
            );
            return Err(ConfigError::new("gateway", "separator", reason));
        }
        if !(32..=128).contains(&self.max_length) {
            let reason = format!("{} is out of range; use 32 to 128", self.max_length);
            return Err(ConfigError::new("gateway", "max_name_length", reason));
        }
        Ok(())
    }

    fn prefix(&self, member: &str) -> String {
        format!("{member}{}", self.separator)
    }

    /// Returns the name with the member's name in front, before it is fitted.
    pub(in crate::gateway) fn prefixed(&self, member: &str, inner: &str) -> String {
        let mut name = self.prefix(member);
        name.push_str(inner);
        name
    }

    /// Splits a prefixed name.
    pub(in crate::gateway) fn split<'a>(&self, outward: &'a str) -> Option<(&'a str, &'a str)> {
        outward.split_once(self.separator.as_str())
    }

    /// Returns `true` if a name conforms to the rules (MCP 2026-07-28, Tools, "Tool Names") and to
    /// the length limit.
    pub(in crate::gateway) fn fits(&self, name: &str) -> bool {
        !name.is_empty() && name.len() <= self.max_length && name.bytes().all(is_legal)
    }

    /// Returns a name that conforms to the rules: the name itself, or the legal rest of it and a
    /// hash of the whole. `again` is the number of results that were already taken.
    pub(in crate::gateway) fn fit<'a>(&self, name: &'a str, again: usize) -> Cow<'a, str> {
        if again == 0 && self.fits(name) {
            return Cow::Borrowed(name);
        }
        let seed = match again {
            0 => sha256_digest(name.as_bytes()),
            _ => sha256_digest(format!("{again}\u{0}{name}").as_bytes()),
        };
        let hash = seed.trim_start_matches("sha256:");
        let hash = hash.get(..HASH_LENGTH).unwrap_or(hash);
        let head = name.chars().take(self.max_length - HASH_LENGTH - 1);
        let mut fitted: String = head
            .map(|c| match c {
                c if u8::try_from(c).is_ok_and(is_legal) => c,
                _ => '_',
            })
            .collect();
        fitted.push('_');
        fitted.push_str(hash);
        Cow::Owned(fitted)
    }

    /// Returns `true` if [`fit`](Self::fit) may have changed this name, so that only a list has the
    /// original.
    pub(in crate::gateway) fn may_be_fitted(&self, name: &str) -> bool {
        name.len() > HASH_LENGTH
            && name
                .get(name.len() - HASH_LENGTH - 1..)
                .and_then(|end| end.strip_prefix('_'))
                .is_some_and(|hash| {
                    hash.bytes()
                        .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
                })
    }
}

/// Returns `true` if the character is allowed in names (MCP 2026-07-28, Tools, "Tool Names").
fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// Splits a tool name into the base name and the version that a call appends, with its `@`.
pub(in crate::gateway) fn versioned(tool: &str) -> (&str, &str) {
    match tool.rfind('@') {
        Some(at) => tool.split_at(at),
        None => (tool, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_within_the_rules_stays_as_it_is() {
        let style = Style::default();
        assert_eq!(style.fit("db__query.v2-x", 0), "db__query.v2-x");
    }

    #[test]
    fn a_changed_name_is_short_legal_stable_and_different_for_each_original() {
        let style = Style::default();
        let long = format!("db__{}", "x".repeat(200));
        let longer = format!("{long}y");
        let fitted = style.fit(&long, 0);
        assert_eq!(fitted.len(), 64);
        assert!(style.fits(&fitted) && style.may_be_fitted(&fitted));
        assert_eq!(fitted, style.fit(&long, 0));
        assert_ne!(fitted, style.fit(&longer, 0));
        assert_ne!(style.fit("a b", 0), style.fit("a,b", 0));
        // The same after a restart, and in every version.
        assert_eq!(style.fit("a b", 0), "a_b_c8687a08aa");
    }

    #[test]
    fn a_member_name_ends_where_the_separator_is_first_found() {
        let style = Style::default();
        assert!(style.check_member("db").is_ok());
        assert!(style.check_member("a_b").is_ok());
        for bad in ["", "a__b", "a_", "1a", "a b", "ü"] {
            assert!(style.check_member(bad).is_err(), "{bad:?}");
        }
        assert_eq!(style.split("db___q__x"), Some(("db", "_q__x")));
    }
}
