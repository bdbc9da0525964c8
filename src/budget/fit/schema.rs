use std::sync::OnceLock;

use serde_json::Value;

use crate::util::schema::Schema;

/// The output schema of a tool.
#[derive(Debug)]
pub(crate) struct OutputSchema {
    pub(super) json: Value,
    /// `None` if it cannot be compiled. Then no value is valid.
    compiled: OnceLock<Option<Schema>>,
}

impl OutputSchema {
    /// Creates the schema. It is compiled when a result of the tool is cut.
    pub(crate) fn new(schema: Value) -> Self {
        Self {
            json: schema,
            compiled: OnceLock::new(),
        }
    }

    /// Returns `true` if a value is valid by the schema.
    pub(super) fn is_valid(&self, value: &Value) -> bool {
        let compile = || Schema::compile(self.json.as_object()?).ok();
        let compiled = self.compiled.get_or_init(compile).as_ref();
        compiled.is_some_and(|schema| schema.is_valid(value))
    }
}
