//! Numbers that a 64-bit float cannot hold.

use std::borrow::Cow;

/// Returns JSON with the largest float in the place of numbers beyond it, so that it can be read.
/// Returns the same text if there are none.
pub(crate) fn within_range(json: &str) -> Cow<'_, str> {
    let mut read = String::new();
    let mut from = 0;
    let mut at = 0;
    let bytes = json.as_bytes();
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = json[at..].find(|c| !is_of_number(c));
                let end = length.map_or(json.len(), |length| at + length);
                let number = &json[at..end];
                if number.parse::<f64>().is_ok_and(f64::is_infinite) {
                    read.push_str(&json[from..at]);
                    let negative = number.starts_with('-');
                    read.push_str(if negative {
                        "-1.7976931348623157e308"
                    } else {
                        "1.7976931348623157e308"
                    });
                    from = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    match from {
        0 => Cow::Borrowed(json),
        _ => {
            read.push_str(&json[from..]);
            Cow::Owned(read)
        }
    }
}

/// The digits that a 64-bit float holds in any case.
const DIGITS: usize = 15;

/// Returns `true` if JSON has a number that may have more digits than a 64-bit number holds.
pub(super) fn may_be_inexact(json: &str) -> bool {
    any_number(json, |number| {
        number.len() > DIGITS || number.bytes().any(|byte| matches!(byte, b'e' | b'E'))
    })
}

/// Returns `true` if JSON has a number that is read as another one.
pub(super) fn has_rounded(json: &str) -> bool {
    any_number(json, |number| {
        let is_small = number.len() <= DIGITS && !number.contains(['e', 'E']);
        !is_small && is_rounded(number)
    })
}

fn is_rounded(number: &str) -> bool {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return false;
    }
    let Some(float) = number.parse().ok().and_then(serde_json::Number::from_f64) else {
        return true;
    };
    let mantissa = number.split(['e', 'E']).next().unwrap_or_default();
    let digits = mantissa.trim_start_matches(['-', '0', '.']);
    let digits = digits.bytes().filter(u8::is_ascii_digit).count();
    let is_underflow = digits > 0 && float.as_f64() == Some(0.0);
    is_underflow || (digits > DIGITS && float.to_string() != number)
}

fn any_number(json: &str, is_such: impl Fn(&str) -> bool) -> bool {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1),
            b'-' | b'0'..=b'9' => {
                let length = json[at..].find(|c| !is_of_number(c));
                let end = length.map_or(json.len(), |length| at + length);
                if is_such(&json[at..end]) {
                    return true;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    false
}

fn is_of_number(c: char) -> bool {
    matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')
}

/// Returns the index after the closing quotation mark.
fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_many_digits_may_be_inexact() {
        for json in ["[1,-2.5]", r#"{"1e9":"12345678901234567890"}"#, "true"] {
            assert!(!may_be_inexact(json), "{json}");
        }
        for json in ["[12345678901234567]", "0.1234567890123456", r#"{"a":1e3}"#] {
            assert!(may_be_inexact(json), "{json}");
        }
    }

    #[test]
    fn a_number_that_is_read_as_another_one_is_rounded() {
        for json in [
            "[1,-2.5,9007199254740993,18446744073709551615,1e3,0e9,-0.0]",
            "[0.30000000000000004,52.520006599999995,1.0000000000000]",
            r#"{"1e999":"123456789012345678901234567890"}"#,
        ] {
            assert!(!has_rounded(json), "{json}");
        }
        for json in [
            "[18446744073709551616]",
            "0.10000000000000000001",
            "100000000000000000000000001",
            "1e400",
            "-1e-400",
        ] {
            assert!(has_rounded(json), "{json}");
        }
    }

    #[test]
    fn only_numbers_beyond_the_range_are_replaced() {
        let same = r#"{"1e999":"-1e999 \" 2e999","a":[1,-2.5e3,123456789012345678901234567890]}"#;
        assert!(matches!(within_range(same), Cow::Borrowed(text) if text == same));
        assert_eq!(
            within_range(r#"[1e400,"1e400",-1E+999 ,2]"#),
            r#"[1.7976931348623157e308,"1e400",-1.7976931348623157e308 ,2]"#
        );
    }
}
