//! Tools that ask the client something while the call is open, as the revisions before 2026-07-28
//! do, and the forms that every way of asking shares.

use rmcp::ErrorData;
use rmcp::model::*;
use rmcp::service::ServiceError;
use serde_json::{Value, json};

use super::{Call, said};

pub async fn answer(call: &Call<'_>) -> Option<Result<CallToolResult, ErrorData>> {
    Some(match call.name {
        "test_sampling" => sample(call).await,
        "test_elicitation" => {
            let message = call.text("message", "Who are you?");
            elicit(call, "User response", form(message, contact())).await
        }
        "test_elicitation_sep1034_defaults" => {
            let form = form("Every field has a default.", with_defaults());
            elicit(call, "Elicitation completed", form).await
        }
        "test_elicitation_sep1330_enums" => {
            let form = form("Choose.", choices());
            elicit(call, "Elicitation completed", form).await
        }
        "test_missing_capability" => match call.capabilities().sampling {
            Some(_) => Ok(said("The client can sample.")),
            None => Err(ErrorData::missing_required_client_capability(
                ClientCapabilities::builder().enable_sampling().build(),
            )),
        },
        _ => return None,
    })
}

/// Elicitation in form mode, from a schema written as JSON.
pub fn form(message: &str, schema: Value) -> ElicitRequestParams {
    ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema: serde_json::from_value(schema)
            .expect("the schemas in this crate are elicitation schemas"),
    }
}

/// The schema of a form with one required field.
pub fn one_field(name: &str, kind: &str) -> Value {
    json!({ "type": "object", "properties": { name: { "type": kind } }, "required": [name] })
}

async fn sample(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let prompt = SamplingMessage::user_text(call.text("prompt", "Say something."));
    let request = CreateMessageRequestParams::new(vec![prompt], 100);
    Ok(match call.context.peer.create_message(request).await {
        Ok(result) => {
            let text = result
                .message
                .content
                .first()
                .and_then(|block| block.as_text());
            let text = text.map_or("(no text)", |text| text.text.as_str());
            said(format!("LLM response: {text}"))
        }
        Err(error) => unanswered("sampling", &error),
    })
}

async fn elicit(
    call: &Call<'_>,
    heading: &str,
    form: ElicitRequestParams,
) -> Result<CallToolResult, ErrorData> {
    Ok(match call.context.peer.create_elicitation(form).await {
        Ok(result) => {
            let action = serde_json::to_value(&result.action).unwrap_or_default();
            let action = action.as_str().unwrap_or("unknown");
            let content = result.content.unwrap_or_default();
            said(format!("{heading}: action={action}, content={content}"))
        }
        Err(error) => unanswered("elicitation", &error),
    })
}

fn unanswered(what: &str, error: &ServiceError) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("{what} failed: {error}"))])
}

fn contact() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        },
        "required": ["username", "email"],
    })
}

fn with_defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true },
        },
    })
}

fn choices() -> Value {
    let untitled = json!(["option1", "option2", "option3"]);
    let titled = |noun: &str| {
        json!([
            { "const": "value1", "title": format!("First {noun}") },
            { "const": "value2", "title": format!("Second {noun}") },
            { "const": "value3", "title": format!("Third {noun}") },
        ])
    };
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": untitled },
            "titledSingle": { "type": "string", "oneOf": titled("Option") },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": untitled } },
            "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
        },
    })
}
