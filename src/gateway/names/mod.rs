//! Outward names: the names by which callers know a member's tools and prompts.

pub(crate) mod collisions;
pub(crate) mod filter;
pub(crate) mod lookup;
pub(crate) mod uris;

use std::borrow::Cow;

use rmcp::model::sha256_digest;

/// The rule for putting a member's name in front of the names of its tools and prompts.
///
/// Resource URIs follow the same setting, except that [`OnCollision`](Self::OnCollision) always
/// prefixes them: a link inside a result must identify its member without the other members' lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefix {
    /// `db__query`. A name is resolved without any list.
    #[default]
    Always,
    /// `query`, unless a member of higher priority has that name too: then `db__query`.
    OnCollision,
    /// `query`. Where two members have a name or URI, [`connect`](super::GatewayBuilder::connect)
    /// fails and names both.
    ///
    /// [`build`](super::GatewayBuilder::build) does not ask members, and members may be added
    /// later. The member of higher priority then has the name. The other member's item is left out
    /// and [reported](super::GatewayHandle::members).
    Never,
}

/// The default maximum length of an outward name. Hosts of models refuse longer ones.
pub(super) const MAX_NAME_LENGTH: usize = 64;
/// The number of hash characters in a changed name.
const HASH_LENGTH: usize = 10;

/// The rules by which names are built.
#[derive(Clone, Debug)]
pub(super) struct Style {
    pub(super) separator: String,
    pub(super) max_length: usize,
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
    /// Returns an error if `member` cannot be a member's name.
    pub(super) fn check_member(&self, member: &str) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !member.starts_with(|c: char| c.is_ascii_alphabetic()) || !member.chars().all(legal) {
            return Err(format!(
                "{member:?} cannot name a member: a letter, then letters, digits, `_`, `-` and `.`"
            ));
        }
        let prefix = self.prefix(member);
        if prefix.find(&self.separator) != Some(member.len()) {
            return Err(format!(
                "{member:?} cannot name a member: with the separator {:?} its end would not be found",
                self.separator
            ));
        }
        if prefix.len() + HASH_LENGTH + 2 > self.max_length {
            return Err(format!(
                "{member:?} is too long for a member's name where names have {} characters",
                self.max_length
            ));
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if self.separator.is_empty() || !self.separator.chars().all(legal) {
            return Err(format!(
                "{:?} cannot separate names: it takes letters, digits, `_`, `-` and `.`",
                self.separator
            ));
        }
        if !(32..=128).contains(&self.max_length) {
            return Err(format!(
                "a limit of {} characters is impossible: names have from 32 to 128",
                self.max_length
            ));
        }
        Ok(())
    }

    fn prefix(&self, member: &str) -> String {
        format!("{member}{}", self.separator)
    }

    /// Returns the name with the member's name in front, before it is fitted.
    pub(super) fn prefixed(&self, member: &str, inner: &str) -> String {
        let mut name = self.prefix(member);
        name.push_str(inner);
        name
    }

    /// Splits a prefixed name.
    pub(super) fn split<'a>(&self, outward: &'a str) -> Option<(&'a str, &'a str)> {
        outward.split_once(self.separator.as_str())
    }

    /// Returns `true` if a name conforms to the rules (MCP 2026-07-28, Tools, "Tool Names") and to
    /// the length limit.
    pub(super) fn fits(&self, name: &str) -> bool {
        !name.is_empty()
            && name.len() <= self.max_length
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
    }

    /// Returns a name that conforms to the rules: the name itself, or the legal rest of it and a
    /// hash of the whole. `again` is the number of results that were already taken.
    pub(super) fn fit<'a>(&self, name: &'a str, again: usize) -> Cow<'a, str> {
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
                c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => c,
                _ => '_',
            })
            .collect();
        fitted.push('_');
        fitted.push_str(hash);
        Cow::Owned(fitted)
    }

    /// Returns `true` if [`fit`](Self::fit) may have changed this name, so that only a list has the
    /// original.
    pub(super) fn may_be_fitted(&self, name: &str) -> bool {
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

/// Splits a tool name into the base name and the version that a call appends, with its `@`.
pub(super) fn versioned(tool: &str) -> (&str, &str) {
    match tool.rfind('@') {
        Some(at) => tool.split_at(at),
        None => (tool, ""),
    }
}

/// Returns the known names that are nearest to an unknown one, nearest first. Limit: three names,
/// none too different and none that the caller may not see.
pub(super) fn nearest<'a>(
    name: &str,
    known: impl Iterator<Item = &'a str>,
    may_be_said: impl Fn(&str) -> bool,
) -> Vec<String> {
    /// The maximum number of names that are compared: the answer to a mistake should be cheap.
    const LOOKED_AT: usize = 10_000;
    let limit = (name.chars().count() / 3).clamp(2, 8);
    let mut near: Vec<(usize, &str)> = known
        .take(LOOKED_AT)
        .filter_map(|candidate| {
            let ending = candidate.ends_with(name) || name.ends_with(candidate);
            let distance = if ending {
                1
            } else {
                distance(name, candidate, limit)?
            };
            may_be_said(candidate).then_some((distance, candidate))
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(3);
    near.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Returns the number of characters to change, add or remove; `None` past `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut least = left;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let changed = diagonal + usize::from(ca != *cb);
            diagonal = *cell;
            left = changed.min(*cell + 1).min(left + 1);
            *cell = left;
            least = least.min(left);
        }
        if least > limit {
            return None;
        }
    }
    row.last().copied().filter(|distance| *distance <= limit)
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

    #[test]
    fn the_nearest_names_come_first() {
        let known = ["db__query", "db__queries", "fs__read", "query"];
        assert_eq!(
            nearest("db__qurey", known.into_iter(), |_| true),
            ["db__query", "db__queries"]
        );
        assert!(nearest("zzzzzz", known.into_iter(), |_| true).is_empty());
        let said = nearest("db__qurey", known.into_iter(), |name| name != "db__query");
        assert_eq!(said, ["db__queries"]);
    }
}
