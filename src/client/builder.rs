use std::{sync::Arc, time::Duration};

use rmcp::{
    ClientHandler,
    model::{
        ClientCapabilities, ClientConfig, DEFAULT_MRTR_MAX_ROUNDS, Implementation, ProtocolVersion,
        RequestMetaObject,
    },
};

use super::{
    handler::{ConnectedHandler, ErasedHandler},
    mcp_client::{McpClient, Shared},
};
use crate::{
    Stack,
    caller::{Era, Session},
};

/// The default of [`McpClientBuilder::request_timeout`].
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Builds an [`McpClient`]; see [`McpClient::builder`].
#[must_use = "call `build` to make the client"]
pub struct McpClientBuilder<S> {
    stack: S,
    handler: Option<Arc<dyn ErasedHandler>>,
    config: ClientConfig,
    request_timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    mrtr_max_rounds: usize,
}

impl<S: Stack> McpClientBuilder<S> {
    /// The builder with its defaults.
    pub(super) fn new(stack: S) -> Self {
        Self {
            stack,
            handler: None,
            config: ClientConfig::default().with_protocol_version(ProtocolVersion::LATEST),
            request_timeout: Some(DEFAULT_REQUEST_TIMEOUT),
            total_timeout: None,
            mrtr_max_rounds: DEFAULT_MRTR_MAX_ROUNDS,
        }
    }

    /// Sets the handler that answers the server's requests for input (sampling, elicitation, roots)
    /// and receives its notifications. Default: none; such requests are then errors, and
    /// notifications are dropped.
    ///
    /// The handler's [`get_info`](ClientHandler::get_info) becomes the client's name and
    /// capabilities. Call [`client_info`](Self::client_info) and
    /// [`capabilities`](Self::capabilities) after this method, if at all. The handler's
    /// `protocol_version` is not used, because rmcp's default is an older revision.
    ///
    /// The handler's methods run inside the call they belong to, one after another. While one runs,
    /// the call's request timeout is suspended and the server's further messages wait. When the
    /// call ends early (dropped, timed out), the running method is dropped too. Progress of a call
    /// with a progress stream goes to the stream and not to the handler. Requests through the peer
    /// in the handler's context go through the same stack.
    pub fn handler(mut self, handler: impl ClientHandler) -> Self {
        let info = handler.get_info();
        self.config.client_info = info.client_info;
        self.config.capabilities = info.capabilities;
        self.handler = Some(Arc::new(ConnectedHandler::new(handler, self.stack.clone())));
        self
    }

    /// Sets how long the server may be silent about a request. `None`: no limit. Default: 60 s, as
    /// in the official TypeScript SDK, so servers are likely to send a message within it.
    ///
    /// Progress, logging, any other notification and any request of the server for the call restart
    /// the timeout. It is suspended while the client's handler runs. Each round of a call and each
    /// poll of a task is a request with its own timeout. A call that exceeds it fails with a
    /// timeout ([`Error::is_timeout`](crate::Error::is_timeout)) and is cancelled.
    pub fn request_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.request_timeout = limit.into();
        self
    }

    /// Sets the maximum duration of a call, with all its rounds, the handler's answers and its
    /// task. Default: `None`, no limit, because only the caller knows how long a server that
    /// reports progress is worth waiting for. Inner layers see it as the request's
    /// [deadline](crate::CallContext::deadline).
    ///
    /// For `list_all_*` it applies to each page. It does not apply to
    /// [`listen`](McpClient::listen).
    pub fn total_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.total_timeout = limit.into();
        self
    }

    /// Sets the number of times that one call answers a server's requests for input before it
    /// fails. It counts MRTR rounds (SEP-2322) and requests for input within a task (SEP-2663).
    /// Default: rmcp's [`DEFAULT_MRTR_MAX_ROUNDS`], 10.
    pub fn mrtr_max_rounds(mut self, rounds: usize) -> Self {
        self.mrtr_max_rounds = rounds;
        self
    }

    /// Sets the revision that the client speaks. Default: [`ProtocolVersion::LATEST`].
    ///
    /// With a revision before 2026-07-28, servers may send requests of their own, and do not use
    /// MRTR.
    pub fn protocol_version(mut self, version: ProtocolVersion) -> Self {
        self.config.protocol_version = version;
        self
    }

    /// Sets the client's implementation info. Default: the handler's, otherwise rmcp's own.
    pub fn client_info(mut self, info: Implementation) -> Self {
        self.config.client_info = info;
        self
    }

    /// Sets the client's capabilities. Default: the handler's, otherwise none.
    ///
    /// Servers make tasks of slow calls only for a client that declares the Tasks extension here
    /// ([`enable_tasks`](rmcp::model::ClientCapabilitiesBuilder::enable_tasks)).
    pub fn capabilities(mut self, capabilities: ClientCapabilities) -> Self {
        self.config.capabilities = capabilities;
        self
    }

    /// Returns the client.
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
            request_timeout: self.request_timeout,
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
