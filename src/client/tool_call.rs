use std::{future::IntoFuture, time::Duration};

use futures::future::BoxFuture;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, InputResponses, JsonObject,
    ProgressToken,
};
use tokio_util::sync::CancellationToken;

use super::{
    McpClient, ProgressCall,
    call::{CallOptions, ClientCall},
};
use crate::{
    Error, Principal, Stack,
    long_call::{Rounds, ToolEnd, run_rounds},
    protocol::results,
};

/// A tool call that has not been sent yet; see [`McpClient::call_tool`].
#[must_use = "a call does nothing unless it is awaited"]
pub struct ToolCall<S> {
    client: McpClient<S>,
    params: CallToolRequestParams,
    options: CallOptions,
}

impl<S: Stack> McpClient<S> {
    /// Calls a tool: `tools/call`. Set options on the returned [`ToolCall`], then await it.
    ///
    /// The call continues until there is a result:
    ///
    /// - The [handler](crate::McpClientBuilder::handler) answers the server's requests for input,
    ///   round by round (MRTR, SEP-2322).
    /// - A call that the server turns into a task (SEP-2663) is polled to its end, at the interval
    ///   that the server names. Default: 1 s. Limit: 100 ms to 60 s. The call fails after three
    ///   consecutive failed polls.
    ///
    /// Dropping the future cancels the call at the server. A task is cancelled by `tasks/cancel`,
    /// sent from a spawned task.
    ///
    /// # Errors
    ///
    /// A tool that ran and failed is a result with `is_error`, not an error. Errors are:
    ///
    /// - The server's JSON-RPC error, or that of a failed task.
    /// - A timeout.
    /// - A cancellation, also of the task.
    /// - A refusal by `mrtr`, if the server wants input and there is no handler, or after more
    ///   rounds than [allowed](crate::McpClientBuilder::mrtr_max_rounds).
    /// - A refusal by `tasks`, if the server made a task for a client that does not
    ///   [declare](crate::McpClientBuilder::capabilities) them.
    /// - The handler's own error.
    /// - Any other error of the stack.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use futures::StreamExt;
    /// use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
    /// use rmcp_layers::{Error, Handler, McpClient};
    ///
    /// struct Indexer;
    ///
    /// impl ServerHandler for Indexer {
    ///     async fn call_tool(
    ///         &self,
    ///         _call: CallToolRequestParams,
    ///         context: RequestContext<RoleServer>,
    ///     ) -> Result<CallToolResponse, ErrorData> {
    ///         for step in 1..=3 {
    ///             let Some(token) = context.meta.get_progress_token() else { break };
    ///             let progress = ProgressNotificationParam::new(token, f64::from(step));
    ///             let _ = context.peer.notify_progress(progress).await;
    ///         }
    ///         Ok(CallToolResult::success(vec![ContentBlock::text("indexed")]).into())
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Error> {
    /// let client = McpClient::new(Handler::new(Indexer));
    /// let mut call = client
    ///     .call_tool("index")
    ///     .argument("path", "/srv")
    ///     .total_timeout(Duration::from_secs(600))
    ///     .with_progress();
    /// let mut steps = 0;
    /// while let Some(progress) = call.next().await {
    ///     println!("{} done", progress.progress);
    ///     steps += 1;
    /// }
    /// let result = call.await?;
    /// assert_eq!((steps, result.is_error), (3, Some(false)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn call_tool(&self, name: impl Into<String>) -> ToolCall<S> {
        ToolCall {
            client: self.clone(),
            params: CallToolRequestParams::new(name.into()),
            options: self.options(),
        }
    }
}

impl<S> ToolCall<S> {
    /// Adds one argument.
    pub fn argument(
        mut self,
        name: impl Into<String>,
        value: impl Into<serde_json::Value>,
    ) -> Self {
        self.params
            .arguments
            .get_or_insert_default()
            .insert(name.into(), value.into());
        self
    }

    /// Sets all arguments, replacing earlier ones.
    pub fn arguments(mut self, arguments: JsonObject) -> Self {
        self.params.arguments = Some(arguments);
        self
    }

    /// Adds one `_meta` entry to every request of the call.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        self.options.meta.insert(key.into(), value.into());
        self
    }

    /// Sets the token for progress notifications. Default: a token that the client picks.
    pub fn progress_token(mut self, token: ProgressToken) -> Self {
        self.options.meta.set_progress_token(token);
        self
    }

    /// Sets the principal on whose behalf the call is made, for the layers of the stack.
    pub fn principal(mut self, principal: Principal) -> Self {
        self.options.extensions.insert(principal);
        self
    }

    /// Adds a fact for the layers of the stack. It is never sent to the server.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, fact: T) -> Self {
        self.options.extensions.insert(fact);
        self
    }

    /// Sets how long the server may be silent about one request of this call. Default: the
    /// [client's](crate::McpClientBuilder::request_timeout).
    pub fn request_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.request_timeout = limit.into();
        self
    }

    /// Sets the maximum duration of this call, from its first poll. Default: the
    /// [client's](crate::McpClientBuilder::total_timeout).
    pub fn total_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.options.total_timeout = limit.into();
        self
    }

    /// Sets a token that cancels the call, as dropping its future would. The call then fails with
    /// [`Error::Cancelled`].
    pub fn cancelled_by(mut self, token: CancellationToken) -> Self {
        self.options.cancellation = token;
        self
    }

    /// Continues a call that [`once`](Self::once) returned: the answers to the server's requests
    /// for input, and the server's state, unchanged (MRTR, SEP-2322).
    pub fn input(
        mut self,
        responses: Option<InputResponses>,
        request_state: Option<String>,
    ) -> Self {
        self.params.input_responses = responses;
        self.params.request_state = request_state;
        self
    }
}

impl<S: Stack> ToolCall<S> {
    /// Runs one round of the call. The server's requests for input, or the task it made, are
    /// returned to the caller.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, a timeout, or any other error of the stack.
    pub async fn once(self) -> Result<CallToolResponse, Error> {
        let call = ClientCall::new(&self.client, self.options);
        let result = call.run(call.request(self.params.into_request())).await?;
        results::expect(result)
    }

    /// Returns the call with a stream of its progress.
    pub fn with_progress(mut self) -> ProgressCall {
        ProgressCall::new(|progress| {
            self.options.progress = Some(progress);
            self.into_future()
        })
    }

    async fn finish(self) -> Result<CallToolResult, Error> {
        let call = ClientCall::new(&self.client, self.options);
        let work = async {
            match run_rounds(&call, self.params).await? {
                ToolEnd::Result(result) => Ok(result),
                ToolEnd::Task(task) => call.follow(task).await,
            }
        };
        call.run(work).await
    }
}

impl<S: Stack> IntoFuture for ToolCall<S> {
    type Output = Result<CallToolResult, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.finish())
    }
}

impl<S> std::fmt::Debug for ToolCall<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ToolCall")
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
