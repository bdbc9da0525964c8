use memchr::memmem;

use crate::util::text::boundary;

/// The number of bytes that are shown on either side of an occurrence.
const CONTEXT: usize = 120;
/// The number of occurrences in one answer.
const MAX_SHOWN: usize = 20;
/// The number of occurrences that are counted.
const MAX_COUNTED: usize = 100_000;

/// The occurrences of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The first occurrences: a line for each, and the offset after it.
    pub lines: Vec<(String, usize)>,
    /// The number of occurrences from the offset on. Limit: 100,000.
    pub count: usize,
}

/// Finds a text in another one, from an offset on. Case matters.
pub(super) fn find(text: &str, wanted: &str, offset: usize) -> Found {
    let start = boundary(text, offset);
    let mut lines = Vec::new();
    let mut count = 0;
    for at in memmem::find_iter(&text.as_bytes()[start..], wanted).take(MAX_COUNTED) {
        count += 1;
        if lines.len() < MAX_SHOWN {
            let at = start + at;
            let end = at + wanted.len();
            let from = boundary(text, at.saturating_sub(CONTEXT));
            let to = boundary(text, end.saturating_add(CONTEXT));
            let around = text[from..to].replace(['\n', '\r'], " ");
            lines.push((format!("offset {at}: {around}\n"), end));
        }
    }
    Found { lines, count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn occurrences_are_found_with_their_offsets() {
        let text = format!("{}needle\n{}needle", "é".repeat(200), "x".repeat(10));
        let found = find(&text, "needle", 0);
        assert_eq!(found.count, 2);
        assert_eq!(found.lines[0].1, 406);
        assert!(found.lines[0].0.starts_with("offset 400: éé"));
        assert!(found.lines[0].0.ends_with("needle xxxxxxxxxxneedle\n"));
        assert_eq!(find(&text, "needle", 406).count, 1);
        assert_eq!(find(&text, "Needle", 0).count, 0);
        assert_eq!(find(&text, "x", usize::MAX).count, 0);
    }
}
