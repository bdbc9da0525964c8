//! Which member a request is for.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::join_all;
use rmcp::model::{
    ClientRequest, EmptyResult, ErrorCode, ErrorData, Implementation, PaginatedRequestParams,
    Prompt, Reference, Resource, ResourceTemplate, Skill, Tool,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Member, Prefix,
    lists::{self, Age, Entry, Has, Listed, Merged, Rules},
    member::{Class, Seat},
    names, notices,
    notices::Bell,
    rewrite::Outward,
    state::{Seal, Sealed},
    uris,
};
use crate::{
    CallContext, Error, McpRequest, McpResponse, ServedBy, ToolHints, caller::Era,
    request::RequestParts,
};

/// Finds the member that a custom method is for, by method and params.
pub(super) type CustomRule =
    Box<dyn Fn(&str, Option<&Value>, &CallContext) -> Option<String> + Send + Sync>;

/// What all clones of a gateway have in common.
pub(super) struct Hub {
    seats: Mutex<Arc<Seats>>,
    pub(super) rules: Rules,
    pub(super) prefix: Prefix,
    pub(super) seal: Seal,
    pub(super) bell: Bell,
    pub(super) merged: Merged,
    pub(super) custom: Option<CustomRule>,
    pub(super) server_info: Option<Implementation>,
    pub(super) instructions: Option<String>,
    next_place: AtomicU64,
    /// Cancelled when nobody holds the gateway any more.
    ended: CancellationToken,
}

/// The members at one moment, the highest priority first.
#[derive(Default)]
pub(super) struct Seats {
    pub(super) list: Vec<Arc<Seat>>,
    by_name: HashMap<Arc<str>, Arc<Seat>>,
    /// Those whose tools and prompts may be called by their own names.
    bare: Vec<Arc<Seat>>,
    /// One of them has a stack for each session.
    by_session: bool,
    /// Names that an operator gave, by what they name.
    renamed: HashMap<&'static str, Renamed>,
}

/// The member, and its own name for it.
type Renamed = HashMap<String, (Arc<Seat>, String)>;

impl Seats {
    fn of(mut list: Vec<Arc<Seat>>) -> Result<Self, String> {
        list.sort_by_key(|seat| (std::cmp::Reverse(seat.priority), seat.place));
        let by_name = list
            .iter()
            .map(|seat| (seat.name.clone(), seat.clone()))
            .collect();
        let bare = list
            .iter()
            .filter(|seat| seat.prefix != Prefix::Always)
            .cloned()
            .collect();
        let renamed = HashMap::from([
            (Tool::NOUN, renamed::<Tool>(&list)?),
            (Prompt::NOUN, renamed::<Prompt>(&list)?),
        ]);
        Ok(Self {
            by_name,
            bare,
            by_session: list.iter().any(|seat| seat.is_per_session()),
            renamed,
            list,
        })
    }

    /// Marks what they answered together.
    pub(super) fn mark(&self, response: &mut McpResponse, context: &CallContext) {
        for seat in &self.list {
            seat.mark(response, context.principal());
        }
    }

    /// Whose a list of theirs is.
    fn class(&self, context: &CallContext) -> Class {
        Class::of(context, self.by_session)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Seat>> {
        self.by_name.get(name)
    }
}

/// What the operator has renamed.
fn renamed<T: Listed>(list: &[Arc<Seat>]) -> Result<Renamed, String> {
    let mut renamed = Renamed::new();
    for seat in list {
        for (inner, said) in T::overrides(&seat.options).into_iter().flatten() {
            let Some(name) = &said.name else { continue };
            if let Some((other, _)) = renamed.get(name) {
                return Err(format!(
                    "two {}s are renamed to `{name}`: one of `{}`, one of `{}`",
                    T::NOUN,
                    other.name,
                    seat.name
                ));
            }
            renamed.insert(name.clone(), (seat.clone(), inner.clone()));
        }
    }
    Ok(renamed)
}

/// The only one, if there is one and no more.
fn only<'a>(mut seats: impl Iterator<Item = &'a Arc<Seat>>) -> Option<&'a Arc<Seat>> {
    seats.next().filter(|_| seats.next().is_none())
}

impl Hub {
    pub(super) fn new(rules: Rules, prefix: Prefix, seal: Seal) -> Self {
        Self {
            seats: Mutex::default(),
            rules,
            prefix,
            seal,
            bell: Bell::new(),
            merged: Merged::default(),
            custom: None,
            server_info: None,
            instructions: None,
            next_place: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Arc<Seats>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seats(&self) -> Arc<Seats> {
        self.slot().clone()
    }

    /// Puts a member in its place: a new one, or that of the member it replaces.
    pub(super) fn seat(&self, member: Member, replaces: bool) -> Result<(), String> {
        let style = &self.rules.style;
        match member.prefix.unwrap_or(self.prefix) {
            // It shows nowhere.
            Prefix::Never if member.name.is_empty() || member.name.contains('\n') => {
                return Err("a member's name is one line".to_owned());
            }
            Prefix::Never => {}
            _ => style.check_member(&member.name)?,
        }
        let overrides = [
            (Tool::NOUN, &member.options.tools),
            (Prompt::NOUN, &member.options.prompts),
        ];
        for (noun, overrides) in overrides {
            let mut names = overrides.values().filter_map(|one| one.name.as_ref());
            if let Some(name) = names.find(|name| !style.fits(name)) {
                return Err(format!(
                    "`{name}` cannot name a {noun}: 1 to {} letters, digits, `_`, `-` and `.`",
                    style.max_length
                ));
            }
        }
        let mut slot = self.slot();
        let present = slot.get(&member.name).cloned();
        let place = match (&present, replaces) {
            (Some(present), true) => present.place,
            (None, true) => return Err(format!("there is no member `{}`", member.name)),
            (Some(present), false) => {
                return Err(format!("there is a member `{}` already", present.name));
            }
            (None, false) => self.next_place.fetch_add(1, Ordering::Relaxed),
        };
        let seat = Arc::new(Seat::new(
            member,
            place,
            self.prefix,
            self.ended.child_token(),
        ));
        let mut list = slot.list.clone();
        list.retain(|other| other.name != seat.name);
        list.push(seat);
        *slot = Arc::new(Seats::of(list)?);
        drop(slot);
        self.members_changed(present);
        Ok(())
    }

    pub(super) fn unseat(&self, name: &str) -> bool {
        let mut slot = self.slot();
        let Some(present) = slot.get(name).cloned() else {
            return false;
        };
        let mut list = slot.list.clone();
        list.retain(|other| other.id != present.id);
        // Fewer members have no new conflict.
        *slot = Arc::new(Seats::of(list).unwrap_or_default());
        drop(slot);
        self.members_changed(Some(present));
        true
    }

    fn members_changed(&self, gone: Option<Arc<Seat>>) {
        if let Some(gone) = gone {
            gone.leave();
        }
        self.merged.clear();
        self.bell.members_changed();
    }

    /// The only member, where nothing has to be changed between it and its callers.
    fn sole(&self, seats: &Seats) -> Option<Arc<Seat>> {
        only(seats.list.iter())
            .filter(|seat| seat.is_plain() && !self.rules.read_only)
            .cloned()
    }

    pub(super) fn outward(&self, seat: &Arc<Seat>, context: &CallContext) -> Outward {
        Outward {
            seat: seat.clone(),
            seal: self.seal.clone(),
            principal: context.principal().cloned(),
        }
    }

    /// Answers a request.
    pub(super) async fn handle(self: Arc<Self>, request: McpRequest) -> Result<McpResponse, Error> {
        if request.as_notification().is_some() {
            return self.tell_all(request).await;
        }
        let seats = self.seats();
        match &request.message {
            ClientRequest::SubscriptionsListenRequest(listen) => {
                let filter = listen.params.notifications.clone();
                let (_, context) = request.into_parts();
                return notices::listen(self, filter, context).await;
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

    /// Sends a request to the member it is for, in the member's words.
    async fn route(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let parts: &mut RequestParts = &mut request;
        let context = &parts.context;
        let mut told = None;
        let seat = match &mut parts.message {
            ClientRequest::CallToolRequest(call) => {
                let Found { seat, inner, says } =
                    self.find_name::<Tool>(&call.params.name, context).await?;
                if *call.params.name != *inner {
                    call.params.name = inner.into();
                }
                told = seat.told_of(says);
                self.unseal_state(&seat, &mut call.params.request_state, context)?;
                seat
            }
            ClientRequest::GetPromptRequest(get) => {
                let Found { seat, inner, .. } =
                    self.find_name::<Prompt>(&get.params.name, context).await?;
                get.params.name = inner;
                self.unseal_state(&seat, &mut get.params.request_state, context)?;
                seat
            }
            ClientRequest::ReadResourceRequest(read) => {
                let (seat, uri) = self.find_uri(&read.params.uri, context).await?;
                read.params.uri = uri;
                self.unseal_state(&seat, &mut read.params.request_state, context)?;
                seat
            }
            ClientRequest::CompleteRequest(complete) => match &mut complete.params.r#ref {
                Reference::Prompt(prompt) => {
                    let Found { seat, inner, .. } =
                        self.find_name::<Prompt>(&prompt.name, context).await?;
                    prompt.name = inner;
                    seat
                }
                Reference::Resource(resource) => {
                    let (seat, uri) = self.find_uri(&resource.uri, context).await?;
                    resource.uri = uri;
                    seat
                }
                _ => {
                    return Err(unroutable(
                        "completion/complete",
                        "of this kind of reference",
                    ));
                }
            },
            ClientRequest::SubscribeRequest(subscribe) => {
                let (seat, uri) = self.find_uri(&subscribe.params.uri, context).await?;
                subscribe.params.uri = uri;
                seat
            }
            ClientRequest::UnsubscribeRequest(unsubscribe) => {
                let (seat, uri) = self.find_uri(&unsubscribe.params.uri, context).await?;
                unsubscribe.params.uri = uri;
                seat
            }
            ClientRequest::GetSkillRequest(get) => {
                let (seat, uri) = self.find_uri(&get.params.uri, context).await?;
                get.params.uri = uri;
                seat
            }
            ClientRequest::ReadResourceDirectoryRequest(read) => {
                let (seat, uri) = self.find_uri(&read.params.uri, context).await?;
                read.params.uri = uri;
                seat
            }
            ClientRequest::GetTaskRequest(get) => {
                self.unseal_task(&mut get.params.task_id, context)?
            }
            ClientRequest::UpdateTaskRequest(update) => {
                self.unseal_task(&mut update.params.task_id, context)?
            }
            ClientRequest::CancelTaskRequest(cancel) => {
                self.unseal_task(&mut cancel.params.task_id, context)?
            }
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
        if let Some(told) = told {
            told.put_into(&mut parts.context);
        }
        self.send(&seat, request).await
    }

    /// Sends a request down a member's stack, and brings the answer in the gateway's words.
    async fn send(&self, seat: &Arc<Seat>, mut request: McpRequest) -> Result<McpResponse, Error> {
        ServedBy::say(&request.context.extensions, &seat.name);
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

    /// The member that has this name, and its own name for it.
    async fn find_name<T: Listed>(
        &self,
        name: &str,
        context: &CallContext,
    ) -> Result<Found, Error> {
        let seats = self.seats();
        if let Some(sole) = self.sole(&seats) {
            return Ok(Found::unlisted(&sole, name));
        }
        let merged = T::merged(&self.merged).get(&seats.class(context));
        if let Some(entry) = merged.as_ref().and_then(|merged| merged.get(name))
            && !entry.seat.has_left()
        {
            return match entry.shown {
                true => Ok(Found::of(entry)),
                false => Err(self.unknown::<T>(name, &seats, context)),
            };
        }
        let as_it_says = match self.read_name::<T>(&seats, name, context) {
            Read::As(found) => return Ok(found),
            Read::Unknown => return Err(self.unknown::<T>(name, &seats, context)),
            Read::Ask(as_it_says) => as_it_says,
        };
        let gathered = self.gather::<T>(&seats, context, Age::Fresh).await;
        if let Some(entry) = gathered.catalogue.get(name).filter(|entry| entry.shown) {
            return Ok(Found::of(entry));
        }
        // It may be one of those that could not be asked: then the member says what is amiss.
        let report = &gathered.report;
        let unasked = |seat: &Seat| {
            report
                .stale
                .iter()
                .chain(&report.missing)
                .any(|m| *m == seat.name)
        };
        match as_it_says {
            Some(found) if unasked(&found.seat) || found.seat.options.unlisted => Ok(found),
            _ => match gathered.errors.into_iter().next() {
                Some(error) if seats.list.len() == 1 => Err(error),
                _ => Err(self.unknown::<T>(name, &seats, context)),
            },
        }
    }

    /// What a name says by itself.
    fn read_name<T: Listed>(&self, seats: &Seats, name: &str, context: &CallContext) -> Read {
        let style = &self.rules.style;
        let renamed = seats.renamed.get(T::NOUN);
        let (seat, inner) = if let Some((seat, inner)) = renamed.and_then(|all| all.get(name)) {
            (seat, &**inner)
        } else {
            let named = style
                .split(name)
                .and_then(|(member, inner)| Some((seats.get(member)?, inner)));
            if named.is_some_and(|(seat, _)| seat.prefix == Prefix::OnCollision) {
                return Read::Ask(None);
            }
            let prefixed = named.filter(|(seat, _)| seat.prefix == Prefix::Always);
            match (prefixed, &*seats.bare) {
                (Some(prefixed), _) => prefixed,
                (None, []) => return Read::Unknown,
                (None, [seat]) => (seat, name),
                (None, _) => return Read::Ask(None),
            }
        };
        if T::NOUN == Tool::NOUN && self.rules.read_only {
            return Read::Ask(None);
        }
        if !seat.lets_out::<T>(inner, name) {
            return Read::Unknown;
        }
        let as_it_says = Found::unlisted(seat, inner);
        match seat.has::<T>(context, inner) {
            Has::Yes(says) => Read::As(Found { says, ..as_it_says }),
            // A name that had to be changed is known by the list alone.
            _ if style.may_be_fitted(name) => Read::Ask(Some(as_it_says)),
            Has::No if !seat.options.unlisted => Read::Unknown,
            Has::NotBefore if !seat.options.unlisted => Read::Ask(Some(as_it_says)),
            _ => Read::As(as_it_says),
        }
    }

    /// The member that has this resource, and its own URI.
    pub(super) async fn find_uri(
        &self,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<Seat>, String), Error> {
        let seats = self.seats();
        let unknown = || {
            let code = match context.era() {
                Era::Modern => ErrorCode::INVALID_PARAMS,
                // Revisions before 2026-07-28 have a code of its own for it.
                Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
            };
            let message = format!("Resource not found: {uri}");
            Err(ErrorData::new(code, message, Some(json!({ "uri": uri }))).into())
        };
        let prefixed = uris::split(uri).and_then(|(member, inner)| {
            let seat = seats.get(&member)?;
            seat.prefixes_uris()
                .then(|| (seat.clone(), inner.to_owned()))
        });
        let bare = || seats.list.iter().filter(|seat| !seat.prefixes_uris());
        let found = match prefixed {
            Some(found) => Some(found),
            None => match only(bare()) {
                Some(seat) => Some((seat.clone(), uri.to_owned())),
                None if bare().next().is_none() => None,
                None => self.find_bare(&seats, uri, context).await,
            },
        };
        match found.filter(|(seat, _)| seat.options.filter.lets_out(uri)) {
            Some(found) => Ok(found),
            None => unknown(),
        }
    }

    /// Which of several members that prefix nothing has a URI: the one that lists it, else the one with the
    /// template that says most of it.
    async fn find_bare(
        &self,
        seats: &Seats,
        uri: &str,
        context: &CallContext,
    ) -> Option<(Arc<Seat>, String)> {
        if let Some(merged) = Resource::merged(&self.merged).get(&seats.class(context))
            && let Some(entry) = merged.get(uri)
            && !entry.seat.has_left()
        {
            return Some((entry.seat.clone(), entry.inner.to_string()));
        }
        let resources = self.gather::<Resource>(seats, context, Age::Walk).await;
        if let Some(entry) = resources.catalogue.get(uri) {
            return Some((entry.seat.clone(), entry.inner.to_string()));
        }
        let skills = self.gather::<Skill>(seats, context, Age::Walk).await;
        if let Some(entry) = skills.catalogue.get(uri) {
            return Some((entry.seat.clone(), entry.inner.to_string()));
        }
        let templates = self
            .gather::<ResourceTemplate>(seats, context, Age::Walk)
            .await;
        let entries = templates.catalogue.entries.iter();
        entries
            .filter(|entry| !entry.seat.prefixes_uris())
            .map(|entry| (uris::literal(&entry.inner), entry))
            .filter(|(literal, _)| uri.starts_with(literal))
            .max_by_key(|(literal, _)| literal.len())
            .map(|(_, entry)| (entry.seat.clone(), uri.to_owned()))
    }

    /// A name that nothing has (MCP 2026-07-28, Tools, "Error Handling"; Prompts likewise).
    fn unknown<T: Listed>(&self, name: &str, seats: &Seats, context: &CallContext) -> Error {
        let merged = T::merged(&self.merged).get(&seats.class(context));
        let known = merged.iter().flat_map(|merged| merged.names());
        let nearest = names::nearest(name, known);
        let mut message = format!("Unknown {}: {name}", T::NOUN);
        if !nearest.is_empty() {
            let all: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
            message.push_str(&format!(". Did you mean {}?", all.join(" or ")));
        }
        let data = json!({ "name": name, "nearest": nearest });
        ErrorData::invalid_params(message, Some(data)).into()
    }

    pub(super) async fn gather<T: Listed>(
        &self,
        seats: &Seats,
        context: &CallContext,
        age: Age,
    ) -> lists::Gathered<T> {
        let class = seats.class(context);
        self.gather_into::<T>(&self.merged, &seats.list, class, context, age)
            .await
    }

    pub(super) async fn gather_into<T: Listed>(
        &self,
        merged: &Merged,
        seats: &[Arc<Seat>],
        class: Class,
        context: &CallContext,
        age: Age,
    ) -> lists::Gathered<T> {
        for seat in seats {
            notices::watch_member(seat, context);
        }
        lists::gather::<T>(seats, class, merged, &self.rules, &self.bell, context, age).await
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

    /// Asks every member the same. It is answered if one of them answers; what a member does not know, or
    /// is not there to do, the others do.
    async fn ask_all(&self, seats: &Seats, mut request: McpRequest) -> Result<McpResponse, Error> {
        request.context.extensions.remove::<ServedBy>();
        let deadline = self.rules.deadline;
        let asked = seats.list.iter().map(|seat| {
            let call = seat.call(request.clone());
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

    /// Takes a client's notification to every member.
    async fn tell_all(&self, request: McpRequest) -> Result<McpResponse, Error> {
        let seats = self.seats();
        match only(seats.list.iter()) {
            Some(seat) => seat.call(request).await,
            None => self.ask_all(&seats, request).await,
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// What an outward name stands for.
struct Found {
    seat: Arc<Seat>,
    /// The member's own name.
    inner: String,
    /// What the tool says of itself, if a list is known that has it.
    says: Option<ToolHints>,
}

impl Found {
    fn of<T: Listed>(entry: &Entry<T>) -> Self {
        Self {
            seat: entry.seat.clone(),
            inner: entry.inner.to_string(),
            says: entry.hints(),
        }
    }

    fn unlisted(seat: &Arc<Seat>, inner: &str) -> Self {
        Self {
            seat: seat.clone(),
            inner: inner.to_owned(),
            says: None,
        }
    }
}

/// What a name says by itself.
enum Read {
    As(Found),
    Unknown,
    /// Only the lists know. Where they cannot be had, it is as it says, if it says something.
    Ask(Option<Found>),
}

fn unroutable(method: &str, what: &str) -> Error {
    let message = format!("`{method}` cannot be routed {what}");
    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None).into()
}
