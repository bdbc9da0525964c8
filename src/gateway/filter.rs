//! Which of a member's tools, prompts and resources are let out.

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
        let matched = |globs: &[String]| globs.iter().any(|glob| matches(glob, outward));
        (self.allow.is_empty() || matched(&self.allow)) && !matched(&self.deny)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}

/// Whether `glob` matches the whole of `text`. Takes at most the product of their lengths.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text): (Vec<char>, Vec<char>) = (glob.chars().collect(), text.chars().collect());
    let (mut g, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match glob.get(g) {
            Some('*') => {
                last_star = Some((g, t));
                g += 1;
            }
            Some(c) if *c == '?' || Some(c) == text.get(t) => {
                g += 1;
                t += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                g = star + 1;
                t = taken + 1;
            }
        }
    }
    glob.get(g..)
        .is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn globs() {
        for (glob, text, matched) in [
            ("*", "", true),
            ("db__*", "db__query", true),
            ("*__read*", "fs__read_file", true),
            ("?b", "db", true),
            ("?b", "b", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(glob, text), matched, "{glob} {text}");
        }
    }
}
