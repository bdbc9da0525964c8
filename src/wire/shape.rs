//! Results in the shape of their caller's era.

use rmcp::model::ServerResult;
use serde_json::value::RawValue;
use tokio_util::bytes::{BufMut, Bytes, BytesMut};

use super::{
    lossless::{Lossless, Reading},
    members::Members,
};
use crate::{caller::Era, protocol::results};

const RESULT_TYPE: &str = "resultType";

/// Returns the text of a result for a caller of this era. Returns `None` if the result came from no
/// text.
///
/// - Since 2026-07-28 a result has a `resultType`, and one that can be cached `ttlMs` and
///   `cacheScope` (MCP 2026-07-28, SEP-2322, SEP-2549).
/// - Before, a complete result has no `resultType`, and `structuredContent` and the root of an
///   `outputSchema` are objects (SEP-2106).
pub(crate) fn text_for(result: &mut Lossless<ServerResult>, era: Era) -> Option<Bytes> {
    result.source()?;
    if era == Era::Legacy && has_output_of_any_type(result) {
        result.strip_non_object_output_for_legacy_peer();
    }
    let text = result.text()?;
    let is_of_era = match result.source()?.reading() {
        Reading::Result(read) => read.era == era,
        Reading::Params(_) => false,
    };
    match era {
        Era::Legacy if is_of_era => Some(text),
        Era::Legacy => Some(without_complete_type(text)),
        Era::Modern => {
            let known = is_of_era && !result.is_changed();
            Some(with_missing_members(text, result.as_read_mut(), known))
        }
    }
}

/// Returns `true` if the result has output that is not an object.
fn has_output_of_any_type(result: &ServerResult) -> bool {
    match result {
        ServerResult::CallToolResult(result) => result
            .structured_content
            .as_ref()
            .is_some_and(|content| !content.is_object()),
        ServerResult::ListToolsResult(list) => list.tools.iter().any(|tool| {
            let schema = tool.output_schema.as_ref();
            schema.is_some_and(|schema| schema.get("type").is_none_or(|kind| kind != "object"))
        }),
        _ => false,
    }
}

fn members(text: &Bytes) -> Option<Members<'_>> {
    let text: &RawValue = serde_json::from_slice(text).ok()?;
    Members::of(text)
}

/// Removes a `resultType` that is `complete`.
fn without_complete_type(text: Bytes) -> Bytes {
    let Some(members) = members(&text) else {
        return text;
    };
    let is_type =
        |name: &str, value: &RawValue| name == RESULT_TYPE && value.get() == r#""complete""#;
    if !members.0.iter().any(|(name, value)| is_type(name, value)) {
        return text;
    }
    let mut out = BytesMut::with_capacity(text.len()).writer();
    let rest = members
        .0
        .iter()
        .filter(|(name, value)| !is_type(name, value));
    match super::members::write(&mut out, rest.map(|(name, value)| (&**name, *value))) {
        Ok(()) => out.into_inner().freeze(),
        Err(_) => text.clone(),
    }
}

/// Adds what a complete result of the current revision has, if it is missing. `known` is `true` if
/// the text has the members that the typed result has.
fn with_missing_members(text: Bytes, result: &mut ServerResult, known: bool) -> Bytes {
    let Some(result_type) = results::result_type(result) else {
        return text;
    };
    if result_type.as_ref().is_some_and(|kind| !kind.is_complete()) {
        return text;
    }
    let has_type = known && result_type.is_some();
    let (ttl, scope) = results::cache_hints(result);
    let has_hints = known && ttl.is_some() && scope.is_some();
    result.fill_missing_cache_hints();
    let wants_hints = results::cache_hints(result).0.is_some();
    if has_type && (has_hints || !wants_hints) {
        return text;
    }
    let Some(members) = members(&text) else {
        return text;
    };
    let mut missing = String::new();
    for (name, wanted, value) in [
        (RESULT_TYPE, true, r#""complete""#),
        (results::TTL, wants_hints, "0"),
        (results::CACHE_SCOPE, wants_hints, r#""private""#),
    ] {
        if wanted && members.get(name).is_none() {
            missing.push_str(&format!(r#","{name}":{value}"#));
        }
    }
    let is_empty = members.0.is_empty();
    with_members(
        &text,
        missing.get(usize::from(is_empty)..).unwrap_or_default(),
    )
}

/// Adds members at the end of an object.
fn with_members(object: &Bytes, members: &str) -> Bytes {
    let object = object.trim_ascii_end();
    let Some(open) = object.strip_suffix(b"}") else {
        return Bytes::copy_from_slice(object);
    };
    let mut out = BytesMut::with_capacity(object.len() + members.len());
    out.put_slice(open.trim_ascii_end());
    out.put_slice(members.as_bytes());
    out.put_u8(b'}');
    out.freeze()
}
