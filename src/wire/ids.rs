//! Ids of requests that rmcp's type cannot hold.
//!
//! JSON-RPC 2.0 (section 4) allows any string or number as an `id`. rmcp holds strings and 64-bit
//! integers. Any other number travels as a marked string, and leaves as it came.

use std::borrow::Cow;

use rmcp::model::{NumberOrString, RequestId};
use serde_json::value::RawValue;

/// The start of a string that stands for another `id`.
const MARK: &str = "\u{1}rmcp-layers/id:";

/// Reads an `id`. Returns `None` if it is not a string or a number.
pub(crate) fn read(id: &RawValue) -> Option<RequestId> {
    let text = id.get();
    let marked = || NumberOrString::String(format!("{MARK}{text}").into());
    match text.as_bytes().first()? {
        b'"' => {
            let string: Cow<'_, str> = serde_json::from_str(text).ok()?;
            Some(match string.starts_with(MARK) {
                true => marked(),
                false => NumberOrString::String(string.as_ref().into()),
            })
        }
        b'-' | b'0'..=b'9' => Some(match text.parse() {
            Ok(number) if number != 0 || text == "0" => NumberOrString::Number(number),
            _ => marked(),
        }),
        _ => None,
    }
}

/// Returns an `id` as JSON.
pub(crate) fn json(id: &RequestId) -> String {
    match id {
        NumberOrString::Number(number) => number.to_string(),
        NumberOrString::String(text) => match text.strip_prefix(MARK) {
            Some(other) => other.to_owned(),
            None => serde_json::Value::from(&**text).to_string(),
        },
    }
}

/// Returns `true` if an `id` stands for another one.
pub(crate) fn is_marked(id: &RequestId) -> bool {
    matches!(id, NumberOrString::String(text) if text.starts_with(MARK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_string_and_number_comes_back_as_it_was() {
        for text in [
            "7",
            "0",
            "-0",
            "-1",
            "1.5",
            "5.0",
            "1e3",
            "18446744073709551616",
            r#""""#,
            r#""7""#,
            r#""\u0001rmcp-layers/id:7""#,
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            let id = read(&raw).unwrap();
            assert_eq!(json(&id), text);
            let again = RawValue::from_string(serde_json::to_string(&id).unwrap()).unwrap();
            assert_eq!(
                read(&again).is_some_and(|again| again == id),
                !is_marked(&id)
            );
        }
        for text in ["null", "true", "{}", "[1]"] {
            assert_eq!(
                read(&RawValue::from_string(text.to_owned()).unwrap()),
                None,
                "{text}"
            );
        }
    }
}
