//! Headers that mirror the body (MCP 2026-07-28, Streamable HTTP, "Request Metadata"; SEP-2243).

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderMap;

use super::message::Message;

const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// Checks that each mirroring header that is present agrees with the body. rmcp checks separately
/// that they are present, in revisions that define them. In older revisions a disagreement is
/// refused too, because a proxy may have decided by the headers.
pub(super) fn agrees(headers: &HeaderMap, message: &Message) -> Result<(), &'static str> {
    let method = sole(headers, METHOD)?;
    let name = sole(headers, NAME)?;
    if let Some(method) = method
        && message
            .method
            .as_deref()
            .is_some_and(|asked| asked != method)
    {
        return Err("Header mismatch: Mcp-Method is not the body's method");
    }
    if let (Some(name), Some(asked)) = (name, message.mirrored_name())
        && decoded(name).as_deref() != Some(asked)
    {
        return Err("Header mismatch: Mcp-Name is not what the body names");
    }
    Ok(())
}

fn sole<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err("Header mismatch: a header that mirrors the body stands twice");
    }
    value.to_str().map(Some).map_err(
        |_| "Header mismatch: a header that mirrors the body has characters it cannot have",
    )
}

/// Returns the value of a header that may be encoded as Base64.
fn decoded(value: &str) -> Option<String> {
    let wrapped = value
        .strip_prefix("=?base64?")
        .and_then(|rest| rest.strip_suffix("?="));
    match wrapped {
        None => Some(value.to_owned()),
        Some(encoded) => String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok(),
    }
}
