//! Lists of definitions, and the description of the stack.

use std::sync::Arc;

use rmcp::model::{
    ClientRequest, DiscoverResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsRequest, ListToolsResult, PaginatedRequestParams, ServerResult, Tool,
};
use tower::ServiceExt;

use super::{
    Conversation,
    ledger::NotReserved,
    report::{self, RESULT_SIZE_META_KEY},
    state::Shared,
};
use crate::{
    Audience, CallContext, Error, Lossless, McpRequest, McpResponse, Refusal, Stack, context,
    protocol::{
        pages::{Next, Pages},
        results,
    },
    response::CallResult,
    wire::Edit,
};

/// Maximum number of tools that are asked for.
const MAX_TOOLS: usize = 10_000;

/// Returns the inner stack's description, with the capabilities for reads of kept results.
pub(super) async fn discover<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let mut response = inner.oneshot(request).await.map_err(Into::into)?;
    if shared.kept.is_none() {
        return Ok(response);
    }
    results::expect_in::<DiscoverResult>(&mut response.result)?;
    let adds_tools = shared.read_tool.is_some();
    let lacks = |discovered: &DiscoverResult| {
        let capabilities = &discovered.capabilities;
        capabilities.resources.is_none() || (adds_tools && capabilities.tools.is_none())
    };
    if let ServerResult::DiscoverResult(discovered) = &*response.result
        && lacks(discovered)
        && let ServerResult::DiscoverResult(discovered) = &mut *response.result
    {
        discovered.capabilities.resources.get_or_insert_default();
        if adds_tools {
            discovered.capabilities.tools.get_or_insert_default();
        }
    }
    Ok(response)
}

/// Returns a list of tools with the changes of the layer.
pub(super) async fn tools<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let conversation = Conversation::of(&request, shared.key.as_ref());
    let audience = Audience::of(&request.context);
    let own = shared.read_tool.clone().filter(|_| request.is_first_page());
    let mut response = match inner.oneshot(request).await.map_err(Into::into) {
        // The inner stack has no tools, and the layer has added the capability.
        Err(error) if error.is_method_not_found() && own.is_some() => {
            McpResponse::new(ListToolsResult::default())
        }
        answer => answer?,
    };
    results::expect_in::<ListToolsResult>(&mut response.result)?;
    if let ServerResult::ListToolsResult(listed) = &*response.result {
        shared.tools.learn(&audience, &listed.tools);
    }
    let mut parts = response.into_parts();
    let edited = {
        let (shared, mut result) = (shared.clone(), parts.result);
        // Hundreds of definitions are some milliseconds of work.
        tokio::task::spawn_blocking(move || {
            edit(&shared, &mut result, own);
            result
        })
    };
    parts.result = edited.await.map_err(ended)?;
    charge(&shared, conversation, parts.into()).await
}

/// Returns a list of prompts or skills, whose definitions are charged for.
pub(super) async fn definitions<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let conversation = Conversation::of(&request, shared.key.as_ref());
    let response = inner.oneshot(request).await.map_err(Into::into)?;
    charge(&shared, conversation, response).await
}

/// Returns a list of resources or templates, which is empty if the inner stack has none: the layer
/// has added the capability.
pub(super) async fn resources<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let empty = shared.kept.as_ref().and_then(|_| match &*request.message {
        ClientRequest::ListResourcesRequest(_) => {
            Some(ServerResult::from(ListResourcesResult::default()))
        }
        ClientRequest::ListResourceTemplatesRequest(_) => {
            Some(ListResourceTemplatesResult::default().into())
        }
        _ => None,
    });
    match (inner.oneshot(request).await.map_err(Into::into), empty) {
        (Err(error), Some(empty)) if error.is_method_not_found() => Ok(McpResponse::new(empty)),
        (answer, _) => answer,
    }
}

/// Hides output schemas, declares the length of results, and adds the layer's own tool.
fn edit(shared: &Shared, result: &mut Lossless<ServerResult>, own: Option<Tool>) {
    let ServerResult::ListToolsResult(listed) = &**result else {
        return;
    };
    let edits = listed.tools.iter().map(|tool| {
        if shared.rules.is_exempt_tool(&tool.name) {
            return Edit::Keep;
        }
        let hides = shared.hides_output_schemas && tool.output_schema.is_some();
        let own = tool
            .meta
            .as_ref()
            .and_then(|meta| meta.get(RESULT_SIZE_META_KEY));
        let declares = shared.declared_result_size.filter(|_| own.is_none());
        if !hides && declares.is_none() {
            return Edit::Keep;
        }
        let mut tool = tool.clone();
        if hides {
            tool.output_schema = None;
        }
        if let Some(size) = declares {
            let meta = tool.meta.get_or_insert_default();
            meta.insert(RESULT_SIZE_META_KEY.to_owned(), size.into());
        }
        Edit::Replace(tool)
    });
    let mut edits: Vec<_> = edits.collect();
    if let Some(own) = &own {
        // As a registry's, the layer's tool hides an inner one of its name.
        for (edit, tool) in edits.iter_mut().zip(&listed.tools) {
            if tool.name == own.name {
                *edit = Edit::Remove;
            }
        }
    }
    result.edit_tools(edits, own.into_iter().collect(), Vec::new());
}

/// Charges a conversation for the definitions of a list.
async fn charge(
    shared: &Arc<Shared>,
    conversation: Option<Conversation>,
    response: McpResponse,
) -> CallResult {
    if shared.definitions.is_none() {
        return Ok(response);
    }
    let counted = {
        let shared = shared.clone();
        tokio::task::spawn_blocking(move || {
            let definitions = shared.definitions.as_ref();
            let cost = definitions.and_then(|definitions| definitions.count(&response.result));
            (response, cost)
        })
    };
    let (mut response, cost) = counted.await.map_err(ended)?;
    let (Some(cost), Some(conversation)) = (cost, conversation) else {
        return Ok(response);
    };
    let charged = shared
        .ledger
        .charge_once(&conversation, cost.digest, cost.tokens);
    match charged.await {
        Ok(Some(balance)) => {
            shared.note_charge(Some(&conversation), cost.tokens, &balance);
            report::write(
                &mut response,
                cost.tokens,
                0,
                Some(&balance),
                Default::default(),
                shared.reports_in_meta,
            );
        }
        Ok(None) | Err(NotReserved::Exhausted { .. } | NotReserved::TooManyConversations) => {}
        // A list is not held up by its price.
        Err(NotReserved::Store(error)) => shared.note_store_failure(&error),
    }
    Ok(response)
}

/// Asks the inner stack for its tools on the layer's own behalf, unless it has done so a short
/// while ago.
pub(super) async fn learn_tools<S: Stack>(
    shared: &Shared,
    inner: S,
    context: &CallContext,
    audience: &Audience,
) {
    if shared.tools.was_asked(audience) {
        return;
    }
    learn_pages(shared, inner, context, audience).await;
    shared.tools.note_asked(audience);
}

async fn learn_pages<S: Stack>(
    shared: &Shared,
    inner: S,
    context: &CallContext,
    audience: &Audience,
) {
    let mut cursor = None;
    let mut pages = Pages::default();
    let mut seen = 0;
    loop {
        let mut context = context.clone();
        context.id = context::next_id();
        let mut list = ListToolsRequest::default();
        if cursor.is_some() {
            list.params = Some(PaginatedRequestParams::default().with_cursor(cursor));
        }
        let request = McpRequest::from_parts(ClientRequest::from(list), context);
        let page = inner.clone().oneshot(request).await.map_err(Into::into);
        let page: Result<ListToolsResult, Error> =
            page.and_then(|page| results::expect(page.into_result()));
        let page = match page {
            Ok(page) => page,
            Err(error) => {
                tracing::debug!(%error, "the tools of the inner stack are not known");
                return;
            }
        };
        shared.tools.learn(audience, &page.tools);
        seen += page.tools.len();
        cursor = match pages.after(page.next_cursor) {
            Next::Page(cursor) if seen < MAX_TOOLS => Some(cursor),
            _ => return,
        };
    }
}

fn ended(error: tokio::task::JoinError) -> Error {
    let text = "the list could not be changed";
    Refusal::new("budget", text).with_source(error).into()
}
