//! Suggestions for an unknown name.

/// Returns the known names that are nearest to an unknown one, nearest first. Limit: three names,
/// none too different and none that the caller may not see.
pub(in crate::gateway) fn nearest<'a>(
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
