//! URIs of an app's views in a `_meta` (SEP-1865).

use rmcp::model::{JsonObject, MetaObject};
use serde_json::Value;

use super::uris::{self, UriPrefix};

/// Makes the URIs of an app's views in a `_meta` outward: entries that are such a URI, such as
/// `ui/resourceUri`, and values in `ui` (SEP-1865). The declarations of origins and permissions
/// stay as they are. Returns `true` if there was such a URI.
pub(in crate::gateway) fn rewrite_meta(prefix: &UriPrefix, meta: &mut Option<MetaObject>) -> bool {
    let meta = meta.as_mut();
    prefix.is_set() && meta.is_some_and(|meta| rewrite_entries(prefix, &mut meta.0))
}

/// Does the same for the `_meta` of an untyped object.
pub(in crate::gateway) fn rewrite_json_meta(prefix: &UriPrefix, object: &mut JsonObject) -> bool {
    let meta = object.get_mut("_meta");
    meta.is_some_and(|meta| rewrite_json(prefix, meta))
}

/// Does the same for the JSON of a `_meta`.
pub(in crate::gateway) fn rewrite_json(prefix: &UriPrefix, meta: &mut Value) -> bool {
    let meta = meta.as_object_mut();
    prefix.is_set() && meta.is_some_and(|meta| rewrite_entries(prefix, meta))
}

fn rewrite_entries(prefix: &UriPrefix, meta: &mut JsonObject) -> bool {
    let mut any = false;
    for (key, value) in meta {
        any |= match value {
            Value::String(_) => rewrite_value(prefix, value),
            Value::Object(ui) if key == "ui" => {
                let views = ui
                    .iter_mut()
                    .filter(|(key, _)| !matches!(key.as_str(), "csp" | "domain" | "permissions"));
                rewrite_values(prefix, views.map(|(_, value)| value))
            }
            _ => false,
        }
    }
    any
}

fn rewrite_value(prefix: &UriPrefix, value: &mut Value) -> bool {
    match value {
        Value::String(uri) if uris::is_ui(uri) => prefix.put_before(uri),
        Value::Array(values) => rewrite_values(prefix, values.iter_mut()),
        Value::Object(values) => rewrite_values(prefix, values.values_mut()),
        _ => false,
    }
}

fn rewrite_values<'a>(prefix: &UriPrefix, values: impl Iterator<Item = &'a mut Value>) -> bool {
    values.fold(false, |any, value| rewrite_value(prefix, value) | any)
}
