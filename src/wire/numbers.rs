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
    fn only_numbers_beyond_the_range_are_replaced() {
        let same = r#"{"1e999":"-1e999 \" 2e999","a":[1,-2.5e3,123456789012345678901234567890]}"#;
        assert!(matches!(within_range(same), Cow::Borrowed(text) if text == same));
        assert_eq!(
            within_range(r#"[1e400,"1e400",-1E+999 ,2]"#),
            r#"[1.7976931348623157e308,"1e400",-1.7976931348623157e308 ,2]"#
        );
    }
}
