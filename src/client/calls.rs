//! Requests with a single answer.

use rmcp::model::{
    CancelTaskParams, CancelTaskRequest, ClientNotification, ClientRequest, CompleteRequest,
    CompleteRequestParams, CompleteResult, Cursor, CustomRequest, CustomResult, DiscoverRequest,
    DiscoverRequestParams, DiscoverResult, GetExtensions, GetMeta, GetPromptRequestParams,
    GetPromptResponse, GetPromptResult, GetSkillRequest, GetSkillRequestParams, GetSkillResult,
    GetTaskParams, GetTaskRequest, GetTaskResult, InputResponses, JsonObject, LoggingLevel,
    NotificationMetaObject, PingRequest, ReadResourceDirectoryRequest,
    ReadResourceDirectoryRequestParams, ReadResourceDirectoryResult, ReadResourceRequestParams,
    ReadResourceResponse, ReadResourceResult, RequestMetaObject, SetLevelRequest,
    SetLevelRequestParams, SubscribeRequest, SubscribeRequestParams, UnsubscribeRequest,
    UnsubscribeRequestParams, UpdateTaskParams, UpdateTaskRequest,
};

use super::{
    McpClient,
    call::ClientCall,
    call_sink::{CallSink, Recipient},
};
use crate::{
    CallContext, Error, McpRequest, Stack,
    long_call::{Rounds, run_rounds},
    protocol::results::{self, MethodResult},
};

/// Every method here fails with the server's JSON-RPC error ([`Error::as_protocol`]), with a
/// timeout of the client, and with any other error of the stack.
impl<S: Stack> McpClient<S> {
    async fn ask<T: MethodResult>(&self, message: impl Into<ClientRequest>) -> Result<T, Error> {
        let call = self.call();
        results::expect(call.run(call.request(message.into())).await?)
    }

    /// Sends a request with an empty answer.
    async fn tell(&self, message: impl Into<ClientRequest>) -> Result<(), Error> {
        let call = self.call();
        call.run(call.request(message.into())).await?;
        Ok(())
    }

    /// Returns the identity and capabilities of the stack: `server/discover` (MCP 2026-07-28,
    /// SEP-2575).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn discover(&self) -> Result<DiscoverResult, Error> {
        self.ask(DiscoverRequest::new(DiscoverRequestParams {}))
            .await
    }

    /// Checks that the server answers: `ping` (revisions before 2026-07-28). For a newer server, an
    /// [`Upstream`](crate::Upstream) answers by itself once it is connected.
    ///
    /// # Errors
    ///
    /// Any error of the stack.
    pub async fn ping(&self) -> Result<(), Error> {
        self.tell(PingRequest::default()).await
    }

    /// Returns the text of a prompt: `prompts/get`. The handler answers the server's requests for
    /// input (MRTR).
    ///
    /// # Errors
    ///
    /// - The server's JSON-RPC error.
    /// - The handler's error, if it refuses the input.
    /// - A refusal by `mrtr`, without a handler or after too many rounds.
    /// - Any other error of the stack.
    pub async fn get_prompt(
        &self,
        name: impl Into<String>,
        arguments: JsonObject,
    ) -> Result<GetPromptResult, Error> {
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        let call = self.call();
        call.run(run_rounds(&call, params)).await
    }

    /// Runs one round of a `prompts/get`. The server's requests for input are returned to the
    /// caller.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn get_prompt_once(
        &self,
        params: GetPromptRequestParams,
    ) -> Result<GetPromptResponse, Error> {
        self.ask(params.into_request()).await
    }

    /// Returns the contents of a resource: `resources/read`. The handler answers the server's
    /// requests for input (MRTR).
    ///
    /// # Errors
    ///
    /// Fails as [`get_prompt`](Self::get_prompt) does.
    pub async fn read_resource(&self, uri: impl Into<String>) -> Result<ReadResourceResult, Error> {
        let call = self.call();
        call.run(run_rounds(&call, ReadResourceRequestParams::new(uri)))
            .await
    }

    /// Runs one round of a `resources/read`. The server's requests for input are returned to the
    /// caller.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn read_resource_once(
        &self,
        params: ReadResourceRequestParams,
    ) -> Result<ReadResourceResponse, Error> {
        self.ask(params.into_request()).await
    }

    /// Returns one page of the contents of a directory resource: `resources/directory/read`
    /// (SEP-2640).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn read_resource_directory(
        &self,
        uri: impl Into<String>,
        cursor: Option<Cursor>,
    ) -> Result<ReadResourceDirectoryResult, Error> {
        let mut params = ReadResourceDirectoryRequestParams::new(uri);
        params.cursor = cursor;
        self.ask(ReadResourceDirectoryRequest::new(params)).await
    }

    /// Returns one skill: `skills/get` (SEP-2640).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn get_skill(&self, uri: impl Into<String>) -> Result<GetSkillResult, Error> {
        self.ask(GetSkillRequest::new(GetSkillRequestParams::new(uri)))
            .await
    }

    /// Returns completions for an argument of a prompt or a resource template:
    /// `completion/complete`.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn complete(&self, params: CompleteRequestParams) -> Result<CompleteResult, Error> {
        self.ask(CompleteRequest::new(params)).await
    }

    /// Sets the minimum severity of log messages: `logging/setLevel` (revisions before 2026-07-28).
    /// Once the stack accepts it, later requests also have the level in their `_meta`, which newer
    /// revisions read.
    ///
    /// # Errors
    ///
    /// Any error of the stack. The level is then unchanged.
    pub async fn set_level(&self, level: LoggingLevel) -> Result<(), Error> {
        self.tell(SetLevelRequest::new(SetLevelRequestParams::new(level)))
            .await?;
        self.shared.session.set_log_level(level);
        Ok(())
    }

    /// Subscribes to changes of a resource: `resources/subscribe` (revisions before 2026-07-28).
    /// Use [`listen`](Self::listen) instead, which works with all revisions.
    ///
    /// # Errors
    ///
    /// "Method not found" from a server that speaks only newer revisions, or any other error of the
    /// stack.
    pub async fn subscribe(&self, uri: impl Into<String>) -> Result<(), Error> {
        self.tell(SubscribeRequest::new(SubscribeRequestParams::new(uri)))
            .await
    }

    /// Ends a [`subscribe`](Self::subscribe): `resources/unsubscribe` (revisions before
    /// 2026-07-28).
    ///
    /// # Errors
    ///
    /// Fails as [`subscribe`](Self::subscribe) does.
    pub async fn unsubscribe(&self, uri: impl Into<String>) -> Result<(), Error> {
        self.tell(UnsubscribeRequest::new(UnsubscribeRequestParams::new(uri)))
            .await
    }

    /// Returns the state of a task: `tasks/get` (Tasks extension, SEP-2663).
    /// [`call_tool`](Self::call_tool) polls tasks by itself.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn get_task(&self, task_id: impl Into<String>) -> Result<GetTaskResult, Error> {
        self.ask(GetTaskRequest::new(GetTaskParams::new(task_id)))
            .await
    }

    /// Sends the input that a task asked for: `tasks/update` (Tasks extension, SEP-2663).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn update_task(
        &self,
        task_id: impl Into<String>,
        input_responses: InputResponses,
    ) -> Result<(), Error> {
        self.tell(UpdateTaskRequest::new(UpdateTaskParams::new(
            task_id,
            input_responses,
        )))
        .await
    }

    /// Asks the server to cancel a task: `tasks/cancel` (Tasks extension, SEP-2663).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn cancel_task(&self, task_id: impl Into<String>) -> Result<(), Error> {
        self.tell(CancelTaskRequest::new(CancelTaskParams::new(task_id)))
            .await
    }

    /// Sends a request of a method that is not part of the protocol.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, or any other error of the stack.
    pub async fn custom_request(&self, request: CustomRequest) -> Result<CustomResult, Error> {
        let own = McpRequest::new(request);
        let mut options = self.options();
        let (message, context) = own.into_parts();
        options.meta = context.meta;
        options.extensions = context.extensions;
        let call = ClientCall::new(self, options);
        results::expect(call.run(call.request(message.into_inner())).await?)
    }

    /// Sends a notification through the stack, and waits until it has been passed on.
    ///
    /// # Errors
    ///
    /// Any error of the stack.
    pub async fn notify(&self, notification: impl Into<ClientNotification>) -> Result<(), Error> {
        let mut notification = notification.into();
        let sink = CallSink::new(None, Recipient::Handler(self.shared.handler.clone()));
        let mut context = CallContext {
            caller: self.caller(&sink),
            meta: RequestMetaObject(std::mem::take(notification.get_meta_mut()).0),
            extensions: std::mem::take(notification.extensions_mut()),
            ..CallContext::default()
        };
        context.extensions.remove::<NotificationMetaObject>();
        let request = McpRequest::notification(notification, context);
        self.dispatch(request, &sink, self.options().request_timeout)
            .await?;
        Ok(())
    }
}
