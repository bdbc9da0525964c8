//! Compiled schemas and validation.

use std::fmt::Write;

use jsonschema::Validator;
use rmcp::model::JsonObject;
use serde_json::Value;

use crate::util::text::boundary;

/// Maximum depth of a schema, and maximum number of its values. Each call walks the schema, so
/// callers could cause high costs (MCP 2026-07-28, "Composition-Keyword Resource Use").
const MAX_DEPTH: usize = 64;
const MAX_VALUES: usize = 20_000;
/// Maximum number of failures in one response, and the maximum length of each, in bytes.
const MAX_FAILURES: usize = 5;
const MAX_FAILURE_BYTES: usize = 400;

/// A compiled schema. References resolve within the schema and the published dialects only. It
/// never loads documents from the network or from files.
#[derive(Debug)]
pub(crate) struct Schema(Validator);

impl Schema {
    /// Compiles a schema: JSON Schema 2020-12, or the dialect its `$schema` names.
    pub(crate) fn compile(schema: &JsonObject) -> Result<Self, String> {
        let schema = Value::Object(schema.clone());
        let mut values = 0;
        measure(&schema, 0, &mut values)?;
        let compiled = jsonschema::options().offline().build(&schema);
        compiled.map(Self).map_err(|error| {
            let path = error.instance_path().as_str();
            let place = if path.is_empty() { "/" } else { path };
            shortened(format!("at {place}: {error}"))
        })
    }

    /// Returns `true` if a value is valid.
    #[cfg(feature = "budget")]
    pub(crate) fn is_valid(&self, value: &Value) -> bool {
        self.0.is_valid(value)
    }

    /// Returns the failures of a value: for each, the path in the value and the path of the rule.
    pub(crate) fn failures(&self, value: &Value) -> Option<String> {
        if self.0.is_valid(value) {
            return None;
        }
        let mut said = String::new();
        for (index, error) in self.0.iter_errors(value).enumerate() {
            if index == MAX_FAILURES {
                said.push_str("\n- and more");
                break;
            }
            let path = error.instance_path().as_str();
            let place = if path.is_empty() { "/" } else { path };
            let line = shortened(format!("{error} (rule {})", error.schema_path()));
            let _ = write!(said, "\n- at {place}: {line}");
        }
        Some(said)
    }
}

fn measure(value: &Value, depth: usize, values: &mut usize) -> Result<(), String> {
    *values += 1;
    if *values > MAX_VALUES {
        return Err(format!("it consists of more than {MAX_VALUES} values"));
    }
    if depth > MAX_DEPTH {
        return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
    }
    match value {
        Value::Object(members) => members
            .values()
            .try_for_each(|member| measure(member, depth + 1, values)),
        Value::Array(items) => items
            .iter()
            .try_for_each(|item| measure(item, depth + 1, values)),
        _ => Ok(()),
    }
}

/// Shortens a long value that is quoted in a message.
fn shortened(mut message: String) -> String {
    if message.len() <= MAX_FAILURE_BYTES {
        return message;
    }
    let head = boundary(&message, MAX_FAILURE_BYTES / 2);
    let tail = boundary(&message, message.len() - MAX_FAILURE_BYTES / 2);
    message.replace_range(head..tail, " … ");
    message
}
