//! Multi-round requests (MCP 2026-07-28, SEP-2322) for older callers. The questions of the server
//! become requests of older revisions.

use rmcp::model::{
    ClientCapabilities, ClientRequest, ClientResult, DEFAULT_MRTR_MAX_ROUNDS, InputRequest,
    InputRequiredResult, InputResponses, ServerResult,
};
use serde_json::Value;

use super::call::UpstreamCall;
use crate::{
    CallContext, Caller, Delivered, Error, McpRequest, McpResponse, Refusal, code,
    long_call::into_server_request,
    protocol::{methods, mrtr},
};

/// Runs a request of an older caller to its end.
pub(super) async fn run(call: &UpstreamCall, request: McpRequest) -> Result<McpResponse, Error> {
    let mut round = request.clone();
    let mut empty = 0;
    for _ in 0..=DEFAULT_MRTR_MAX_ROUNDS {
        let response = call.run(round).await?;
        let ServerResult::InputRequiredResult(wanted) = &*response.result else {
            return Ok(response);
        };
        let answers = ask(&request.context, wanted).await?;
        if answers.is_empty() {
            // The server only wants to be asked again.
            tokio::time::sleep(mrtr::EMPTY_ROUND.delay(empty)).await;
            empty += 1;
        }
        round = request.clone();
        if !resume(&mut round.message, answers, wanted.request_state.clone()) {
            return Ok(response);
        }
    }
    Err(mrtr::too_many_rounds(DEFAULT_MRTR_MAX_ROUNDS))
}

/// Puts the answers, and the server's unchanged state, into the next round's request.
fn resume(message: &mut ClientRequest, answers: InputResponses, state: Option<String>) -> bool {
    let Some(round) = methods::round(message) else {
        return false;
    };
    *round.input_responses = (!answers.is_empty()).then_some(answers);
    *round.request_state = state;
    true
}

async fn ask(context: &CallContext, wanted: &InputRequiredResult) -> Result<InputResponses, Error> {
    let capabilities = context.client_capabilities().unwrap_or_default();
    let mut answers = InputResponses::new();
    for (key, request) in wanted.input_requests.iter().flatten() {
        check(&capabilities, request)?;
        answers.insert(key.clone(), answer(&context.caller, request).await?);
    }
    Ok(answers)
}

async fn answer(caller: &Caller, request: &InputRequest) -> Result<Value, Error> {
    let Some(request) = into_server_request(request.clone()) else {
        return Err(unanswerable(
            "the server wants input of a kind this version does not know",
        ));
    };
    let result: ClientResult = caller.request(request).await?;
    serde_json::to_value(result).map_err(|error| unanswerable(&error.to_string()))
}

/// Returns an error if the server asks for a capability that the caller did not claim.
fn check(capabilities: &ClientCapabilities, request: &InputRequest) -> Result<(), Error> {
    let missing = match request {
        InputRequest::CreateMessage(_) if capabilities.sampling.is_none() => "sampling",
        InputRequest::Elicitation(_) if capabilities.elicitation.is_none() => "elicitation",
        InputRequest::ListRoots(_) if capabilities.roots.is_none() => "roots",
        _ => return Ok(()),
    };
    Err(unanswerable(&format!(
        "the server wants input by {missing}, which this client did not declare"
    )))
}

fn unanswerable(why: &str) -> Error {
    Refusal::new("mrtr", why.to_owned())
        .with_code(code::FORBIDDEN)
        .with_delivered(Delivered::Unknown)
        .into()
}
