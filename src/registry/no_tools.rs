use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use rmcp::model::{
    ClientRequest, DiscoverResult, EmptyResult, ErrorCode, ErrorData, Implementation,
    ListToolsResult, ProtocolVersion, ServerCapabilities, ServerConfig, ServerResult,
};
use tower::Service;

use crate::{Error, McpRequest, McpResponse};

/// A service without tools, under a [`RegistryLayer`](super::RegistryLayer) in a server whose tools
/// are all registered.
///
/// It returns its own server info and an empty tool list. A `tools/call` is answered with "unknown
/// tool" (-32602), and any other request with "method not found" (-32601).
#[derive(Clone, Debug)]
pub struct NoTools {
    config: ServerConfig,
}

impl NoTools {
    /// Creates a server of this name and version, without tools.
    pub fn new(info: Implementation) -> Self {
        Self {
            config: ServerConfig::new(ServerCapabilities::default()).with_server_info(info),
        }
    }

    /// Sets the server's instructions for models. Default: none.
    #[must_use]
    pub fn with_instructions(mut self, instructions: impl Into<String>) -> Self {
        self.config.instructions = Some(instructions.into());
        self
    }

    fn answer(&self, request: &McpRequest) -> Result<McpResponse, Error> {
        if request.as_notification().is_some() {
            return Ok(McpResponse::new(EmptyResult {}));
        }
        match &*request.message {
            ClientRequest::DiscoverRequest(_) => {
                let versions = ProtocolVersion::KNOWN_VERSIONS.to_vec();
                let result = DiscoverResult::from_server_info(versions, self.config.clone());
                Ok(McpResponse::new(ServerResult::DiscoverResult(result)))
            }
            ClientRequest::PingRequest(_) => Ok(McpResponse::new(EmptyResult {})),
            ClientRequest::ListToolsRequest(_) => Ok(McpResponse::new(ListToolsResult::default())),
            ClientRequest::CallToolRequest(call) => Err(unknown_tool(&call.params.name).into()),
            _ => {
                let method = request.method().to_owned();
                Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None).into())
            }
        }
    }
}

impl Service<McpRequest> for NoTools {
    type Response = McpResponse;
    type Error = Error;
    type Future = Ready<Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        ready(self.answer(&request))
    }
}

/// Returns the error for a call of an unknown tool (MCP 2026-07-28, Tools, "Error Handling").
pub(super) fn unknown_tool(name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Unknown tool: {name}"), None)
}
