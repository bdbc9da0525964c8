//! Text that is cut or encoded.

use std::borrow::Cow;

/// Returns the start of `text`: at most `max` bytes, and whole characters.
#[cfg(any(
    feature = "audit",
    feature = "delegate",
    feature = "metrics",
    feature = "progress",
    feature = "registry"
))]
pub(crate) fn start_of(text: &str, max: usize) -> &str {
    &text[..boundary(text, max)]
}

/// Returns at most `max` bytes of `text`, followed by the original length if it was cut.
#[cfg(any(feature = "audit", feature = "metrics"))]
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.len() {
        length if length <= max => text.to_owned(),
        length => format!("{}…[{length} bytes]", start_of(text, max)),
    }
}

/// Returns bytes as text, with U+FFFD in the place of those that are not UTF-8. Bytes that are UTF-8
/// are checked much faster than by `String::from_utf8_lossy`.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// Returns the greatest boundary between characters that is not beyond `at`.
pub(crate) fn boundary(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    let found = (0..=at).rev().find(|&at| text.is_char_boundary(at));
    found.unwrap_or(0)
}

/// Returns the bytes in lower-case hexadecimal.
#[cfg(any(
    feature = "audit",
    feature = "cache",
    feature = "metrics",
    feature = "retry"
))]
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(any(feature = "audit", feature = "metrics"))]
    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("short", 8), "short");
        assert_eq!(cut("ééé", 3), "é…[6 bytes]");
        assert!(cut(&"x".repeat(1_000_000), 256).len() < 256 + 32);
    }

    #[test]
    fn a_boundary_is_between_characters() {
        for (at, found) in [(0, 0), (1, 0), (2, 2), (3, 2), (4, 4), (9, 4)] {
            assert_eq!(boundary("éé", at), found);
        }
    }
}
