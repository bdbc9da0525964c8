//! The tools as `tools/list` shows them. What each does is in the module that answers it.

use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};

/// Tools that take no arguments.
const PLAIN: &[(&str, &str)] = &[
    ("test_simple_text", "One text block"),
    ("test_image_content", "One image block"),
    ("test_audio_content", "One audio block"),
    ("test_embedded_resource", "One embedded resource"),
    (
        "test_multiple_content_types",
        "Text, an image and a resource in one result",
    ),
    ("test_error_handling", "A result with isError set"),
    ("test_tool_with_logging", "Logs three times while it runs"),
    (
        "test_tool_with_progress",
        "Reports progress at 0, 50 and 100",
    ),
    (
        "test_logging_tool",
        "Logs only if the request asks for a log level",
    ),
    (
        "test_reconnection",
        "Runs long enough for a client to lose and find its stream",
    ),
    (
        "test_trigger_tool_change",
        "Tells listeners that the tools changed",
    ),
    (
        "test_trigger_prompt_change",
        "Tells listeners that the prompts changed",
    ),
    (
        "test_elicitation_sep1034_defaults",
        "Elicits a form whose every field has a default",
    ),
    (
        "test_elicitation_sep1330_enums",
        "Elicits a form with each kind of choice",
    ),
    (
        "test_missing_capability",
        "Refuses a client that cannot sample",
    ),
    (
        "test_streaming_elicitation",
        "Needs a value, asked for in its result",
    ),
    ("test_input_required_result_elicitation", "Needs a name"),
    (
        "test_input_required_result_sampling",
        "Needs a model's answer",
    ),
    (
        "test_input_required_result_list_roots",
        "Needs the client's roots",
    ),
    (
        "test_input_required_result_request_state",
        "Needs a confirmation, and its state back",
    ),
    (
        "test_input_required_result_tampered_state",
        "Needs its state back as it was sent",
    ),
    (
        "test_input_required_result_multiple_inputs",
        "Needs three inputs at once",
    ),
    (
        "test_input_required_result_multi_round",
        "Needs two inputs, one after the other",
    ),
    (
        "test_input_required_result_capabilities",
        "Needs what the client says it can give",
    ),
    ("failing_job", "A task that ends with isError set"),
    ("protocol_error_job", "A task that ends in a JSON-RPC error"),
    ("multi_input", "A task that waits for two inputs at once"),
    (
        "test_tool_with_task",
        "Needs a name first, then becomes a task",
    ),
];

/// Every tool, in an order that never changes (2026-07-28 asks for that).
pub fn tools() -> Vec<Tool> {
    let plain = PLAIN
        .iter()
        .map(|(name, about)| tool(name, about, json!({ "type": "object", "properties": {} })));
    plain.chain(with_arguments()).collect()
}

fn with_arguments() -> [Tool; 7] {
    [
        tool(
            "test_sampling",
            "Has the client's model answer a prompt",
            strings(&["prompt"], &["prompt"]),
        ),
        tool(
            "test_elicitation",
            "Has the client's user fill in a form",
            strings(&["message"], &["message"]),
        ),
        tool(
            "test_custom_header",
            "Repeats a value that must also arrive as an HTTP header",
            json!({
                "type": "object",
                "properties": { "value": { "type": "string", "x-mcp-header": "Value" } },
                "required": ["value"],
            }),
        ),
        tool("greet", "Greets, at once", strings(&["name"], &["name"])),
        tool(
            "slow_compute",
            "A task that takes the given number of seconds",
            json!({
                "type": "object",
                "properties": { "seconds": { "type": "number" }, "label": { "type": "string" } },
            }),
        ),
        tool(
            "confirm_delete",
            "A task that waits for a confirmation",
            strings(&["filename"], &[]),
        ),
        tool(
            "json_schema_2020_12_tool",
            "Has a schema only JSON Schema 2020-12 can express",
            schema_2020_12(),
        ),
    ]
}

fn tool(name: &'static str, about: &'static str, schema: Value) -> Tool {
    Tool::new(name, about, object(schema))
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        other => unreachable!("a tool's schema is written here as an object, not {other}"),
    }
}

fn strings(names: &[&str], required: &[&str]) -> Value {
    let properties: JsonObject = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "type": "string" })))
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

/// The keywords a model of JSON Schema could lose on the way: each must come through as written.
fn schema_2020_12() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    })
}
