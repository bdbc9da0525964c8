//! Routing of a request to its member.

use std::sync::Arc;

use futures::future::join_all;
use rmcp::model::{
    ClientRequest, EmptyResult, ErrorCode, ErrorData, PaginatedRequestParams, Prompt, Reference,
    Resource, ResourceTemplate, Skill, Tool,
};

use super::{
    active_member::Seat,
    listen,
    lists::{self, cached_list::Age, list_item::Listed},
    names::lookup::Found,
    seal::Sealed,
    shared::{Hub, Seats, only},
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, ServedBy, context::OnlyDeclared, protocol,
    request::RequestParts,
};

impl Hub {
    /// Answers a request.
    pub(super) async fn handle(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_notification().is_some() {
            return self.tell_all(request).await;
        }
        if let Some(refused) = protocol::refuse(&request) {
            return Err(refused);
        }
        let seats = self.seats();
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
                if let Some(sole) = self.sole(&seats) {
                    return self.send(&sole, request).await;
                }
            }
        }
        match &request.message {
            ClientRequest::DiscoverRequest(_) => self.discover(&seats, request).await,
            ClientRequest::PingRequest(_) => Ok(McpResponse::new(EmptyResult {})),
            ClientRequest::SetLevelRequest(_) => self.ask_all(&seats, request).await,
            ClientRequest::ListToolsRequest(list) => {
                let params = list.params.clone();
                self.list::<Tool>(&seats, params, &request.context).await
            }
            ClientRequest::ListPromptsRequest(list) => {
                let params = list.params.clone();
                self.list::<Prompt>(&seats, params, &request.context).await
            }
            ClientRequest::ListResourcesRequest(list) => {
                let params = list.params.clone();
                self.list::<Resource>(&seats, params, &request.context)
                    .await
            }
            ClientRequest::ListResourceTemplatesRequest(list) => {
                let params = list.params.clone();
                self.list::<ResourceTemplate>(&seats, params, &request.context)
                    .await
            }
            ClientRequest::ListSkillsRequest(list) => {
                let params = list.params.clone();
                self.list::<Skill>(&seats, params, &request.context).await
            }
            _ => self.route(request).await,
        }
    }

    /// Sends a request to its member, with the member's own names.
    async fn route(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_tool_call().is_some() {
            return self.route_call(request).await;
        }
        let parts: &mut RequestParts = &mut request;
        let context = &parts.context;
        if let Some(uri) = uri_of(&mut parts.message) {
            let (seat, own) = self.find_uri(uri, context).await?;
            *uri = own;
            return self.send(&seat, request).await;
        }
        if let Some(task) = task_of(&mut parts.message) {
            let seat = self.unseal_task(task, context)?;
            return self.send(&seat, request).await;
        }
        let mut decided_here = false;
        let seat = match &mut parts.message {
            ClientRequest::GetPromptRequest(get) => {
                let seat = self.find_prompt(&mut get.params.name, context).await?;
                self.unseal_state(&seat, &mut get.params.request_state, context)?;
                seat
            }
            ClientRequest::ReadResourceRequest(read) => {
                let (seat, uri) = self.find_uri(&read.params.uri, context).await?;
                decided_here = seat.prefixes_uris() && read.params.uri == uri;
                read.params.uri = uri;
                self.unseal_state(&seat, &mut read.params.request_state, context)?;
                seat
            }
            ClientRequest::CompleteRequest(complete) => match &mut complete.params.r#ref {
                Reference::Prompt(prompt) => self.find_prompt(&mut prompt.name, context).await?,
                _ => {
                    let what = "of this kind of reference";
                    return Err(unroutable("completion/complete", what));
                }
            },
            ClientRequest::CustomRequest(custom) => {
                let rule = self.custom.as_ref();
                let member =
                    rule.and_then(|rule| rule(&custom.method, custom.params.as_ref(), context));
                let seats = self.seats();
                let seat = match &member {
                    Some(name) => seats.get(name),
                    None => only(seats.list.iter()),
                };
                seat.cloned()
                    .ok_or_else(|| unroutable(&custom.method, "to a member"))?
            }
            other => return Err(unroutable(other.method(), "to a member")),
        };
        self.send_as_decided(&seat, request, decided_here).await
    }

    /// Sends a tool call to the member that has the tool.
    async fn route_call(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let name = request.as_tool_call().map_or("", |call| &call.name);
        let found = self.find_name::<Tool>(name, &request.context).await?;
        let says = self.says(&found, &request.context).await;
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
            self.unseal_state(&found.seat, state, &parts.context)?;
        }
        if let Some(told) = found.seat.told_of(says) {
            told.put_into(&mut parts.context);
        }
        self.send_as_decided(&found.seat, request, decided_here)
            .await
    }

    /// Sends as [`send`](Self::send) does, and marks the answer as not cacheable outside: the
    /// routing decision may be different the next time.
    async fn send_as_decided(
        &self,
        seat: &Arc<Seat>,
        request: McpRequest,
        decided_here: bool,
    ) -> Result<McpResponse, Error> {
        let decided_here = decided_here && request.context.has_limited_visibility();
        let mut response = self.send(seat, request).await?;
        if decided_here {
            response.mark_session_private();
        }
        Ok(response)
    }

    /// Returns the member that has a prompt, and replaces `name` with the member's own name.
    async fn find_prompt(
        &self,
        name: &mut String,
        context: &CallContext,
    ) -> Result<Arc<Seat>, Error> {
        let Found { seat, inner, .. } = self.find_name::<Prompt>(name, context).await?;
        *name = inner;
        Ok(seat)
    }

    /// Sends a request down a member's stack, and rewrites the answer for the caller.
    async fn send(&self, seat: &Arc<Seat>, mut request: McpRequest) -> Result<McpResponse, Error> {
        ServedBy::set(&request.context.extensions, &seat.name);
        self.map_visibility(seat, &mut request.context);
        let outward = self.outward(seat, &request.context);
        if seat.prefixes_uris() {
            request.context.caller = outward.way_back(&request.context.caller);
        }
        let mut response = seat.call(request).await?;
        outward.result(&mut response.result);
        seat.mark(&mut response, outward.principal.as_ref());
        Ok(response)
    }

    fn unseal_state(
        &self,
        seat: &Seat,
        state: &mut Option<String>,
        context: &CallContext,
    ) -> Result<(), Error> {
        let Some(sealed) = state else { return Ok(()) };
        let (member, own) = self.seal.open(Sealed::State, sealed, context.principal())?;
        if member != *seat.name {
            let message = "`requestState` belongs to another request";
            return Err(ErrorData::invalid_params(message, None).into());
        }
        *state = Some(own);
        Ok(())
    }

    fn unseal_task(&self, id: &mut String, context: &CallContext) -> Result<Arc<Seat>, Error> {
        let (member, own) = self.seal.open(Sealed::Task, id, context.principal())?;
        *id = own;
        self.seats().get(&member).cloned().ok_or_else(|| {
            let message = format!("the task's server, `{member}`, is not here any more");
            ErrorData::invalid_params(message, None).into()
        })
    }

    async fn list<T: Listed>(
        &self,
        seats: &Seats,
        params: Option<PaginatedRequestParams>,
        context: &CallContext,
    ) -> Result<McpResponse, Error> {
        let cursor = params.and_then(|params| params.cursor);
        let age = match cursor {
            Some(_) => Age::Walk,
            None => Age::Fresh,
        };
        let mut gathered = self.gather::<T>(seats, context, age).await;
        let none = gathered.report.missing.len() == seats.list.len();
        if none && let Some(error) = gathered.errors.pop() {
            return Err(error);
        }
        let mut response = lists::page(gathered, cursor.as_deref(), &self.rules)?;
        seats.mark(&mut response, context);
        Ok(response)
    }

    /// Sends the same request to every member. It succeeds if one member answers; members that do
    /// not know the method, or cannot be reached, are ignored then.
    async fn ask_all(&self, seats: &Seats, mut request: McpRequest) -> Result<McpResponse, Error> {
        request.context.extensions.remove::<ServedBy>();
        if seats.list.len() > 1 {
            request.context.extensions.insert(OnlyDeclared);
        }
        let deadline = self.rules.deadline;
        let asked = seats.list.iter().map(|seat| {
            let mut request = request.clone();
            self.map_visibility(seat, &mut request.context);
            let call = seat.call(request);
            async move {
                let answered = tokio::time::timeout(deadline, call).await;
                answered.unwrap_or_else(|_| Err(Error::timeout(deadline)))
            }
        });
        let mut failed = None;
        let mut answered = false;
        for answer in join_all(asked).await {
            match answer {
                Ok(_) => answered = true,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        match failed {
            Some(error) if !answered => Err(error),
            _ => Ok(McpResponse::new(EmptyResult {})),
        }
    }

    /// Forwards a client's notification to every member.
    async fn tell_all(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let seats = self.seats();
        match only(seats.list.iter()) {
            Some(seat) => {
                self.map_visibility(seat, &mut request.context);
                seat.call(request).await
            }
            None => self.ask_all(&seats, request).await,
        }
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
