use memchr::{memchr_iter, memrchr};

use crate::protocol::json_text::BYTE_ORDER_MARK;

/// The start of the first message in a line that is not one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) at: usize,
    /// Text that is not for a terminal stands before the message. It may be a log line that quotes
    /// a message.
    pub(super) after_text: bool,
}

impl Start {
    /// Returns the first `{` that may begin an object, unless it is within other JSON.
    ///
    /// An object within a broken message is never a start, because a peer's content may look like
    /// the answer to another call.
    pub(super) fn of(line: &[u8]) -> Option<Self> {
        let at = memchr_iter(b'{', line).find(|at| begins_object(&line[at + 1..]))?;
        let before = &line[..at];
        let shown = memrchr(b'\r', before).map_or(before, |end| &before[end + 1..]);
        let after_text = !is_for_terminal(shown);
        if after_text && may_be_json(shown) {
            return None;
        }
        Some(Self { at, after_text })
    }
}

/// Returns `true` if `rest` can follow an object's `{`.
fn begins_object(rest: &[u8]) -> bool {
    matches!(rest.trim_ascii_start().first(), Some(b'"' | b'}'))
}

/// Returns `true` if a terminal would show none of the text: control characters and escape
/// sequences (ECMA-48).
fn is_for_terminal(text: &[u8]) -> bool {
    let mut bytes = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text).iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0x1b => match bytes.next() {
                // CSI: parameters, up to a final byte.
                Some(b'[') => {
                    bytes.find(|byte| matches!(byte, 0x40..=0x7e));
                }
                // OSC and other strings: up to BEL, or ESC and `\`.
                Some(b']' | b'P' | b'X' | b'^' | b'_') => {
                    let end = bytes.find(|byte| matches!(byte, 0x07 | 0x1b));
                    if end == Some(&0x1b) {
                        bytes.next();
                    }
                }
                // Intermediate bytes, up to a final byte.
                Some(0x20..=0x2f) => {
                    bytes.find(|byte| matches!(byte, 0x30..=0x7e));
                }
                _ => {}
            },
            0x00..=0x20 | 0x7f => {}
            _ => return false,
        }
    }
    true
}

/// Returns `true` if the text may be part of a JSON text: it contains a string, or only
/// punctuation.
fn may_be_json(text: &[u8]) -> bool {
    let is_punctuation = |byte: &u8| byte.is_ascii_whitespace() || b"[]{},:".contains(byte);
    text.contains(&b'"') || text.iter().all(is_punctuation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(line: &str) -> Option<(usize, bool)> {
        Start::of(line.as_bytes()).map(|start| (start.at, start.after_text))
    }

    #[test]
    fn an_object_is_found_after_what_is_no_json() {
        for (before, after_text) in [
            ("", false),
            (" \t", false),
            ("\u{feff}", false),
            ("\u{1b}[0m\u{1b}(B\u{1b}7", false),
            ("\u{1b}]0;\"a\"\u{1b}\\\u{1b}[1;31m", false),
            ("\"50 %\" {\r\u{1b}[K", false),
            ("50 %", true),
            ("[info] {1} ", true),
        ] {
            for object in ["{\"", "{ \"", "{}"] {
                let line = format!("{before}{object}");
                assert_eq!(start(&line), Some((before.len(), after_text)), "{line}");
            }
        }
    }

    #[test]
    fn an_object_within_other_json_is_not_a_start() {
        for line in [
            "[{}",
            "}, {}",
            "\"a\": {}",
            "a \"b\" {}",
            "{",
            "",
            "{a}",
            "[1",
        ] {
            assert_eq!(start(line), None, "{line}");
        }
    }
}
