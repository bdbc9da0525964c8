//! The prompts, and completion of their arguments.

use std::collections::BTreeMap;

use rmcp::ErrorData;
use rmcp::model::*;
use serde_json::Value;

use super::FRESH_FOR_MS;
use super::ask::{form, one_field};
use super::content::PIXEL;
use super::rounds::{elicitation, entered};

pub fn list() -> ListPromptsResult {
    let prompt = |name, about, arguments: &[&str]| {
        let arguments = arguments
            .iter()
            .map(|argument| PromptArgument::new(*argument).with_required(true))
            .map(|argument| argument.with_description("Goes into the prompt as it is"))
            .collect::<Vec<_>>();
        let arguments = (!arguments.is_empty()).then_some(arguments);
        Prompt::new(name, Some(about), arguments)
    };
    ListPromptsResult {
        prompts: vec![
            prompt("test_simple_prompt", "One line", &[]),
            prompt(
                "test_prompt_with_arguments",
                "Two arguments in one line",
                &["arg1", "arg2"],
            ),
            prompt(
                "test_prompt_with_embedded_resource",
                "Carries a resource",
                &["resourceUri"],
            ),
            prompt("test_prompt_with_image", "Carries an image", &[]),
            prompt(
                "test_input_required_result_prompt",
                "Needs input before it is made",
                &[],
            ),
        ],
        ..Default::default()
    }
    .with_ttl_ms(FRESH_FOR_MS)
    .with_cache_scope(CacheScope::Public)
}

pub fn get(request: GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let arguments = request.arguments.unwrap_or_default();
    let argument = |name: &str| {
        arguments
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let text = |text: String| PromptMessage::new_text(Role::User, text);
    let messages = match request.name.as_str() {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.".to_owned())],
        "test_prompt_with_arguments" => vec![text(format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1"),
            argument("arg2")
        ))],
        "test_prompt_with_embedded_resource" => {
            let resource = ResourceContents::text(
                "Embedded resource content for testing.",
                argument("resourceUri"),
            );
            let resource = ContentBlock::resource(resource.with_mime_type("text/plain"));
            vec![
                PromptMessage::new(Role::User, resource),
                text("Please process the embedded resource above.".to_owned()),
            ]
        }
        "test_prompt_with_image" => vec![
            PromptMessage::new(Role::User, ContentBlock::image(PIXEL, "image/png")),
            text("Please analyze the image above.".to_owned()),
        ],
        "test_input_required_result_prompt" => {
            let answers = request.input_responses.unwrap_or_default();
            match answers.get("user_context").and_then(Value::as_object) {
                Some(answer) => vec![text(format!("Given {}", entered(answer, "context")))],
                None => return Ok(ask_for_context().into()),
            }
        }
        other => {
            let why = format!("no prompt is called {other:?}");
            return Err(ErrorData::invalid_params(why, None));
        }
    };
    Ok(GetPromptResult::new(messages).into())
}

fn ask_for_context() -> InputRequiredResult {
    let question = "What context should the prompt use?";
    let question = elicitation(form(question, one_field("context", "string")));
    InputRequiredResult::from_input_requests(BTreeMap::from([(
        "user_context".to_owned(),
        question,
    )]))
}

/// Completes from a short list of words, by what has been typed so far.
pub fn complete(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let typed = request.argument.value.as_str();
    let values = [
        "paris",
        "park",
        "party",
        "test://static-text",
        "test://static-binary",
    ]
    .into_iter()
    .filter(|word| word.starts_with(typed))
    .map(str::to_owned)
    .collect();
    CompletionInfo::with_all_values(values)
        .map(CompleteResult::new)
        .map_err(|error| ErrorData::internal_error(error, None))
}
