//! Tools that answer from what they are given, at once: one for each kind of content.

use rmcp::ErrorData;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::json;

use super::{Call, said};

/// A one-pixel PNG.
pub const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8/5+hHgAHggJ/PchI7wAAAABJRU5ErkJggg==";

/// A WAV header with no sound after it.
const SILENCE: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQAAAAA=";

pub fn answer(call: &Call<'_>) -> Option<Result<CallToolResult, ErrorData>> {
    let blocks = match call.name {
        "test_simple_text" => vec![ContentBlock::text(
            "This is a simple text response for testing.",
        )],
        "test_image_content" => vec![ContentBlock::image(PIXEL, "image/png")],
        "test_audio_content" => vec![ContentBlock::audio(SILENCE, "audio/wav")],
        "test_embedded_resource" => vec![ContentBlock::resource(
            ResourceContents::text(
                "This is an embedded resource content.",
                "test://embedded-resource",
            )
            .with_mime_type("text/plain"),
        )],
        "test_multiple_content_types" => vec![
            ContentBlock::text("Multiple content types test:"),
            ContentBlock::image(PIXEL, "image/png"),
            ContentBlock::resource(
                ResourceContents::text(
                    json!({ "test": "data", "value": 123 }).to_string(),
                    "test://mixed-content-resource",
                )
                .with_mime_type("application/json"),
            ),
        ],
        "test_error_handling" => {
            return Some(Ok(CallToolResult::error(vec![ContentBlock::text(
                "This tool intentionally returns an error for testing",
            )])));
        }
        "json_schema_2020_12_tool" => {
            return Some(Ok(said(format!("Hello, {}!", call.text("name", "world")))));
        }
        "greet" => return Some(Ok(said(format!("Hello, {}!", call.text("name", "world"))))),
        "test_custom_header" => return Some(repeat_value(call)),
        _ => return None,
    };
    Some(Ok(CallToolResult::success(blocks)))
}

fn repeat_value(call: &Call<'_>) -> Result<CallToolResult, ErrorData> {
    let value = call.arguments.get("value").and_then(|value| value.as_str());
    value
        .map(said)
        .ok_or_else(|| ErrorData::invalid_params("`value` must be a string", None))
}
