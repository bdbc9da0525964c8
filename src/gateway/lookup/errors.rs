//! Errors for names and URIs that lead to no member, or to several.

use std::sync::Arc;

use rmcp::model::{ErrorCode, ErrorData};
use serde_json::json;

use crate::gateway::{
    lists::{list_item::ListItem, listed_member::ListedMember, merge::MergedList},
    names::{nearest::nearest, uris},
};
use crate::{CallContext, Error, Item, caller::Era};

/// The maximum number of outward names in an error about an ambiguous name.
const MAX_NAMED: usize = 20;

/// The error for a resource that no member has, or that several members have as their own.
pub(super) fn not_found(uri: &str, owners: &[Arc<ListedMember>], context: &CallContext) -> Error {
    let code = match context.era() {
        Era::Modern => ErrorCode::INVALID_PARAMS,
        // Revisions before 2026-07-28 define an error code for it.
        Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
    };
    let outward = owners.iter().filter_map(|owner| {
        let outward = uris::prefixed(&owner.name, uri);
        let seen = owner.options.filter.exposes(&outward);
        (seen && context.sees(Item::Resource(&outward))).then(|| format!("`{outward}`"))
    });
    let outward: Vec<_> = outward.take(MAX_NAMED).collect();
    let mut message = format!("Resource not found: {uri}");
    if !outward.is_empty() {
        message.push_str(&format!(". Did you mean {}?", outward.join(" or ")));
    }
    ErrorData::new(code, message, Some(json!({ "uri": uri }))).into()
}

/// The error for a name of several members. It lists those outward names that the caller may see.
pub(super) fn ambiguous<T: ListItem>(
    name: &str,
    merged: &MergedList<T>,
    context: &CallContext,
) -> Error {
    let names = merged.entries_of(name).filter(|entry| entry.shown);
    let names = names.map(|entry| entry.item.key());
    let names = names.filter(|name| context.sees(T::item(name)));
    did_you_mean::<T>(name, names.take(MAX_NAMED).map(str::to_owned).collect())
}

/// The error for a name that no member has (MCP 2026-07-28, Tools, "Error Handling"; Prompts
/// likewise).
pub(super) fn unknown<T: ListItem>(
    name: &str,
    known: Option<&MergedList<T>>,
    context: &CallContext,
) -> Error {
    let known = known.iter().flat_map(|known| known.names());
    did_you_mean::<T>(
        name,
        nearest(name, known, |name| context.sees(T::item(name))),
    )
}

fn did_you_mean<T: ListItem>(name: &str, nearest: Vec<String>) -> Error {
    let mut message = format!("Unknown {}: {name}", T::NOUN);
    if !nearest.is_empty() {
        let all: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
        message.push_str(&format!(". Did you mean {}?", all.join(" or ")));
    }
    let data = json!({ "name": name, "nearest": nearest });
    ErrorData::invalid_params(message, Some(data)).into()
}
