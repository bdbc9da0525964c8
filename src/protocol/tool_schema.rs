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
///
/// The tools stand in values of any type, and `complete` completes one.
pub(crate) fn complete_each<T>(
    tools: &mut Vec<T>,
    tool: impl Fn(&T) -> &Tool,
    mut complete: impl FnMut(&mut T) -> Result<(), Misfit>,
) -> Vec<UnreadableItem> {
    let mut left_out = Vec::new();
    let mut index = 0;
    tools.retain_mut(|one| {
        let misfit = complete(one).err();
        if let Some(misfit) = misfit {
            leave_out(&mut left_out, tool(one), index, misfit);
        }
        index += 1;
        misfit.is_none()
    });
    left_out
}

/// A tool cannot be listed.
pub(crate) struct LeftOut;

/// Returns a tool as [`complete_tool`] completes it, or `None` if it needs no repair. One that cannot be
/// listed is added to `left_out`.
pub(crate) fn completed(
    tool: &Tool,
    index: usize,
    left_out: &mut Vec<UnreadableItem>,
) -> Result<Option<Tool>, LeftOut> {
    if is_whole(tool) {
        return Ok(None);
    }
    let mut completed = tool.clone();
    match complete_tool(&mut completed) {
        Ok(()) => Ok(Some(completed)),
        Err(misfit) => {
            leave_out(left_out, tool, index, misfit);
            Err(LeftOut)
        }
    }
}

fn leave_out(
    left_out: &mut Vec<UnreadableItem>,
    tool: &Tool,
    index: usize,
    (field, reason): Misfit,
) {
    if left_out.len() < MAX_REPORTED {
        left_out.push(UnreadableItem {
            method: "tools/list",
            index,
            name: Some(cut(tool.name.to_string())),
            field: Some(field.to_owned()),
            reason: reason.to_owned(),
        });
    }
}

/// The member of a tool that does not describe an object, and the reason.
pub(crate) type Misfit = (&'static str, &'static str);

/// Returns `true` if a tool's schemas need no repair, as most do.
pub(crate) fn is_whole(tool: &Tool) -> bool {
    is_complete(&tool.input_schema)
        && tool
            .output_schema
            .as_ref()
            .is_none_or(|schema| !is_of_object(schema) || is_complete(schema))
}

pub(crate) fn complete_tool(tool: &mut Tool) -> Result<(), Misfit> {
    if !is_complete(&tool.input_schema) {
        complete_object(&mut tool.input_schema).map_err(|why| ("inputSchema", why))?;
    }
    let output = tool.output_schema.as_mut();
    let output = output.filter(|schema| is_of_object(schema) && !is_complete(schema));
    match output {
        Some(schema) => complete_object(schema).map_err(|why| ("outputSchema", why)),
        None => Ok(()),
    }
}

/// Returns `true` if an `outputSchema` describes an object.
fn is_of_object(schema: &JsonObject) -> bool {
    match schema.get("type") {
        None | Some(Value::Null) => OF_OBJECTS.iter().any(|key| schema.contains_key(*key)),
        Some(of) => of == "object",
    }
}

/// Returns `true` if the schema needs no repair.
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
