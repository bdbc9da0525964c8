//! Routing of a request to its member.

use std::sync::Arc;

use rmcp::model::{
    ClientRequest, EmptyResult, ErrorCode, ErrorData, PaginatedRequestParams, Prompt, Reference,
    Resource, ResourceTemplate, Skill, Tool,
};

use super::{
    listen,
    lists::{
        list_item::ListItem,
        listed_member::{Age, ListedMember},
        pages,
    },
    lookup::by_name::Found,
    members::active_member::ActiveMember,
    seal::Sealed,
    shared::{ActiveMembers, Shared, only},
    tool_hints,
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, ServedBy, protocol, request::RequestParts,
};

impl Shared {
    /// Answers a request.
    pub(super) async fn handle(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_notification().is_some() {
            return self.notify_all(request).await;
        }
        let is_listen = matches!(
            request.message,
            ClientRequest::SubscriptionsListenRequest(_)
        );
        let shared = self.clone();
        shared.lifecycle.run(is_listen, self.answer(request)).await
    }

    async fn answer(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if let Some(refused) = protocol::refuse(&request) {
            return Err(refused);
        }
        let members = self.members();
        match &request.message {
            ClientRequest::SubscriptionsListenRequest(listen) => {
                let filter = listen.params.notifications.clone();
                let (_, context) = request.into_parts();
                return listen::listen(self, filter, context).await;
            }
            ClientRequest::CallToolRequest(_)
            | ClientRequest::GetPromptRequest(_)
            | ClientRequest::ReadResourceRequest(_)
            | ClientRequest::GetTaskRequest(_)
            | ClientRequest::UpdateTaskRequest(_)
            | ClientRequest::CancelTaskRequest(_) => {}
            _ => {
                if let Some(only) = self.pass_through_member(&members) {
                    return self.send(&only, request).await;
                }
            }
        }
        let context = &request.context;
        match &request.message {
            ClientRequest::DiscoverRequest(_) => self.discover(&members, request).await,
            ClientRequest::PingRequest(_) => Ok(McpResponse::new(EmptyResult {})),
            ClientRequest::SetLevelRequest(_) => self.broadcast(&members, request).await,
            ClientRequest::ListToolsRequest(list) => {
                self.list::<Tool>(&members, &list.params, context).await
            }
            ClientRequest::ListPromptsRequest(list) => {
                self.list::<Prompt>(&members, &list.params, context).await
            }
            ClientRequest::ListResourcesRequest(list) => {
                self.list::<Resource>(&members, &list.params, context).await
            }
            ClientRequest::ListResourceTemplatesRequest(list) => {
                self.list::<ResourceTemplate>(&members, &list.params, context)
                    .await
            }
            ClientRequest::ListSkillsRequest(list) => {
                self.list::<Skill>(&members, &list.params, context).await
            }
            _ => self.dispatch(request).await,
        }
    }

    /// Sends a request to its member, with the member's own names.
    async fn dispatch(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_tool_call().is_some() {
            return self.dispatch_tool_call(request).await;
        }
        let parts: &mut RequestParts = &mut request;
        let context = &parts.context;
        if let Some(uri) = uri_of(&mut parts.message) {
            let (member, own) = self.look_up_uri(uri, context).await?;
            *uri = own;
            return self.send(&member, request).await;
        }
        if let Some(task) = task_of(&mut parts.message) {
            let member = self.unseal_task(task, context)?;
            return self.send(&member, request).await;
        }
        let mut decided_here = false;
        let member = match &mut parts.message {
            ClientRequest::GetPromptRequest(get) => {
                let member = self.look_up_prompt(&mut get.params.name, context).await?;
                self.unseal_state(&member, &mut get.params.request_state, context)?;
                member
            }
            ClientRequest::ReadResourceRequest(read) => {
                let (member, uri) = self.look_up_uri(&read.params.uri, context).await?;
                decided_here = member.uris.is_set() && read.params.uri == uri;
                read.params.uri = uri;
                self.unseal_state(&member, &mut read.params.request_state, context)?;
                member
            }
            ClientRequest::CompleteRequest(complete) => match &mut complete.params.r#ref {
                Reference::Prompt(prompt) => self.look_up_prompt(&mut prompt.name, context).await?,
                _ => {
                    let what = "of this kind of reference";
                    return Err(unroutable("completion/complete", what));
                }
            },
            ClientRequest::CustomRequest(custom) => {
                let rule = self.custom.as_ref();
                let member =
                    rule.and_then(|rule| rule(&custom.method, custom.params.as_ref(), context));
                let members = self.members();
                let member = match &member {
                    Some(name) => members.get(name),
                    None => only(members.list.iter()),
                };
                member
                    .cloned()
                    .ok_or_else(|| unroutable(&custom.method, "to a member"))?
            }
            other => return Err(unroutable(other.method(), "to a member")),
        };
        self.send_as_decided(&member, request, decided_here).await
    }

    /// Sends a tool call to the member that has the tool.
    async fn dispatch_tool_call(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let name = request.as_tool_call().map_or("", |call| &call.name);
        let found = self.look_up_name::<Tool>(name, &request.context).await?;
        let hints = self.tool_hints(&found, &request.context).await;
        let decided_here = found.outward.is_some();
        if let Some(outward) = found.outward {
            // Outer layers have decided only on the member's own name.
            rename_call(&mut request, outward);
            request.admit()?;
        }
        rename_call(&mut request, found.inner);
        let parts: &mut RequestParts = &mut request;
        if let ClientRequest::CallToolRequest(call) = &mut parts.message {
            let state = &mut call.params.request_state;
            self.unseal_state(&found.member, state, &parts.context)?;
        }
        tool_hints::apply(hints, found.member.options.trusted, &mut parts.context);
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

    /// Returns the member that has a prompt, and replaces `name` with the member's own name.
    async fn look_up_prompt(
        &self,
        name: &mut String,
        context: &CallContext,
    ) -> Result<Arc<ListedMember>, Error> {
        let Found { member, inner, .. } = self.look_up_name::<Prompt>(name, context).await?;
        *name = inner;
        Ok(member)
    }

    /// Sends a request down a member's stack, and rewrites the answer for the caller.
    async fn send(
        &self,
        member: &Arc<ActiveMember>,
        mut request: McpRequest,
    ) -> Result<McpResponse, Error> {
        ServedBy::set(&request.context.extensions, &member.name);
        self.map_visibility(member, &mut request.context);
        let outward = self.outward(member, &request.context);
        if member.uris.is_set() {
            request.context.caller = outward.rewriting_caller(&request.context.caller);
        }
        let mut response = member.call(request).await?;
        outward.result(&mut response.result);
        member.mark_private(&mut response, outward.principal.as_ref());
        Ok(response)
    }

    fn unseal_state(
        &self,
        member: &ActiveMember,
        state: &mut Option<String>,
        context: &CallContext,
    ) -> Result<(), Error> {
        let Some(sealed) = state else { return Ok(()) };
        let (owner, own) = self.seal.open(Sealed::State, sealed, context.principal())?;
        if owner != *member.name {
            let message = "`requestState` belongs to another request";
            return Err(ErrorData::invalid_params(message, None).into());
        }
        *state = Some(own);
        Ok(())
    }

    fn unseal_task(
        &self,
        id: &mut String,
        context: &CallContext,
    ) -> Result<Arc<ListedMember>, Error> {
        let (member, own) = self.seal.open(Sealed::Task, id, context.principal())?;
        *id = own;
        self.members().get(&member).cloned().ok_or_else(|| {
            let message = format!("the task's server, `{member}`, is not here any more");
            ErrorData::invalid_params(message, None).into()
        })
    }

    async fn list<T: ListItem>(
        &self,
        members: &ActiveMembers,
        params: &Option<PaginatedRequestParams>,
        context: &CallContext,
    ) -> Result<McpResponse, Error> {
        let cursor = params.as_ref().and_then(|params| params.cursor.as_deref());
        let age = match cursor {
            Some(_) => Age::Paging,
            None => Age::Fresh,
        };
        let mut gathered = self.gather::<T>(members, context, age).await;
        let none = gathered.report.missing.len() == members.list.len();
        if none && let Some(error) = gathered.errors.pop() {
            return Err(error);
        }
        let mut response = pages::page(gathered, cursor, &self.rules)?;
        members.mark_private(&mut response, context);
        Ok(response)
    }
}

fn rename_call(request: &mut McpRequest, name: String) {
    if let Some(call) = request.as_tool_call_mut()
        && *call.name != *name
    {
        call.name = name.into();
    }
}

/// Returns the URI in a request that is routed by its URI.
fn uri_of(message: &mut ClientRequest) -> Option<&mut String> {
    Some(match message {
        ClientRequest::CompleteRequest(complete) => match &mut complete.params.r#ref {
            Reference::Resource(resource) => &mut resource.uri,
            _ => return None,
        },
        ClientRequest::SubscribeRequest(subscribe) => &mut subscribe.params.uri,
        ClientRequest::UnsubscribeRequest(unsubscribe) => &mut unsubscribe.params.uri,
        ClientRequest::GetSkillRequest(get) => &mut get.params.uri,
        ClientRequest::ReadResourceDirectoryRequest(read) => &mut read.params.uri,
        _ => return None,
    })
}

/// Returns the id of the task that a request is about.
fn task_of(message: &mut ClientRequest) -> Option<&mut String> {
    Some(match message {
        ClientRequest::GetTaskRequest(get) => &mut get.params.task_id,
        ClientRequest::UpdateTaskRequest(update) => &mut update.params.task_id,
        ClientRequest::CancelTaskRequest(cancel) => &mut cancel.params.task_id,
        _ => return None,
    })
}

fn unroutable(method: &str, what: &str) -> Error {
    let message = format!("`{method}` cannot be routed {what}");
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None).into()
}
