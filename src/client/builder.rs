use std::{sync::Arc, time::Duration};

use rmcp::{
    ClientHandler,
    model::{
        ClientCapabilities, ClientConfig, DEFAULT_MRTR_MAX_ROUNDS, Implementation, ProtocolVersion,
        RequestMetaObject,
    },
};
use tower::Service;

use super::{
    handler::{Answers, Linked},
    mcp_client::{McpClient, Shared},
};
use crate::{
    Error, McpRequest, McpResponse,
    caller::{Era, Session},
};

/// How long a server may be silent about a request by default: see
/// [`McpClientBuilder::idle_timeout`].
const DEFAULT_IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Builds an [`McpClient`]; see [`McpClient::builder`].
#[must_use = "call `build` to make the client"]
pub struct McpClientBuilder<S> {
    stack: S,
    handler: Option<Arc<dyn Answers>>,
    config: ClientConfig,
    idle_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    mrtr_max_rounds: usize,
}

impl<S> McpClientBuilder<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    /// The defaults, over `stack`.
    pub(super) fn new(stack: S) -> Self {
        Self {
            stack,
            handler: None,
            config: ClientConfig::default().with_protocol_version(ProtocolVersion::LATEST),
            idle_timeout: Some(DEFAULT_IDLE_TIMEOUT),
            total_timeout: None,
            mrtr_max_rounds: DEFAULT_MRTR_MAX_ROUNDS,
        }
    }

    /// Who answers the server's requests for input (sampling, elicitation, roots) and hears its
    /// notifications. Default: nobody; such requests are then errors, and notifications are dropped.
    ///
    /// The handler's [`get_info`](ClientHandler::get_info) becomes the client's name and capabilities, so
    /// call [`client_info`](Self::client_info) and [`capabilities`](Self::capabilities) after this, if at
    /// all. Its `protocol_version` is not taken over: rmcp's default is an older revision.
    ///
    /// The handler's methods run inside the call they belong to, one after another. While one runs, the
    /// call's idle timeout stands still and the server's further messages wait; when the call ends early
    /// (dropped, timed out), it is dropped too. Progress of a call that yields it as a stream goes there
    /// and not to the handler. Requests through the peer in the handler's context go down the same stack.
    pub fn handler(mut self, handler: impl ClientHandler) -> Self {
        let info = handler.get_info();
        self.config.client_info = info.client_info;
        self.config.capabilities = info.capabilities;
        self.handler = Some(Arc::new(Linked::new(handler, self.stack.clone())));
        self
    }

    /// How long the server may be silent about a request. Default: 60 s, as the official TypeScript SDK
    /// has it, so servers are used to be heard of within it. `None`: as long as it likes.
    ///
    /// Progress, logging, any other notification and any request of the server for the call start it
    /// anew; while the client's handler is at work it stands still. Each round of a call and each poll of
    /// a task is a request with its own. A call that exceeds it fails with a timeout
    /// ([`Error::is_timeout`]) and is cancelled.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.idle_timeout = limit.into();
        self
    }

    /// How long a call may take at all, with all its rounds, the handler's answers and its task. Default:
    /// `None`, without a limit: a server that goes on reporting progress is alive, and only the caller
    /// knows what it is worth waiting for. Inner layers see it as the request's
    /// [deadline](crate::CallContext::deadline).
    ///
    /// For `list_all_*` it holds for each page, and for [`listen`](McpClient::listen) not at all.
    pub fn total_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.total_timeout = limit.into();
        self
    }

    /// How many times one call answers a server that wants input (MRTR rounds, SEP-2322, and requests
    /// for input within a task, SEP-2663) before it fails. Default: rmcp's
    /// [`DEFAULT_MRTR_MAX_ROUNDS`], 10.
    pub fn mrtr_max_rounds(mut self, rounds: usize) -> Self {
        self.mrtr_max_rounds = rounds;
        self
    }

    /// The revision the client speaks. Default: [`ProtocolVersion::LATEST`].
    ///
    /// With a revision before 2026-07-28, servers may send requests of their own, and do not use MRTR.
    pub fn protocol_version(mut self, version: ProtocolVersion) -> Self {
        self.config.protocol_version = version;
        self
    }

    /// Which implementation the client says it is. Default: the handler's, else rmcp's own.
    pub fn client_info(mut self, info: Implementation) -> Self {
        self.config.client_info = info;
        self
    }

    /// What the client says it can do. Default: the handler's capabilities, else none.
    ///
    /// Servers make tasks of slow calls only for a client that declares the Tasks extension here
    /// ([`enable_tasks`](rmcp::model::ClientCapabilitiesBuilder::enable_tasks)).
    pub fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.config.capabilities = capabilities;
        self
    }

    /// Makes the client.
    #[must_use]
    pub fn build(self) -> McpClient<S> {
        let config = self.config;
        let legacy = Era::of(&config.protocol_version) == Era::Legacy;
        let shared = Shared {
            introduction: RequestMetaObject::with_client_context(
                config.protocol_version.clone(),
                config.client_info.clone(),
                config.capabilities.clone(),
            ),
            supports_tasks: config.capabilities.supports_tasks(),
            handshake: legacy.then(|| Arc::new(config)),
            mrtr_max_rounds: self.mrtr_max_rounds,
            idle_timeout: self.idle_timeout,
            total_timeout: self.total_timeout,
            session: Arc::new(Session::new()),
            handler: self.handler,
        };
        McpClient::over(self.stack, Arc::new(shared))
    }
}

impl<S> std::fmt::Debug for McpClientBuilder<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpClientBuilder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
