//! Repairs tool schemas for official clients, which refuse a whole list over one tool.

use std::sync::Arc;

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

use crate::protocol::unreadable_items::{MAX_REPORTED, UnreadableItem, cut};

/// Keywords that only the schema of an object has.
const OF_OBJECTS: [&str; 4] = [
    "properties",
    "required",
    "additionalProperties",
    "patternProperties",
];

/// Completes the schemas of tools that will share a list with other servers' tools. Removes the
/// tools whose schema does not describe an object, and returns them.
///
/// An `inputSchema` must describe an object (MCP 2026-07-28, Tools, "Tool"). Before that revision,
/// so must an `outputSchema`; since then it may be any schema. An `outputSchema` with neither a
/// type nor keywords of an object stays as it is.
pub(crate) fn complete(tools: &mut Vec<Tool>) -> Vec<UnreadableItem> {
    let mut left_out = Vec::new();
    let mut index = 0;
    tools.retain_mut(|tool| {
        let completed = completed(tool, index, &mut left_out);
        index += 1;
        match completed {
            Ok(None) => true,
            Ok(Some(completed)) => {
                *tool = completed;
                true
            }
            Err(LeftOut) => false,
        }
    });
    left_out
}

/// A tool cannot be listed.
pub(crate) struct LeftOut;

/// Returns a tool as [`complete`] completes it, or `None` if it is complete. One that cannot be
/// listed is added to `left_out`.
pub(crate) fn completed(
    tool: &Tool,
    index: usize,
    left_out: &mut Vec<UnreadableItem>,
) -> Result<Option<Tool>, LeftOut> {
    let completed = match is_complete_tool(tool) {
        true => return Ok(None),
        false => {
            let mut tool = tool.clone();
            complete_tool(&mut tool).map(|()| tool)
        }
    };
    completed.map(Some).map_err(|(field, reason)| {
        if left_out.len() < MAX_REPORTED {
            left_out.push(UnreadableItem {
                method: "tools/list",
                index,
                name: Some(cut(tool.name.to_string())),
                field: Some(field.to_owned()),
                reason: reason.to_owned(),
            });
        }
        LeftOut
    })
}

type Misfit = (&'static str, &'static str);

fn is_complete_tool(tool: &Tool) -> bool {
    let output = tool.output_schema.as_ref();
    is_complete(&tool.input_schema) && output.is_none_or(|schema| !is_to_complete(schema))
}

/// Returns `true` if an `outputSchema` describes an object, and is not complete.
fn is_to_complete(schema: &JsonObject) -> bool {
    let is_of_object = match schema.get("type") {
        None | Some(Value::Null) => OF_OBJECTS.iter().any(|key| schema.contains_key(*key)),
        Some(of) => of == "object",
    };
    is_of_object && !is_complete(schema)
}

fn complete_tool(tool: &mut Tool) -> Result<(), Misfit> {
    if !is_complete(&tool.input_schema) {
        complete_object(&mut tool.input_schema).map_err(|why| ("inputSchema", why))?;
    }
    let output = tool.output_schema.as_mut();
    match output.filter(|schema| is_to_complete(schema)) {
        Some(schema) => complete_object(schema).map_err(|why| ("outputSchema", why)),
        None => Ok(()),
    }
}

/// Returns `true` if the schema needs no repair, as most schemas do.
fn is_complete(schema: &JsonObject) -> bool {
    schema.get("type").is_some_and(|of| of == "object")
        && schema.get("properties").is_none_or(|properties| {
            let properties = properties.as_object();
            properties.is_some_and(|all| all.values().all(Value::is_object))
        })
        && schema.get("required").is_none_or(is_names)
}

fn is_names(required: &Value) -> bool {
    let names = required.as_array();
    names.is_some_and(|names| names.iter().all(Value::is_string))
}

fn complete_object(schema: &mut Arc<JsonObject>) -> Result<(), &'static str> {
    match schema.get("type") {
        None | Some(Value::Null) => {}
        Some(Value::String(of)) if of == "object" => {}
        Some(Value::Array(any)) if any.iter().any(|of| of == "object") => {}
        Some(_) => return Err("it is a schema of something other than an object"),
    }
    let mut completed = JsonObject::new();
    completed.insert("type".to_owned(), json!("object"));
    for (key, value) in schema.iter() {
        let value = match (key.as_str(), value) {
            ("type", _) | ("properties" | "required", Value::Null) => continue,
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter();
                let properties = properties
                    .map(|(name, schema)| Some((name.clone(), as_object(schema)?)))
                    .collect::<Option<JsonObject>>();
                Value::Object(properties.ok_or("one of its `properties` is not a schema")?)
            }
            // An empty object, in languages that have arrays for both.
            ("properties", Value::Array(none)) if none.is_empty() => json!({}),
            ("properties", _) => return Err("its `properties` are not an object"),
            ("required", required) if !is_names(required) => {
                return Err("its `required` is not a list of names");
            }
            (_, value) => value.clone(),
        };
        completed.insert(key.clone(), value);
    }
    *schema = Arc::new(completed);
    Ok(())
}

/// A schema as an object: `true` and `false` are schemas too (JSON Schema 2020-12, section 4.3.2).
fn as_object(schema: &Value) -> Option<Value> {
    match schema {
        Value::Object(_) => Some(schema.clone()),
        Value::Bool(true) => Some(json!({})),
        Value::Bool(false) => Some(json!({ "not": {} })),
        _ => None,
    }
}
