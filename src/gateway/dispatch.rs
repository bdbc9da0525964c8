//! Routing of a request to its member.

use std::sync::Arc;

use rmcp::model::{
    ClientRequest, Cursor, EmptyResult, ErrorCode, ErrorData, Prompt, Resource, ResourceTemplate,
    Skill, Tool,
};

use super::{
    active_members::{ActiveMembers, only},
    listen,
    lists::{
        list_item::ListItem,
        listed_member::{Age, ListedMember},
        pages,
    },
    members::active_member::ActiveMember,
    seal::SealKind,
    shared::Shared,
    tool_hints,
};
use crate::{
    CallContext, Error, Lossless, McpRequest, McpResponse, Refusal, ServedBy,
    caller::Era,
    protocol::{
        self, legacy_tasks,
        lists::ListKind,
        methods::{self, Method},
        target::TargetKind,
    },
    request::RequestParts,
};

impl Shared {
    /// Answers a request.
    ///
    /// The future of every call is as large as the largest branch here. So the rare branches are
    /// boxed.
    pub(super) async fn handle(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_notification().is_some() {
            return Box::pin(self.notify_all(request)).await;
        }
        let Some(_counted) = self.in_flight.enter(&request) else {
            let message = "the gateway is shutting down; try again later";
            return Err(Refusal::new("gateway", message).into());
        };
        let ended = self.in_flight.ended().clone();
        tokio::select! {
            biased;
            answer = self.answer(request) => answer,
            () = ended.cancelled() => Err(Error::cancelled("the gateway was closed")),
        }
    }

    async fn answer(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if let Some(refused) = protocol::refuse(&request) {
            return Err(refused);
        }
        let members = self.members();
        if let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message {
            let filter = listen.params.notifications.clone();
            let (_, context) = request.into_parts();
            return Box::pin(listen::listen(self, filter, context)).await;
        }
        let method = Method::of(&request.message);
        if let ClientRequest::CustomRequest(custom) = &*request.message
            && legacy_tasks::is_list(custom)
            && request.context.era() == Era::Legacy
        {
            return Box::pin(self.list_tasks(&members, request)).await;
        }
        // Sealed states and task ids are opened even for an only member.
        let target = methods::target(&request.message).map(|target| target.kind);
        let may_have_seal = target == Some(TargetKind::Task)
            || method.is_some_and(|method| method.row().has_rounds);
        if !may_have_seal && let Some(only) = self.pass_through_member(&members) {
            return self.send(&only, request).await;
        }
        if let Some(page) = methods::page_params(&request.message)
            && let Some(kind) = method.and_then(|method| method.row().list)
        {
            let cursor = page.and_then(|page| page.cursor.clone());
            let context = &request.context;
            return match kind {
                ListKind::Tools => self.list::<Tool>(&members, cursor, context).await,
                ListKind::Prompts => self.list::<Prompt>(&members, cursor, context).await,
                ListKind::Resources => self.list::<Resource>(&members, cursor, context).await,
                ListKind::ResourceTemplates => {
                    self.list::<ResourceTemplate>(&members, cursor, context)
                        .await
                }
                ListKind::Skills => self.list::<Skill>(&members, cursor, context).await,
            };
        }
        match &*request.message {
            ClientRequest::DiscoverRequest(_) => Box::pin(self.discover(&members, request)).await,
            ClientRequest::PingRequest(_) => Ok(McpResponse::new(EmptyResult {})),
            ClientRequest::SetLevelRequest(_) => Box::pin(self.broadcast(&members, request)).await,
            _ => self.dispatch(request).await,
        }
    }

    /// Sends a request to its member, with the member's own names.
    async fn dispatch(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let RequestParts { message, context } = &mut *request;
        let mut decided_here = false;
        let member = match methods::target(message) {
            None => self.look_up_unnamed(message, context)?,
            Some(target) => match target.kind {
                TargetKind::Tool => return self.dispatch_tool_call(request).await,
                TargetKind::Prompt => {
                    let found = self.look_up_name::<Prompt>(target.name, context).await?;
                    message.set_target(&found.inner);
                    found.member
                }
                TargetKind::Resource | TargetKind::Skill | TargetKind::Reference => {
                    let found = Box::pin(self.look_up_uri(target.name, context));
                    let (member, own) = found.await?;
                    decided_here = Method::of(message) == Some(Method::ReadResource)
                        && member.uris.is_set()
                        && target.name == own;
                    message.set_target(&own);
                    member
                }
                // `tasks/result` is of 2025-11-25.
                TargetKind::Task
                    if context.era() == Era::Modern && Method::of(message).is_none() =>
                {
                    let method = message.method().to_owned();
                    return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, method, None).into());
                }
                TargetKind::Task => {
                    let (member, own) = self.unseal_task(target.name, context)?;
                    message.set_target(&own);
                    member
                }
            },
        };
        self.unseal_state(&member, message, context)?;
        self.send_as_decided(&member, request, decided_here).await
    }

    /// Returns the member for a request without a target.
    fn look_up_unnamed(
        &self,
        message: &ClientRequest,
        context: &CallContext,
    ) -> Result<Arc<ListedMember>, Error> {
        let ClientRequest::CustomRequest(custom) = message else {
            let what = match message {
                ClientRequest::CompleteRequest(_) => "of this kind of reference",
                _ => "to a member",
            };
            return Err(unroutable(message.method(), what));
        };
        let rule = self.custom.as_ref();
        let name = rule.and_then(|rule| rule(&custom.method, custom.params.as_ref(), context));
        let members = self.members();
        let member = match &name {
            Some(name) => members.get(name),
            None => only(members.list.iter()),
        };
        member
            .cloned()
            .ok_or_else(|| unroutable(&custom.method, "to a member"))
    }

    /// Sends a tool call to the member that has the tool.
    async fn dispatch_tool_call(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let name = request.as_tool_call().map_or("", |call| &call.name);
        let found = self.look_up_name::<Tool>(name, &request.context).await?;
        let hints = self.tool_hints(&found, &request.context).await;
        let decided_here = found.outward.is_some();
        if let Some(outward) = found.outward {
            // Outer layers have decided only on the member's own name.
            request.message.set_target(&outward);
            request.admit()?;
        }
        request.message.set_target(&found.inner);
        let RequestParts { message, context } = &mut *request;
        self.unseal_state(&found.member, message, context)?;
        tool_hints::apply(hints, found.member.options.trusted, context);
        self.send_as_decided(&found.member, request, decided_here)
            .await
    }

    /// Sends as [`send`](Self::send) does, and marks the answer as not cacheable outside: the
    /// routing decision may be different the next time.
    async fn send_as_decided(
        &self,
        member: &Arc<ActiveMember>,
        request: McpRequest,
        decided_here: bool,
    ) -> Result<McpResponse, Error> {
        let decided_here = decided_here && request.context.has_limited_visibility();
        let mut response = self.send(member, request).await?;
        if decided_here {
            response.mark_session_private();
        }
        Ok(response)
    }

    /// Sends a request down a member's stack, and rewrites the answer for the caller.
    async fn send(
        &self,
        member: &Arc<ActiveMember>,
        mut request: McpRequest,
    ) -> Result<McpResponse, Error> {
        ServedBy::set(&request.context.extensions, &member.name);
        let is_legacy = request.context.era() == Era::Legacy;
        if is_legacy {
            self.unseal_related_task(member, &mut request.context)?;
        }
        self.map_visibility(member, &mut request.context);
        let outward = self.outward(member, &request.context);
        let caller = &request.context.caller;
        if is_legacy {
            request.context.caller = outward.sealing_caller(caller);
        } else if member.uris.is_set() {
            request.context.caller = outward.rewriting_caller(caller);
        }
        let place = legacy_tasks::place_in_result(request.method());
        let is_of_task =
            methods::target(&request.message).is_some_and(|target| target.kind == TargetKind::Task);
        let mut response = member.call(request).await?;
        outward.result(&mut response.result);
        if is_legacy {
            outward.seal_tasks(&mut response.result, place);
            if is_of_task {
                outward.result_of_task(&mut response.result);
            }
        }
        member.mark_private(&mut response, outward.principal.as_ref());
        Ok(response)
    }

    fn unseal_state(
        &self,
        member: &ActiveMember,
        message: &mut Lossless<ClientRequest>,
        context: &CallContext,
    ) -> Result<(), Error> {
        if !methods::is_later_round(message) {
            return Ok(());
        }
        let Some(state) = methods::round(message).map(|round| round.request_state) else {
            return Ok(());
        };
        let Some(sealed) = state else { return Ok(()) };
        let (owner, own) = self
            .seal
            .open(SealKind::State, sealed, context.principal())?;
        if owner != *member.name {
            let message = "`requestState` belongs to another request";
            return Err(ErrorData::invalid_params(message, None).into());
        }
        *state = Some(own);
        Ok(())
    }

    /// Returns the member that has a task, and the member's own id of it.
    fn unseal_task(
        &self,
        id: &str,
        context: &CallContext,
    ) -> Result<(Arc<ListedMember>, String), Error> {
        let (name, own) = self.seal.open(SealKind::Task, id, context.principal())?;
        match self.members().get(&name) {
            Some(member) => Ok((member.clone(), own)),
            None => {
                let message = format!("the task's server, `{name}`, is not here any more");
                Err(ErrorData::invalid_params(message, None).into())
            }
        }
    }

    async fn list<T: ListItem>(
        &self,
        members: &ActiveMembers,
        cursor: Option<Cursor>,
        context: &CallContext,
    ) -> Result<McpResponse, Error> {
        let age = match cursor {
            Some(_) => Age::Paging,
            None => Age::Fresh,
        };
        let mut gathered = self.gather::<T>(members, context, age).await;
        let none = gathered.report.missing.len() == members.list.len();
        if none && let Some(error) = gathered.errors.pop() {
            return Err(error);
        }
        let mut response = pages::page(gathered, cursor.as_deref(), &self.rules, context.era())?;
        members.mark_private(&mut response, context);
        Ok(response)
    }
}

fn unroutable(method: &str, what: &str) -> Error {
    let message = format!("`{method}` cannot be routed {what}");
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None).into()
}
