//! The cut of plain text to a number of tokens.

use super::policy::KeptText;
use crate::{budget::TokenCounter, util::text::boundary};

/// Text after a cut, with a note at the place of the cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TextCut {
    pub(super) text: String,
    pub(super) tokens: usize,
    /// The bytes of the original that were kept at its start and at its end.
    pub(super) head: usize,
    pub(super) tail: usize,
}

/// Cuts a text to at most `limit` tokens, the note included. Returns `None` if the note alone is
/// longer.
pub(super) fn cut(
    text: &str,
    kept: KeptText,
    note: &str,
    limit: usize,
    counter: &dyn TokenCounter,
) -> Option<TextCut> {
    let mut room = limit.checked_sub(counter.count(note))?;
    loop {
        let (head, tail) = match kept {
            KeptText::Head => (head_of(text, room, counter), 0),
            KeptText::Tail => (0, tail_of(text, room, counter)),
            KeptText::Both => {
                let head = head_of(text, room / 2, counter);
                (head, tail_of(&text[head..], room / 2, counter))
            }
        };
        let (start, end) = (&text[..head], &text[text.len() - tail..]);
        let joined = joined(start, note, end);
        // Tokens do not add up: the note may join with the text around it.
        match counter.count_up_to(&joined, limit) {
            Some(tokens) => {
                return Some(TextCut {
                    text: joined,
                    tokens,
                    head,
                    tail,
                });
            }
            None if head + tail == 0 => return None,
            None => room -= room.min(room / 64 + 4),
        }
    }
}

fn joined(start: &str, note: &str, end: &str) -> String {
    let mut joined = String::with_capacity(start.len() + note.len() + end.len() + 2);
    joined.push_str(start);
    if !start.is_empty() && !start.ends_with('\n') {
        joined.push('\n');
    }
    joined.push_str(note);
    if !end.is_empty() {
        joined.push('\n');
    }
    joined.push_str(end);
    joined
}

/// Returns the length of a start of at most `limit` tokens. It ends after a line, else after a
/// word, if one ends near.
pub(super) fn head_of(text: &str, limit: usize, counter: &dyn TokenCounter) -> usize {
    let end = counter.prefix(text, limit);
    if end == text.len() {
        return end;
    }
    // Only what is near: a text may be one line.
    let near = boundary(text, (end - end / 8).min(end.saturating_sub(160)));
    let line = text[near..end].rfind('\n').map(|at| near + at + 1);
    let near = boundary(text, end.saturating_sub(64).max(end / 2));
    let word = || {
        text[near..end]
            .rfind([' ', '\t', ',', ';'])
            .map(|at| near + at + 1)
    };
    line.or_else(word).unwrap_or(end)
}

/// Returns the length of an end of at most `limit` tokens. It starts at a line, else at a word, if
/// one starts near.
fn tail_of(text: &str, limit: usize, counter: &dyn TokenCounter) -> usize {
    let start = text.len() - suffix(text, limit, counter);
    if start == 0 {
        return text.len();
    }
    let length = text.len() - start;
    let far = boundary(text, start + (length / 8).max(160)).max(start);
    let line = text[start..far].find('\n').map(|at| start + at + 1);
    let far = boundary(text, start + 64.min(length / 2)).max(start);
    let word = || {
        text[start..far]
            .find([' ', '\t', ',', ';'])
            .map(|at| start + at + 1)
    };
    text.len() - line.or_else(word).unwrap_or(start)
}

/// Returns the length of an end of at most `limit` tokens, close to the longest.
fn suffix(text: &str, limit: usize, counter: &dyn TokenCounter) -> usize {
    let from = |length: usize| {
        let at = text.len() - length.min(text.len());
        (at..=text.len())
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(text.len())
    };
    let (mut fitting, mut exceeding) = (0, None);
    let mut length = limit;
    // A step of an eighth is as close as the cut at a line.
    while exceeding.is_none_or(|exceeding| exceeding - fitting > 1 + fitting / 32) {
        let start = from(length);
        if counter.count_up_to(&text[start..], limit).is_none() {
            exceeding = Some(length);
        } else {
            fitting = length;
            if start == 0 {
                return text.len();
            }
        }
        length = match exceeding {
            None => (length * 2).max(1),
            Some(exceeding) => fitting + (exceeding - fitting) / 2,
        };
    }
    text.len() - from(fitting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Tokenizer;

    fn lines() -> String {
        (0..500)
            .map(|line| format!("line {line} of a log\n"))
            .collect()
    }

    #[test]
    fn a_head_ends_after_a_line_and_is_followed_by_the_note() {
        let counter = Tokenizer::for_model("gpt-5");
        let lines = lines();
        let cut = cut(&lines, KeptText::Head, "[NOTE]", 100, &counter).unwrap();
        assert!(
            cut.text.starts_with("line 0 of a log\nline 1 "),
            "{}",
            cut.text
        );
        assert!(cut.text.ends_with(" of a log\n[NOTE]"), "{}", cut.text);
        assert_eq!((counter.count(&cut.text), cut.tail), (cut.tokens, 0));
        assert!((80..=100).contains(&cut.tokens), "{}", cut.tokens);
        assert_eq!(cut.text.len(), cut.head + "[NOTE]".len());
    }

    #[test]
    fn a_tail_and_both_ends_start_at_a_line() {
        let counter = Tokenizer::for_model("gpt-5");
        let lines = lines();
        let tail = cut(&lines, KeptText::Tail, "[NOTE]", 100, &counter).unwrap();
        assert!(tail.text.starts_with("[NOTE]\nline 4"), "{}", tail.text);
        assert!(tail.text.ends_with("line 499 of a log\n"), "{}", tail.text);
        let both = cut(&lines, KeptText::Both, "[NOTE]", 100, &counter).unwrap();
        assert!(both.text.starts_with("line 0 of a log\n"), "{}", both.text);
        assert!(
            both.text.contains(" of a log\n[NOTE]\nline 4"),
            "{}",
            both.text
        );
        assert!(both.text.ends_with("line 499 of a log\n"), "{}", both.text);
        assert!(both.tokens.max(tail.tokens) <= 100 && both.tokens.min(tail.tokens) > 80);
    }

    #[test]
    fn a_note_without_room_is_no_cut() {
        let counter = Tokenizer::for_model("gpt-5");
        assert_eq!(cut("text", KeptText::Head, "[NOTE]", 2, &counter), None);
    }

    #[test]
    fn both_ends_of_megabytes_of_one_run_are_cut() {
        let counter = Tokenizer::for_model("gpt-5");
        for part in ["=", " ", "a"] {
            let run = part.repeat(10 << 20);
            for kept in [KeptText::Head, KeptText::Tail, KeptText::Both] {
                let cut = cut(&run, kept, "[NOTE]", 2_000, &counter).unwrap();
                assert!(cut.tokens <= 2_000, "{part:?} {kept:?} {}", cut.tokens);
                assert!(
                    cut.head + cut.tail > 4_000,
                    "{part:?} {kept:?} {}",
                    cut.head + cut.tail
                );
            }
        }
    }
}
