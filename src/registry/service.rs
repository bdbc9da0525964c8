use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, TryFutureExt, future::BoxFuture};
use rmcp::model::{
    CallToolResult, ClientRequest, DiscoverResult, ErrorData, ListToolsResult, ProtocolVersion,
    ServerCapabilities, ServerResult,
};
use serde_json::Value;
use tower::{Service, ServiceExt};

use super::{
    listen,
    no_tools::unknown_tool,
    search::{self, CALL_TOOL, SEARCH_TOOLS, Search},
    state::{Entry, Resolved, Shared, unavailable},
    tool_result::tool_error,
    version::{DEPRECATED_META_KEY, VERSION_META_KEY},
};
use crate::{
    Error, McpRequest, McpResponse, Outcome, Stack, protocol::results, response::CallResult,
    util::panics,
};

/// The service of a [`RegistryLayer`](super::RegistryLayer).
///
/// It is always ready, so registered tools run while the inner stack is busy. Only a request that
/// goes to the inner stack waits for that stack's readiness.
pub struct Registry<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> Registry<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone> Clone for Registry<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone(), self.inner.clone())
    }
}

impl<S> fmt::Debug for Registry<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl<S> Service<McpRequest> for Registry<S>
where
    S: Stack,
{
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, CallResult>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        self.shared.run_checks();
        let (shared, inner) = (self.shared.clone(), self.inner.clone());
        match &*request.message {
            ClientRequest::CallToolRequest(_) => Box::pin(call_tool(shared, inner, request)),
            ClientRequest::ListToolsRequest(_) => Box::pin(list(shared, inner, request)),
            ClientRequest::DiscoverRequest(_) => Box::pin(discover(shared, inner, request)),
            ClientRequest::SubscriptionsListenRequest(listen)
                if listen.params.notifications.tools_list_changed == Some(true) =>
            {
                Box::pin(listen::run(shared, inner, request))
            }
            _ => Box::pin(inner.oneshot(request).map_err(Into::into)),
        }
    }
}

/// Returns the inner stack's discovery result with the `tools` capability added.
async fn discover<S>(shared: Arc<Shared>, inner: S, request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let mut response = match inner.oneshot(request).await.map_err(Into::into) {
        Err(error) if shared.serves_without(&error) => {
            let described = DiscoverResult::new(
                ProtocolVersion::KNOWN_VERSIONS.to_vec(),
                ServerCapabilities::default(),
            );
            McpResponse::new(ServerResult::DiscoverResult(described))
        }
        answer => answer?,
    };
    results::expect_in::<DiscoverResult>(&mut response.result)?;
    let announces = |discovered: &DiscoverResult| {
        let tools = discovered.capabilities.tools.as_ref();
        tools.is_some_and(|tools| tools.list_changed == Some(true))
    };
    if let ServerResult::DiscoverResult(discovered) = &*response.result
        && !announces(discovered)
        && let ServerResult::DiscoverResult(discovered) = &mut *response.result
    {
        let tools = discovered.capabilities.tools.get_or_insert_default();
        tools.list_changed = Some(true);
    }
    Ok(response)
}

/// Returns the registered tools and the inner stack's first page. A later page is the inner stack's
/// alone.
async fn list<S>(shared: Arc<Shared>, inner: S, request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    if let Some(search) = shared.search.as_ref().filter(|search| search.hides_tools()) {
        let listed = ListToolsResult::with_all_items(search.definitions());
        return Ok(McpResponse::new(listed));
    }
    let first = request.is_first_page();
    let mut response = match inner.oneshot(request).await.map_err(Into::into) {
        Err(error) if first && (error.is_method_not_found() || shared.serves_without(&error)) => {
            McpResponse::new(ListToolsResult::default())
        }
        answer => answer?,
    };
    results::expect_in::<ListToolsResult>(&mut response.result)?;
    let ServerResult::ListToolsResult(listed) = &*response.result else {
        return Ok(response);
    };
    let edits = shared.filter_inner(&listed.tools);
    let mut own = Vec::new();
    if first {
        own.extend_from_slice(&shared.listed());
        own.extend(shared.search.iter().flat_map(Search::definitions));
    }
    response.result.edit_tools(edits, own, Vec::new());
    Ok(response)
}

async fn call_tool<S>(shared: Arc<Shared>, inner: S, mut request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse> + Clone,
    S::Error: Into<Error>,
{
    let mut decided_here = false;
    if shared.search.is_some() {
        if called(&request) == CALL_TOOL {
            if let Some(misfit) = search::misfit(&request) {
                return Err(misfit.into());
            }
            if let Err(answer) = Search::unwrap_call(&mut request) {
                return Ok(answer);
            }
            // Authorization layers have only seen the call of `call_tool` so far.
            request.admit()?;
            decided_here = request.context.has_limited_visibility();
        }
        if called(&request) == SEARCH_TOOLS {
            return Box::pin(search::answer(shared, inner, request)).await;
        }
    }
    let mut answer = call_named(shared, inner, request).await;
    if decided_here && let Ok(response) = &mut answer {
        // A cache further out would return the result without authorization of the actual call.
        response.mark_session_private();
    }
    answer
}

async fn call_named<S>(shared: Arc<Shared>, inner: S, request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let pinned = request.context.meta.get(VERSION_META_KEY);
    // A value that is not a string matches no version.
    let pinned = pinned.map(|version| version.as_str().unwrap_or_default());
    let resolved = shared.resolve(called(&request), pinned);
    match resolved {
        Ok(Resolved::Own(entry)) => call_own(shared, entry, request).await,
        Ok(Resolved::Inner) => match shared.inner_down(called(&request)) {
            Some(reason) => Err(unavailable(called(&request), &reason).into()),
            None => call_inner(shared, inner, request).await,
        },
        Err(unknown) => Err(ErrorData::from(unknown).into()),
    }
}

/// Returns the name of the called tool.
fn called(request: &McpRequest) -> &str {
    request.as_tool_call().map_or("", |call| &call.name)
}

async fn call_inner<S>(shared: Arc<Shared>, inner: S, request: McpRequest) -> CallResult
where
    S: Service<McpRequest, Response = McpResponse>,
    S::Error: Into<Error>,
{
    let name = called(&request).to_owned();
    let answer = inner.oneshot(request).await.map_err(Into::into);
    let outcome = Outcome::of(&answer);
    if let Some(monitor) = shared.monitor_after(&name, outcome) {
        shared.observe(&monitor, outcome, || reason(&answer));
    }
    match answer {
        // The inner stack has no tools at all, but this server has.
        Err(error) if error.is_method_not_found() => Err(unknown_tool(&name).into()),
        answer => answer,
    }
}

async fn call_own(shared: Arc<Shared>, entry: Arc<Entry>, mut request: McpRequest) -> CallResult {
    let (tool, parts) = (&entry.tool, entry.tool.parts());
    let name = tool.name();
    if let Some(reason) = entry.monitor.down() {
        return Err(unavailable(name, &reason).into());
    }
    if let Some(schema) = &parts.input {
        // The arguments are as they were afterwards, so that they count as unchanged.
        let mut given = match request.message.as_read_mut() {
            ClientRequest::CallToolRequest(call) => Some(&mut call.params.arguments),
            _ => None,
        };
        let taken = given.as_mut().and_then(|given| given.take());
        let is_given = taken.is_some();
        let arguments = Value::Object(taken.unwrap_or_default());
        if let Some(failures) = schema.failures(&arguments) {
            return Ok(tool_error(format!(
                "Invalid arguments for {name}:{failures}"
            )));
        }
        if let (Some(given), Value::Object(arguments)) = (given, arguments) {
            *given = Some(arguments).filter(|_| is_given);
        }
    }
    if called(&request) != name
        && let Some(call) = request.as_tool_call_mut()
    {
        call.name = name.to_owned().into();
    }
    // The handler is called inside the future, so that a panic of its first steps is caught as
    // well.
    let handled = AssertUnwindSafe(async { (parts.handler)(request).await }).catch_unwind();
    let mut answer = match handled.await {
        Ok(answer) => answer,
        Err(panic) => {
            // The panic's text may hold private data, so it stays in the log.
            let text = panics::message(&*panic);
            tracing::error!(tool = name, panic = text, "a tool's handler panicked");
            let message = format!("{name} failed: its handler panicked");
            shared.observe_failure(&entry.monitor, &message, "its handler panicked");
            return Ok(tool_error(message));
        }
    };
    if let Some(misfit) = answer
        .as_ref()
        .ok()
        .and_then(|answer| misfit(&entry, answer))
    {
        tracing::error!(
            tool = name,
            misfit,
            "a tool's result does not fit its output schema"
        );
        shared.observe_failure(&entry.monitor, &misfit, "its results break its schema");
        return Ok(tool_error(misfit));
    }
    shared.observe(&entry.monitor, Outcome::of(&answer), || reason(&answer));
    if let Some(note) = entry.deprecated()
        && let Ok(response) = &mut answer
        && response.as_tool_result().is_some()
        && let ServerResult::CallToolResult(result) = &mut *response.result
    {
        let meta = result.meta.get_or_insert_default();
        meta.insert(DEPRECATED_META_KEY.to_owned(), (*note).into());
    }
    answer
}

/// Returns the way in which a finished result breaks the tool's output schema, if it does.
fn misfit(entry: &Entry, answer: &McpResponse) -> Option<String> {
    let schema = entry.tool.parts().output.as_ref()?;
    let result = answer.as_tool_result()?;
    if result.is_error == Some(true) {
        return None;
    }
    let failures = match &result.structured_content {
        Some(content) => schema.failures(content)?,
        None => " it has no structured content".to_owned(),
    };
    let name = entry.tool.name();
    Some(format!(
        "The result of {name} does not fit its output schema:{failures}"
    ))
}

/// Returns the text of a failed call.
fn reason(answer: &CallResult) -> String {
    let said = |result: &CallToolResult| {
        let text = result.content.iter().find_map(|block| block.as_text());
        text.map(|text| text.text.clone())
    };
    match answer {
        Ok(response) => response.as_tool_result().and_then(said),
        Err(error) => Some(error.to_string()),
    }
    .unwrap_or_else(|| "a call failed".to_owned())
}
