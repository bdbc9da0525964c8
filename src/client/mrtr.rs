//! Multi-round requests (MCP 2026-07-28, SEP-2322): the server answers with requests for input, and
//! the client sends the request again with the answers.

use futures::future::try_join_all;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResponse, CallToolResult, ClientRequest,
    CreateTaskResult, ErrorData, GetPromptRequest, GetPromptRequestParams, GetPromptResponse,
    GetPromptResult, InputRequest, InputRequests, InputRequiredResult, InputResponses,
    ReadResourceRequest, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    RequestId, ServerRequest, ServerResult,
};
use serde_json::Value;

use super::{McpClient, call::ClientCall};
use crate::{
    Delivered, Error, Refusal, Stack, code,
    protocol::{
        mrtr::{EMPTY_ROUND, too_many_rounds},
        results,
    },
};

/// The maximum number of inputs that a server may request in one round.
const MAX_INPUTS: usize = 100;

/// The params of a multi-round request.
pub(super) trait Rounds: Clone + Send {
    /// The result of the last round.
    type End;

    fn into_request(self) -> ClientRequest;
    fn answer(&mut self, responses: Option<InputResponses>, state: Option<String>);
    fn read(result: ServerResult) -> Result<Round<Self::End>, Error>;
}

/// The result of a round.
pub(super) enum Round<T> {
    Last(T),
    Wants(InputRequiredResult),
}

/// The result of the last round of a tool call.
pub(super) enum ToolEnd {
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

impl<S: Stack> ClientCall<'_, S> {
    /// Repeats the request until the server has no more requests for input.
    pub(super) async fn rounds<P: Rounds>(&self, mut params: P) -> Result<P::End, Error> {
        let mut empty_rounds = 0;
        let most = self.client.shared.mrtr_max_rounds;
        for answered in 0.. {
            let result = self.request(params.clone().into_request()).await?;
            let wants = match P::read(result)? {
                Round::Last(end) => return Ok(end),
                Round::Wants(wants) => wants,
            };
            if answered == most {
                break;
            }
            let requests = wants.input_requests.unwrap_or_default();
            if requests.is_empty() {
                tokio::time::sleep(EMPTY_ROUND.delay(empty_rounds)).await;
                empty_rounds += 1;
                params.answer(None, wants.request_state);
            } else {
                empty_rounds = 0;
                let responses = self.client.answers(requests).await?;
                params.answer(Some(responses), wants.request_state);
            }
        }
        Err(too_many_rounds(most))
    }
}

impl<S> McpClient<S> {
    /// Lets the handler answer a server's requests for input, concurrently.
    pub(super) async fn answers(&self, requests: InputRequests) -> Result<InputResponses, Error> {
        if requests.len() > MAX_INPUTS {
            let message = format!("the server asks for more than {MAX_INPUTS} inputs at once");
            return Err(Refusal::new("mrtr", message)
                .with_code(code::FORBIDDEN)
                .with_delivered(Delivered::Unknown)
                .into());
        }
        let answers = requests.into_iter().map(|(key, request)| async {
            let answer = self.answer(&key, request).await?;
            Ok::<_, Error>((key, answer))
        });
        Ok(try_join_all(answers).await?.into_iter().collect())
    }

    async fn answer(&self, key: &str, request: InputRequest) -> Result<Value, Error> {
        let Some(handler) = self.shared.handler.clone() else {
            return Err(unanswered());
        };
        let request = match request {
            InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
            InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
            InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
            _ => {
                let message = "the server asks for a kind of input that this client does not know";
                return Err(Refusal::new("mrtr", message)
                    .with_code(code::FORBIDDEN)
                    .with_delivered(Delivered::Unknown)
                    .into());
            }
        };
        let result = handler
            .request(request, RequestId::String(key.into()))
            .await?;
        serde_json::to_value(result).map_err(|error| {
            let message = format!("the handler's answer cannot be sent: {error}");
            ErrorData::internal_error(message, None).into()
        })
    }
}

fn unanswered() -> Error {
    let message = "the server asks for input and this client has no handler: give it one \
                   (`McpClient::builder(..).handler(..)`), or answer by hand what the `once` variant of \
                   the call returns";
    Refusal::new("mrtr", message)
        .with_code(code::FORBIDDEN)
        .with_delivered(Delivered::Unknown)
        .into()
}
