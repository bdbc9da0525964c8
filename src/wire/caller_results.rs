//! Results of a caller, in answer to a request of a server.
//!
//! rmcp holds such a result as one of four types, for the code that made the request. If the type
//! has no place for a part of the result, the whole travels in the `_meta` of the typed result, up
//! to the place where the stack receives it.

use rmcp::model::{ClientResult, CustomResult, MetaObject};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// The member of `_meta` that has the whole result.
const WHOLE: &str = "rmcp-layers/whole";

/// Reads the result of a caller.
pub(super) fn read(result: &RawValue) -> serde_json::Result<ClientResult> {
    let json: Value = serde_json::from_str(result.get())?;
    let Ok(mut typed) = ClientResult::deserialize(&json) else {
        return Ok(custom(json));
    };
    let is_whole = !has_whole(&mut typed) && serde_json::to_value(&typed)? == json;
    if !is_whole && let Some(meta) = meta(&mut typed) {
        let meta = meta.get_or_insert_default();
        meta.0.insert(WHOLE.to_owned(), json);
    }
    Ok(typed)
}

/// Returns a result as the stack receives it: custom if its type has no place for a part of it.
pub(crate) fn whole(mut result: ClientResult) -> ClientResult {
    let whole = meta(&mut result).and_then(|meta| meta.as_mut()?.0.shift_remove(WHOLE));
    whole.map_or(result, custom)
}

/// Makes a result one of its type, without the parts that the type has no place for.
pub(crate) fn make_typed(result: &mut ClientResult) {
    if let ClientResult::CustomResult(custom) = result
        && let Ok(typed) = ClientResult::deserialize(&custom.0)
    {
        *result = typed;
    }
}

fn custom(json: Value) -> ClientResult {
    ClientResult::CustomResult(CustomResult(json))
}

pub(super) fn has_whole(result: &mut ClientResult) -> bool {
    let meta = meta(result).and_then(|meta| meta.as_ref());
    meta.is_some_and(|meta| meta.0.contains_key(WHOLE))
}

fn meta(result: &mut ClientResult) -> Option<&mut Option<MetaObject>> {
    match result {
        ClientResult::CreateMessageResult(result) => Some(&mut result.message.meta),
        ClientResult::ListRootsResult(result) => Some(&mut result.meta),
        ClientResult::ElicitResult(result) => Some(&mut result.meta),
        _ => None,
    }
}
