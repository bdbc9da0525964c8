//! Tools that need input before they can finish, asked for in their result (multi round-trip
//! requests, 2026-07-28): the caller calls again with the answers, and with the state we gave it.

use std::collections::BTreeMap;

use rmcp::ErrorData;
use rmcp::model::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ask::{form, one_field};
use super::{Answer, Call, said};

/// Nobody's secret: what it protects is a test fixture.
const KEY: &[u8] = b"the conformance fixtures keep no secrets at all";
const _: () = assert!(KEY.len() >= RequestStateCodec::MIN_KEY_LENGTH);

/// Seals the state a caller carries for us from one round to the next.
#[derive(Clone)]
pub struct Seal(RequestStateCodec);

impl Default for Seal {
    fn default() -> Self {
        Self(RequestStateCodec::new_unchecked(KEY))
    }
}

/// How many rounds of this call have been answered.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq)]
struct Progress {
    answered: u8,
}

/// What a tool does with this round.
enum Next {
    /// Ask, without keeping state.
    Ask(InputRequests),
    /// Ask, and have the caller carry the state.
    AskAndKeep(InputRequests, Progress),
    Finish(String),
}

pub fn answer(seal: &Seal, call: &Call<'_>) -> Option<Answer> {
    let play: fn(&Call<'_>, Option<Progress>) -> Next = match call.name {
        "test_input_required_result_elicitation" => greeting,
        "test_input_required_result_sampling" => capital,
        "test_input_required_result_list_roots" => roots,
        "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => confirmation,
        "test_input_required_result_multiple_inputs" => all_at_once,
        "test_input_required_result_multi_round" => one_by_one,
        "test_input_required_result_capabilities" => what_the_client_can,
        "test_streaming_elicitation" => value,
        _ => return None,
    };
    // State that was not sealed by us, for this tool, goes no further than here.
    let progress = match seal.open(call) {
        Ok(progress) => progress,
        Err(error) => return Some(Err(error)),
    };
    Some(match play(call, progress) {
        Next::Finish(text) => Ok(said(text).into()),
        Next::Ask(requests) => Ok(InputRequiredResult::from_input_requests(requests).into()),
        Next::AskAndKeep(requests, progress) => seal
            .close(call.name, progress)
            .map(|state| InputRequiredResult::new(Some(requests), Some(state)).into()),
    })
}

impl Seal {
    fn open(&self, call: &Call<'_>) -> Result<Option<Progress>, ErrorData> {
        let Some(sealed) = call.state.as_deref() else {
            return Ok(None);
        };
        let tool = call.name.as_bytes();
        self.0
            .open_json_with(sealed, tool)
            .map(Some)
            .map_err(|_| ErrorData::invalid_params("requestState is not what was sent", None))
    }

    fn close(&self, tool: &str, progress: Progress) -> Result<String, ErrorData> {
        let bound = SealOptions::new().associated_data(tool.as_bytes());
        self.0
            .seal_json_with(&progress, &bound)
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))
    }
}

fn greeting(call: &Call<'_>, _: Option<Progress>) -> Next {
    match answered(call, "user_name") {
        Some(answer) => Next::Finish(format!("Hello, {}!", entered(answer, "name"))),
        None => Next::Ask(BTreeMap::from([name("user_name", "What is your name?")])),
    }
}

fn capital(call: &Call<'_>, _: Option<Progress>) -> Next {
    match answered(call, "capital_question") {
        Some(answer) => Next::Finish(format!("The model says: {}", entered(answer, "text"))),
        None => Next::Ask(BTreeMap::from([prompt(
            "capital_question",
            "What is the capital of France?",
            100,
        )])),
    }
}

fn roots(call: &Call<'_>, _: Option<Progress>) -> Next {
    let Some(answer) = answered(call, "client_roots") else {
        return Next::Ask(BTreeMap::from([list_roots()]));
    };
    let roots = answer.get("roots").and_then(Value::as_array);
    let uris: Vec<_> = roots
        .into_iter()
        .flatten()
        .filter_map(|root| root.get("uri")?.as_str())
        .collect();
    Next::Finish(format!("The client's roots: {}", uris.join(", ")))
}

fn confirmation(_: &Call<'_>, progress: Option<Progress>) -> Next {
    match progress {
        Some(_) => Next::Finish("Confirmed: state-ok".to_owned()),
        None => {
            let confirm = form("Please confirm", one_field("ok", "boolean"));
            let requests = BTreeMap::from([("confirm".to_owned(), elicitation(confirm))]);
            Next::AskAndKeep(requests, Progress { answered: 0 })
        }
    }
}

fn all_at_once(call: &Call<'_>, progress: Option<Progress>) -> Next {
    let wanted = ["user_name", "greeting", "client_roots"];
    if progress.is_some() && wanted.iter().all(|key| answered(call, key).is_some()) {
        return Next::Finish("All three inputs are here.".to_owned());
    }
    let requests = BTreeMap::from([
        name("user_name", "What is your name?"),
        prompt("greeting", "Generate a greeting", 50),
        list_roots(),
    ]);
    Next::AskAndKeep(requests, Progress { answered: 0 })
}

fn one_by_one(call: &Call<'_>, progress: Option<Progress>) -> Next {
    // A round counts only once its question has been answered.
    let answered = match progress.map(|progress| progress.answered) {
        None => 0,
        Some(0) if answered(call, "step1").is_some() => 1,
        Some(1) if answered(call, "step2").is_some() => 2,
        Some(rounds) => rounds,
    };
    let request = match answered {
        0 => name("step1", "Step 1: What is your name?"),
        1 => {
            let question = "Step 2: What is your favorite color?";
            let color = form(question, one_field("color", "string"));
            ("step2".to_owned(), elicitation(color))
        }
        _ => return Next::Finish("Both rounds are done.".to_owned()),
    };
    Next::AskAndKeep(BTreeMap::from([request]), Progress { answered })
}

fn what_the_client_can(call: &Call<'_>, _: Option<Progress>) -> Next {
    let can = call.capabilities();
    let requests: InputRequests = [
        can.elicitation
            .map(|_| name("user_name", "What is your name?")),
        can.sampling
            .map(|_| prompt("greeting", "Generate a greeting", 50)),
        can.roots.map(|_| list_roots()),
    ]
    .into_iter()
    .flatten()
    .collect();
    match requests.is_empty() || call.answers.is_some() {
        true => Next::Finish("Nothing more is needed.".to_owned()),
        false => Next::Ask(requests),
    }
}

fn value(call: &Call<'_>, _: Option<Progress>) -> Next {
    match answered(call, "value") {
        Some(answer) => Next::Finish(format!("Got {}.", entered(answer, "value"))),
        None => {
            let value = form("Provide a value", one_field("value", "string"));
            Next::Ask(BTreeMap::from([("value".to_owned(), elicitation(value))]))
        }
    }
}

/// The answer under `key`, if it is one: anything but an object is asked for again.
pub fn answered<'a>(call: &'a Call<'_>, key: &str) -> Option<&'a JsonObject> {
    call.answers.as_ref()?.get(key)?.as_object()
}

/// What the client filled in under `field`, of an elicitation or a sampling result.
pub fn entered<'a>(answer: &'a JsonObject, field: &str) -> &'a str {
    let content = answer.get("content");
    content
        .and_then(|content| content.get(field)?.as_str())
        .unwrap_or("(nothing)")
}

pub fn elicitation(form: ElicitRequestParams) -> InputRequest {
    InputRequest::Elicitation(ElicitRequest::new(form))
}

/// A question for the client's user, whose answer is a `name`.
pub fn name(key: &str, question: &str) -> (String, InputRequest) {
    let form = form(question, one_field("name", "string"));
    (key.to_owned(), elicitation(form))
}

fn prompt(key: &str, text: &str, max_tokens: u32) -> (String, InputRequest) {
    let message = SamplingMessage::user_text(text);
    let request = CreateMessageRequestParams::new(vec![message], max_tokens);
    let request = InputRequest::CreateMessage(CreateMessageRequest::new(request));
    (key.to_owned(), request)
}

fn list_roots() -> (String, InputRequest) {
    let request = InputRequest::ListRoots(ListRootsRequest::default());
    ("client_roots".to_owned(), request)
}
