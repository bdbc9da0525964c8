//! Multi-round requests (MCP 2026-07-28, SEP-2322): the server answers with requests for input, and
//! the client sends the request again with the answers.

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
    CreateTaskResult, ErrorData, GetPromptRequest, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, InputRequiredResult, InputResponses, ReadResourceRequest,
    ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, ServerResult,
};

use super::{LongCall, Wanted, WantedBy};
use crate::{
    Delivered, Error, Refusal, code,
    protocol::{
        mrtr::{EMPTY_ROUND, too_many_rounds},
        results,
    },
};

/// The maximum number of inputs that a server may request in one round.
const MAX_INPUTS: usize = 100;

/// The params of a multi-round request.
pub(crate) trait Rounds: Clone + Send {
    /// The result of the last round.
    type End;

    fn into_request(self) -> ClientRequest;
    fn answer(&mut self, responses: Option<InputResponses>, state: Option<String>);
    fn read(result: ServerResult) -> Result<Round<Self::End>, Error>;
}

/// The result of a round.
pub(crate) enum Round<T> {
    Last(T),
    Wants(InputRequiredResult),
}

/// The result of the last round of a tool call.
pub(crate) enum ToolEnd {
    Result(CallToolResult),
    Task(CreateTaskResult),
}

macro_rules! rounds {
    ($($Params:ident $Request:ident $Response:ident -> $End:ty {
        $($Variant:ident => $wrap:expr),*
    })*) => {$(
        impl Rounds for $Params {
            type End = $End;

            fn into_request(self) -> ClientRequest {
                $Request::new(self).into()
            }

            fn answer(&mut self, responses: Option<InputResponses>, state: Option<String>) {
                self.input_responses = responses;
                self.request_state = state;
            }

            fn read(result: ServerResult) -> Result<Round<$End>, Error> {
                match results::expect(result)? {
                    $($Response::$Variant(end) => Ok(Round::Last($wrap(end))),)*
                    $Response::InputRequired(wants) => Ok(Round::Wants(wants)),
                    _ => Err(ErrorData::internal_error("the server's answer is of no known kind", None).into()),
                }
            }
        }
    )*};
}

rounds! {
    CallToolRequestParams CallToolRequest CallToolResponse -> ToolEnd {
        Complete => ToolEnd::Result, Task => ToolEnd::Task
    }
    GetPromptRequestParams GetPromptRequest GetPromptResponse -> GetPromptResult {
        Complete => std::convert::identity
    }
    ReadResourceRequestParams ReadResourceRequest ReadResourceResponse -> ReadResourceResult {
        Complete => std::convert::identity
    }
}

/// Repeats the request until the server has no more requests for input.
pub(crate) async fn run_rounds<P: Rounds + Sync>(
    call: &impl LongCall,
    params: P,
) -> Result<P::End, Error> {
    run_rounds_of(call, params.clone(), || Ok(params.clone())).await
}

/// Does the same with params that are made again for each further round: most calls have only one.
pub(crate) async fn run_rounds_of<P: Rounds>(
    call: &impl LongCall,
    mut params: P,
    again: impl Fn() -> Result<P, Error> + Send + Sync,
) -> Result<P::End, Error> {
    let mut empty_rounds = 0;
    let most = call.max_rounds();
    for answered in 0.. {
        let result = call.request(params.into_request()).await?;
        let wants = match P::read(result)? {
            Round::Last(end) => return Ok(end),
            Round::Wants(wants) => wants,
        };
        if answered == most {
            break;
        }
        params = again()?;
        let request_state = wants.request_state;
        let requests = wants.input_requests.unwrap_or_default();
        if requests.is_empty() {
            tokio::time::sleep(EMPTY_ROUND.delay(empty_rounds)).await;
            empty_rounds += 1;
            params.answer(None, request_state);
        } else {
            empty_rounds = 0;
            let by = WantedBy::Round {
                request_state: request_state.clone(),
            };
            let responses = answers(call, Wanted { requests, by }).await?;
            params.answer(Some(responses), request_state);
        }
    }
    Err(too_many_rounds(most))
}

/// Gets the answers to a bounded number of requests.
pub(super) async fn answers(call: &impl LongCall, wanted: Wanted) -> Result<InputResponses, Error> {
    if wanted.requests.len() > MAX_INPUTS {
        let message = format!("the server asks for more than {MAX_INPUTS} inputs at once");
        return Err(Refusal::new("mrtr", message)
            .with_code(code::FORBIDDEN)
            .with_delivered(Delivered::Unknown)
            .into());
    }
    call.answers(wanted).await
}
