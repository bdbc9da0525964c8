//! URIs of an app's views in a `_meta` (SEP-1865).

use rmcp::model::{JsonObject, MetaObject};
use serde_json::Value;

use super::uris::{self, UriPrefix};

/// Makes the URIs of an app's views in a `_meta` outward: entries that are such a URI, such as
/// `ui/resourceUri`, and values in `ui` (SEP-1865). The declarations of origins and permissions
/// stay as they are.
pub(in crate::gateway) fn rewrite_meta(prefix: &UriPrefix, meta: &mut Option<MetaObject>) {
    if let Some(meta) = meta {
        rewrite_entries(prefix, &mut meta.0);
    }
}

/// Does the same for the `_meta` of an untyped object.
pub(in crate::gateway) fn rewrite_json_meta(prefix: &UriPrefix, object: &mut JsonObject) {
    if let Some(Value::Object(meta)) = object.get_mut("_meta") {
        rewrite_entries(prefix, meta);
    }
}

fn rewrite_entries(prefix: &UriPrefix, meta: &mut JsonObject) {
    for (key, value) in meta {
        match value {
            Value::String(_) => rewrite_value(prefix, value),
            Value::Object(ui) if key == "ui" => {
                let views = ui
                    .iter_mut()
                    .filter(|(key, _)| !matches!(key.as_str(), "csp" | "domain" | "permissions"));
                views.for_each(|(_, value)| rewrite_value(prefix, value));
            }
            _ => {}
        }
    }
}

fn rewrite_value(prefix: &UriPrefix, value: &mut Value) {
    match value {
        Value::String(uri) if uris::is_ui(uri) => prefix.put_before(uri),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| rewrite_value(prefix, value)),
        Value::Object(values) => values
            .iter_mut()
            .for_each(|(_, value)| rewrite_value(prefix, value)),
        _ => {}
    }
}
