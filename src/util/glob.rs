//! Globs over names: `*` stands for any characters, `?` for one.

/// Returns `true` if `glob` matches the whole of `text`. The time is at most the product of their
/// lengths, and there are no allocations.
pub(crate) fn matches(glob: &str, text: &str) -> bool {
    // The rest of both to match, and their rest at the last star.
    let (mut glob, mut text) = (glob.chars(), text.chars());
    let mut star = None;
    loop {
        let (before, left) = (glob.clone(), text.clone());
        match (glob.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                star = Some((glob.clone(), left.clone()));
                text = left;
                if before.as_str().chars().all(|c| c == '*') {
                    return true;
                }
            }
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {}
            _ => {
                // The last star takes one character more.
                let Some((after, mut rest)) = star.take() else {
                    return false;
                };
                if rest.next().is_none() {
                    return false;
                }
                star = Some((after.clone(), rest.clone()));
                (glob, text) = (after, rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::util::glob::matches;

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
            ("a*", "b", false),
            ("**", "x", true),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("*ab", "aab", true),
            ("é?", "éé", true),
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*?", "", false),
        ] {
            assert_eq!(matches(glob, text), matched, "{glob} {text}");
        }
    }
}
