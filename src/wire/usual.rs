//! Messages in the form that most peers write, whose envelope needs no reading.
//!
//! The members of such a message stand in the order of a well-known SDK, without white space
//! between them. Its value, the params or the result, is not read here: the reader of the value
//! sees if it is JSON and ends where the message says. Any other message is read by its envelope.

/// An answer with a result.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsualAnswer<'a> {
    pub(super) id: i64,
    pub(super) result: &'a str,
}

/// A request with params.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UsualRequest<'a> {
    pub(super) id: &'a str,
    pub(super) method: &'a str,
    pub(super) params: &'a str,
}

const VERSION: &str = r#""jsonrpc":"2.0""#;

/// Returns the parts of an answer with a result. `text` may have line ends after it.
pub(super) fn answer(text: &[u8]) -> Option<UsualAnswer<'_>> {
    let members = members(text)?;
    let first = members.strip_prefix(VERSION).and_then(|rest| {
        let (id, rest) = number(rest.strip_prefix(r#","id":"#)?);
        Some((id, rest.strip_prefix(r#","result":"#)?))
    });
    let (id, result) = first.or_else(|| {
        let (rest, id) = id_at_end(members)?;
        Some((id, rest.strip_prefix(r#""result":"#)?))
    })?;
    let id = id.parse().ok()?;
    result
        .starts_with('{')
        .then_some(UsualAnswer { id, result })
}

/// Returns the parts of a request with params.
pub(super) fn request(text: &[u8]) -> Option<UsualRequest<'_>> {
    let members = members(text)?;
    let first = members.strip_prefix(VERSION).and_then(|rest| {
        let (id, rest) = number(rest.strip_prefix(r#","id":"#)?);
        Some((id, rest.strip_prefix(',')?))
    });
    let (id, rest) = first.or_else(|| {
        let (rest, id) = id_at_end(members)?;
        Some((id, rest))
    })?;
    let (method, rest) = rest.strip_prefix(r#""method":""#)?.split_once('"')?;
    let params = rest.strip_prefix(r#","params":"#)?;
    // An escape, or a character that is none of JSON's.
    let is_plain_name = !method.bytes().any(|byte| byte == b'\\' || byte < b' ');
    let is_plain = !id.is_empty() && is_plain_name && params.starts_with('{');
    is_plain.then_some(UsualRequest { id, method, params })
}

/// Returns the text between the braces of an object.
fn members(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text.trim_ascii_end()).ok()?;
    text.strip_prefix('{')?.strip_suffix('}')
}

/// Splits a number without a sign, of up to 18 digits, from what follows.
fn number(text: &str) -> (&str, &str) {
    let digits = text.bytes().take(18).take_while(u8::is_ascii_digit).count();
    match &text[..digits] {
        // Zeros before a number are not JSON.
        number if number.starts_with('0') && number.len() > 1 => ("", text),
        _ => text.split_at(digits),
    }
}

/// Splits the version and the `id` at the end from the members before them.
fn id_at_end(members: &str) -> Option<(&str, &str)> {
    let id = members.rsplit_once(':').map(|(_, id)| id)?;
    let (number, rest) = number(id);
    let rest_is_empty = rest.is_empty() && !number.is_empty();
    let members = members.strip_suffix(number).filter(|_| rest_is_empty)?;
    let members = members.strip_suffix(r#","id":"#)?.strip_suffix(VERSION)?;
    Some((members.strip_suffix(',')?, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_in_the_order_of_common_sdks_are_found() {
        for text in [
            r#"{"jsonrpc":"2.0","id":7,"result":{"a":[1]}}"#,
            r#"{"result":{"a":[1]},"jsonrpc":"2.0","id":7}"#,
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"a\":[1]}}\r\n",
        ] {
            let result = r#"{"a":[1]}"#;
            assert_eq!(answer(text.as_bytes()), Some(UsualAnswer { id: 7, result }));
        }
    }

    #[test]
    fn requests_in_the_order_of_common_sdks_are_found() {
        let expected = UsualRequest {
            id: "70",
            method: "tools/call",
            params: r#"{"name":"a:b"}"#,
        };
        for text in [
            r#"{"jsonrpc":"2.0","id":70,"method":"tools/call","params":{"name":"a:b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a:b"},"jsonrpc":"2.0","id":70}"#,
        ] {
            assert_eq!(request(text.as_bytes()).as_ref(), Some(&expected));
        }
    }

    #[test]
    fn messages_in_any_other_form_are_left_to_the_reader_of_envelopes() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"jsonrpc":"2.0","id":07,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":-7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1.5,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":null}"#,
            r#"{"jsonrpc":"2.0","id":7, "result":{}}"#,
            r#"{"jsonrpc":"1.0","id":7,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{}}"#,
            r#"{"jsonrpc":"2.0","id":,"result":{}}"#,
            r#"{"result":{},"jsonrpc":"2.0","id":}"#,
            r#"{"result":{},"jsonrpc":"2.0","id":7"#,
            r#" {"jsonrpc":"2.0","id":7,"result":{}}"#,
        ] {
            assert_eq!(answer(text.as_bytes()), None, "{text}");
        }
        for text in [
            r#"{"jsonrpc":"2.0","method":"a","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"a\"","params":{}}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"a","params":[]}"#,
            r#"{"jsonrpc":"2.0","id":,"method":"a","params":{}}"#,
            r#"{"method":"a","params":{},"jsonrpc":"2.0","id":1e3}"#,
        ] {
            assert_eq!(request(text.as_bytes()), None, "{text}");
        }
    }
}
