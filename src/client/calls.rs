//! The requests that are one request and one answer.

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
use tower::Service;

use super::{
    McpClient,
    call::Call,
    mrtr::Rounds,
    way_back::{Onward, WayBack},
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, request::next_id, results, results::MethodResult,
};

/// Every method here fails with the server's JSON-RPC error ([`Error::as_protocol`]), with a timeout of
/// the client, and with whatever else the stack fails with.
impl<S> McpClient<S>
where
    S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
    S::Error: Into<Error>,
    S::Future: Send,
{
    async fn ask<T: MethodResult>(&self, message: impl Into<ClientRequest>) -> Result<T, Error> {
        let call = self.call();
        results::expect(call.run(call.request(message)).await?)
    }

    /// Sends a request whose answer says nothing.
    async fn tell(&self, message: impl Into<ClientRequest>) -> Result<(), Error> {
        let call = self.call();
        call.run(call.request(message)).await?;
        Ok(())
    }

    /// What the stack is and can do: `server/discover` (MCP 2026-07-28, SEP-2575).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn discover(&self) -> Result<DiscoverResult, Error> {
        self.ask(DiscoverRequest::new(DiscoverRequestParams {}))
            .await
    }

    /// Whether the server still answers: `ping` (revisions before 2026-07-28). For a newer server an
    /// [`Upstream`](crate::Upstream) answers itself, once it is connected.
    ///
    /// # Errors
    ///
    /// Whatever the stack fails with.
    pub async fn ping(&self) -> Result<(), Error> {
        self.tell(PingRequest::default()).await
    }

    /// The text of a prompt: `prompts/get`. Rounds for input (MRTR) are answered by the handler.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error; the handler's, if it refuses the input; a refusal by `mrtr` without a
    /// handler or after too many rounds; and whatever else the stack fails with.
    pub async fn get_prompt(
        &self,
        name: impl Into<String>,
        arguments: JsonObject,
    ) -> Result<GetPromptResult, Error> {
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        let call = self.call();
        call.run(call.rounds(params)).await
    }

    /// One round of a `prompts/get`: what the server wants to know is given back to the caller.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn get_prompt_once(
        &self,
        params: GetPromptRequestParams,
    ) -> Result<GetPromptResponse, Error> {
        self.ask(params.into_request()).await
    }

    /// What a resource contains: `resources/read`. Rounds for input (MRTR) are answered by the handler.
    ///
    /// # Errors
    ///
    /// As for [`get_prompt`](Self::get_prompt).
    pub async fn read_resource(&self, uri: impl Into<String>) -> Result<ReadResourceResult, Error> {
        let call = self.call();
        call.run(call.rounds(ReadResourceRequestParams::new(uri)))
            .await
    }

    /// One round of a `resources/read`: what the server wants to know is given back to the caller.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn read_resource_once(
        &self,
        params: ReadResourceRequestParams,
    ) -> Result<ReadResourceResponse, Error> {
        self.ask(params.into_request()).await
    }

    /// One page of what a directory resource contains: `resources/directory/read` (SEP-2640).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn read_resource_directory(
        &self,
        uri: impl Into<String>,
        cursor: Option<Cursor>,
    ) -> Result<ReadResourceDirectoryResult, Error> {
        let mut params = ReadResourceDirectoryRequestParams::new(uri);
        params.cursor = cursor;
        self.ask(ReadResourceDirectoryRequest::new(params)).await
    }

    /// One skill: `skills/get` (SEP-2640).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn get_skill(&self, uri: impl Into<String>) -> Result<GetSkillResult, Error> {
        self.ask(GetSkillRequest::new(GetSkillRequestParams::new(uri)))
            .await
    }

    /// How an argument of a prompt or a resource template may go on: `completion/complete`.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn complete(&self, params: CompleteRequestParams) -> Result<CompleteResult, Error> {
        self.ask(CompleteRequest::new(params)).await
    }

    /// The least severe log messages the client wants to hear: `logging/setLevel` (revisions before
    /// 2026-07-28). Once the stack accepts it, later requests also say it in their `_meta`, which is
    /// where newer revisions look for it.
    ///
    /// # Errors
    ///
    /// Whatever the stack fails with. The level is then as it was.
    pub async fn set_level(&self, level: LoggingLevel) -> Result<(), Error> {
        self.tell(SetLevelRequest::new(SetLevelRequestParams::new(level)))
            .await?;
        self.shared.session.set_log_level(level);
        Ok(())
    }

    /// Asks to hear of changes of a resource: `resources/subscribe` (revisions before 2026-07-28). Use
    /// [`listen`](Self::listen), which works with all revisions.
    ///
    /// # Errors
    ///
    /// "Method not found" from a server that speaks only newer revisions, and whatever else the stack
    /// fails with.
    pub async fn subscribe(&self, uri: impl Into<String>) -> Result<(), Error> {
        self.tell(SubscribeRequest::new(SubscribeRequestParams::new(uri)))
            .await
    }

    /// Takes a [`subscribe`](Self::subscribe) back: `resources/unsubscribe` (revisions before
    /// 2026-07-28).
    ///
    /// # Errors
    ///
    /// As for [`subscribe`](Self::subscribe).
    pub async fn unsubscribe(&self, uri: impl Into<String>) -> Result<(), Error> {
        self.tell(UnsubscribeRequest::new(UnsubscribeRequestParams::new(uri)))
            .await
    }

    /// How far a task is: `tasks/get` (Tasks extension, SEP-2663). [`call_tool`](Self::call_tool) does
    /// this by itself.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn get_task(&self, task_id: impl Into<String>) -> Result<GetTaskResult, Error> {
        self.ask(GetTaskRequest::new(GetTaskParams::new(task_id)))
            .await
    }

    /// Gives a task the input it asked for: `tasks/update` (Tasks extension, SEP-2663).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
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

    /// Asks the server to stop a task: `tasks/cancel` (Tasks extension, SEP-2663).
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn cancel_task(&self, task_id: impl Into<String>) -> Result<(), Error> {
        self.tell(CancelTaskRequest::new(CancelTaskParams::new(task_id)))
            .await
    }

    /// A request of a method that the protocol does not know.
    ///
    /// # Errors
    ///
    /// The server's JSON-RPC error, and whatever else the stack fails with.
    pub async fn custom_request(&self, request: CustomRequest) -> Result<CustomResult, Error> {
        let own = McpRequest::new(request);
        let mut options = self.options();
        let (message, context) = own.into_parts();
        options.meta = context.meta;
        options.extensions = context.extensions;
        let call = Call::new(self, options);
        results::expect(call.run(call.request(message)).await?)
    }

    /// Sends a notification down the stack, and waits until it has been passed on.
    ///
    /// # Errors
    ///
    /// Whatever the stack fails with.
    pub async fn notify(&self, notification: impl Into<ClientNotification>) -> Result<(), Error> {
        let mut notification = notification.into();
        let way_back = WayBack::new(None, Onward::Handler(self.shared.handler.clone()));
        let mut context = CallContext::new(next_id());
        context.caller = self.caller(&way_back);
        context.meta = RequestMetaObject(std::mem::take(notification.get_meta_mut()).0);
        context.extensions = std::mem::take(notification.extensions_mut());
        context.extensions.remove::<NotificationMetaObject>();
        let request = McpRequest::notification(notification, context);
        self.dispatch(request, &way_back, self.options().idle_timeout)
            .await?;
        Ok(())
    }
}
