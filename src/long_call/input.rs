//! Requests for input as requests of a server, and their answers.

use rmcp::model::{InputRequest, ServerRequest};
#[cfg(feature = "delegate")]
use {
    crate::Error,
    rmcp::model::{ClientResult, ErrorData},
    serde::de::DeserializeOwned,
    serde_json::Value,
};

/// Returns the request of a server that asks for this input. Returns `None` if its kind is not
/// known.
pub(crate) fn into_server_request(request: InputRequest) -> Option<ServerRequest> {
    match request {
        InputRequest::CreateMessage(request) => Some(ServerRequest::CreateMessageRequest(request)),
        InputRequest::Elicitation(request) => Some(ServerRequest::ElicitRequest(request)),
        InputRequest::ListRoots(request) => Some(ServerRequest::ListRootsRequest(request)),
        _ => None,
    }
}

/// Returns the result that answers a request for input.
#[cfg(feature = "delegate")]
pub(crate) fn client_result(request: &InputRequest, answer: Value) -> Result<ClientResult, Error> {
    match request {
        InputRequest::CreateMessage(_) => read(answer).map(ClientResult::CreateMessageResult),
        InputRequest::Elicitation(_) => read(answer).map(ClientResult::ElicitResult),
        InputRequest::ListRoots(_) => read(answer).map(ClientResult::ListRootsResult),
        _ => {
            Err(ErrorData::invalid_params("the request for input is of no known kind", None).into())
        }
    }
}

#[cfg(feature = "delegate")]
fn read<T: DeserializeOwned>(answer: Value) -> Result<T, Error> {
    serde_json::from_value(answer).map_err(|error| {
        let message = format!("the answer does not fit its request: {error}");
        ErrorData::invalid_params(message, None).into()
    })
}
