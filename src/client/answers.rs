//! Answers of the client's handler to a server's requests for input.

use futures::future::try_join_all;
use rmcp::model::{ErrorData, InputRequest, InputRequests, InputResponses, RequestId};
use serde_json::Value;

use super::McpClient;
use crate::{Delivered, Error, Refusal, code, long_call::into_server_request};

impl<S> McpClient<S> {
    /// Lets the handler answer a server's requests for input, concurrently.
    pub(super) async fn answers(&self, requests: InputRequests) -> Result<InputResponses, Error> {
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
        let Some(request) = into_server_request(request) else {
            let message = "the server asks for a kind of input that this client does not know";
            return Err(Refusal::new("mrtr", message)
                .with_code(code::FORBIDDEN)
                .with_delivered(Delivered::Unknown)
                .into());
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
