use std::{collections::HashSet, sync::Arc};

use memchr::memmem;

use super::super::kept::KeptResult;
use crate::util::text::boundary;

/// The number of bytes that are shown on either side of an occurrence.
const CONTEXT: usize = 120;
/// The number of occurrences in one answer.
const MAX_SHOWN: usize = 20;
/// The number of occurrences that are counted.
const MAX_COUNTED: usize = 100_000;

/// The texts that are searched, one after another, each with its pointer.
///
/// An offset counts the bytes of all texts before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts(Vec<(String, Arc<str>)>);

/// The occurrences of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The first occurrences: a line for each, and the offset after it.
    pub lines: Vec<(String, usize)>,
    /// The number of occurrences from the offset on. Limit: 100,000.
    pub count: usize,
}

impl Texts {
    /// Returns all texts of a result. Of equal ones, such as text that repeats the structured
    /// content, it has the first.
    pub(super) fn of(kept: &KeptResult) -> Self {
        let mut known = HashSet::new();
        let texts = kept.parts().iter().filter(|part| !part.is_blob);
        let texts = texts.filter(|part| known.insert(&*part.data));
        let texts = texts.map(|part| (part.pointer.clone(), part.data.clone()));
        Self(texts.collect())
    }

    pub(super) fn one(text: Arc<str>) -> Self {
        Self(vec![(String::new(), text)])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of all texts.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|(_, text)| text.len()).sum()
    }

    /// Finds a text in the texts, from an offset on. Case matters.
    pub(super) fn find(&self, wanted: &str, offset: usize) -> Found {
        let mut found = Found {
            lines: Vec::new(),
            count: 0,
        };
        let mut before = 0;
        for (pointer, text) in &self.0 {
            let place = match self.0.len() {
                1 => String::new(),
                _ => format!(" of {pointer}"),
            };
            let start = offset.saturating_sub(before);
            found.add(text, wanted, start, before, &place);
            before += text.len();
        }
        found
    }
}

impl Found {
    fn add(&mut self, text: &str, wanted: &str, offset: usize, before: usize, place: &str) {
        let start = boundary(text, offset);
        let room = MAX_COUNTED - self.count;
        for at in memmem::find_iter(&text.as_bytes()[start..], wanted).take(room) {
            self.count += 1;
            if self.lines.len() < MAX_SHOWN {
                let at = start + at;
                let end = at + wanted.len();
                let from = boundary(text, at.saturating_sub(CONTEXT));
                let to = boundary(text, end.saturating_add(CONTEXT));
                let around = text[from..to].replace(['\n', '\r'], " ");
                let line = format!("offset {at}{place}: {around}\n");
                self.lines.push((line, before + end));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::super::kept::KeptPart, *};

    #[test]
    fn occurrences_are_found_with_their_offsets() {
        let text = format!("{}needle\n{}needle", "é".repeat(200), "x".repeat(10));
        let find = |wanted: &str, offset| Texts::one(text.as_str().into()).find(wanted, offset);
        let found = find("needle", 0);
        assert_eq!(found.count, 2);
        assert_eq!(found.lines[0].1, 406);
        assert!(found.lines[0].0.starts_with("offset 400: éé"));
        assert!(found.lines[0].0.ends_with("needle xxxxxxxxxxneedle\n"));
        assert_eq!(find("needle", 406).count, 1);
        assert_eq!(find("Needle", 0).count, 0);
        assert_eq!(find("x", usize::MAX).count, 0);
    }

    #[test]
    fn all_texts_are_searched_one_after_another() {
        let part = |pointer: &str, text: &str| KeptPart::text(pointer, None, text);
        let parts = vec![
            part("/content/0/text", "a needle"),
            part("/content/1/text", "needle, needle"),
            part("/content/2/text", "a needle"),
        ];
        let texts = Texts::of(&KeptResult::new(parts, 10));
        assert_eq!(texts.len(), 22);
        let found = texts.find("needle", 0);
        let lines: Vec<_> = found
            .lines
            .iter()
            .map(|(line, end)| (&**line, *end))
            .collect();
        assert_eq!(
            lines,
            [
                ("offset 2 of /content/0/text: a needle\n", 8),
                ("offset 0 of /content/1/text: needle, needle\n", 14),
                ("offset 8 of /content/1/text: needle, needle\n", 22),
            ]
        );
        for (offset, count) in [(2, 3), (3, 2), (8, 2), (9, 1), (16, 1), (17, 0), (22, 0)] {
            assert_eq!(texts.find("needle", offset).count, count, "{offset}");
        }
    }
}
