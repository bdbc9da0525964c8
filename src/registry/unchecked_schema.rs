//! Stands for [compiled schemas](super::schema) without the feature `json-schema`.

use rmcp::model::JsonObject;
use serde_json::Value;

/// A compiled schema, which cannot exist here.
pub(super) enum Schema {}

impl Schema {
    pub(super) fn compile(_schema: &JsonObject) -> Result<Self, String> {
        let reason = "it cannot be checked: enable the feature `json-schema` of rmcp-layers, or call \
                      `unchecked_schemas` if the handler checks it";
        Err(reason.to_owned())
    }

    pub(super) fn failures(&self, _value: &Value) -> Option<String> {
        match *self {}
    }
}
