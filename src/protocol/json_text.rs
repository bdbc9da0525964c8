//! JSON text as peers write it, even if it is not valid JSON.

use std::borrow::Cow;

use tokio_util::bytes::Bytes;

use crate::util::text::lossy;

/// A reader may ignore it (RFC 8259, section 8.1).
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a text, with U+FFFD in place of characters that no Rust string holds. Returns the text
/// that was read too, also if that failed.
pub(crate) fn read_leniently<M>(
    text: Bytes,
    read: impl Fn(&Bytes) -> serde_json::Result<M>,
) -> Result<(Bytes, M), (Bytes, serde_json::Error)> {
    let text = match text.starts_with(BYTE_ORDER_MARK) {
        true => text.slice(BYTE_ORDER_MARK.len()..),
        false => text,
    };
    let replace = |text: &Bytes| replace_lone_surrogates(text).map(Bytes::from);
    // A part of a message that no type has may be one that only text can hold.
    let replaced = may_have_surrogates(&text).then(|| replace(&text)).flatten();
    let text = replaced.unwrap_or(text);
    let error = match read(&text) {
        Ok(message) => return Ok((text, message)),
        Err(error) => error,
    };
    let Some(text) = replace(&text) else {
        return Err((text, error));
    };
    match read(&text) {
        Ok(message) => Ok((text, message)),
        Err(error) => Err((text, error)),
    }
}

/// Returns `true` if a text may have an escape of a surrogate. The cost is one search.
pub(crate) fn may_have_surrogates(text: &[u8]) -> bool {
    let may_be = |escape| memchr::memmem::find(text, escape).is_some();
    may_be(br"\ud") || may_be(br"\uD")
}

/// U+FFFD as an escape, as long as the escape that it replaces.
const REPLACEMENT: &[u8] = br"\ufffd";

/// Returns the text with U+FFFD in place of characters that no Rust string holds. Returns `None` if
/// there is nothing to replace. Replaced are:
///
/// - Escapes of surrogates without their other half (`"\ud83d"`). JavaScript strings are UTF-16,
///   and its programs cut them within a character.
/// - Bytes that are not UTF-8, the encoding of JSON (RFC 8259, section 8.1).
///
/// It is meant for text that a parser has refused: text that a parser accepts needs no replacement,
/// and costs nothing.
pub(crate) fn replace_lone_surrogates(text: &[u8]) -> Option<Vec<u8>> {
    let mut replaced = match lossy(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text.into_bytes()),
    };
    let mut from = 0;
    while let Some((at, next)) = lone_surrogate(replaced.as_deref().unwrap_or(text), from) {
        let replaced = replaced.get_or_insert_with(|| text.to_vec());
        if let Some(escape) = replaced.get_mut(at..next) {
            escape.copy_from_slice(REPLACEMENT);
        }
        from = next;
    }
    replaced
}

/// Returns the same for text that no parser has seen yet. For text without such an escape, the cost
/// is one search.
pub(crate) fn without_lone_surrogates(text: &str) -> Option<String> {
    let text = text.as_bytes();
    if !may_have_surrogates(text) {
        return None;
    }
    String::from_utf8(replace_lone_surrogates(text)?).ok()
}

/// Returns the length of a message's text up to `params`, if they are `null` and the text's last
/// member.
///
/// rmcp writes a custom request or notification without params in this form, which JSON-RPC 2.0
/// (section 4.2) does not allow. The suffix is not part of a string: a quotation mark in a string
/// is escaped.
pub(crate) fn before_null_params(message: &[u8]) -> Option<usize> {
    let before = message.strip_suffix(NULL_PARAMS)?;
    Some(before.len())
}

/// The end of a message whose `params` are `null`.
pub(crate) const NULL_PARAMS: &[u8] = br#","params":null}"#;

/// Returns the range of the first escape of a lone surrogate.
fn lone_surrogate(text: &[u8], mut from: usize) -> Option<(usize, usize)> {
    loop {
        let rest = text.get(from..)?;
        let at = from + memchr::memchr(b'\\', rest)?;
        let next = at + REPLACEMENT.len();
        match escaped_unit(text, at) {
            Some(0xd800..0xdc00) => match escaped_unit(text, next) {
                Some(0xdc00..0xe000) => from = next + REPLACEMENT.len(),
                _ => return Some((at, next)),
            },
            Some(0xdc00..0xe000) => return Some((at, next)),
            Some(_) => from = next,
            // An escape of one character, which may be a backslash.
            None => from = at + 2,
        }
    }
}

/// Returns the UTF-16 code unit that is escaped here.
fn escaped_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + REPLACEMENT.len())?.strip_prefix(br"\u")?;
    digits.iter().try_fold(0, |unit, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<String> {
        let replaced = replace_lone_surrogates(text.as_bytes())?;
        Some(serde_json::from_slice(&replaced).unwrap())
    }

    #[test]
    fn each_lone_surrogate_is_replaced() {
        for (text, meant) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""cut \ud83d here""#, "cut \u{fffd} here"),
            (r#""\udc00 x""#, "\u{fffd} x"),
            (r#""a\ud83d\u0041""#, "a\u{fffd}A"),
            (r#""\uDE00\uD83D""#, "\u{fffd}\u{fffd}"),
            (r#""\ud83d\ud83d\ude00\ude00""#, "\u{fffd}\u{1f600}\u{fffd}"),
            (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}"),
            (r#""\\\ud83d""#, "\\\u{fffd}"),
            (r#""\\ud83d \ud83d""#, "\\ud83d \u{fffd}"),
            (r#""\uDbFf\uE000""#, "\u{fffd}\u{e000}"),
        ] {
            assert_eq!(read(text).as_deref(), Some(meant), "{text}");
        }
    }

    #[test]
    fn text_without_one_is_left_alone() {
        for text in [
            "",
            "\\",
            r"\u",
            r"\ud83",
            r#""\ud83g""#,
            r#""\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\\\\udc00""#,
            r#""\u00e9 \ue000 \uffff é 😀""#,
        ] {
            assert_eq!(replace_lone_surrogates(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        let replaced = replace_lone_surrogates(b"\"caf\xe9 \xf0\x9f\x98\"").unwrap();
        assert_eq!(replaced, "\"caf\u{fffd} \u{fffd}\"".as_bytes());
        let replaced = replace_lone_surrogates(b"\"\xff\\uD800\"").unwrap();
        assert_eq!(replaced, "\"\u{fffd}\\ufffd\"".as_bytes());
    }
}
