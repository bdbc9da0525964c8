//! The list of tools, and the description of the stack.

use std::sync::Arc;

use rmcp::model::{DiscoverResult, ListToolsResult, ServerResult, TASKS_EXTENSION_ID};
use tower::ServiceExt;

use super::layer::Shared;
use crate::{McpRequest, McpResponse, Stack, protocol::results, response::CallResult, wire::Edit};

/// Returns the inner stack's tools, with those of the layer at the end of the last page.
pub(super) async fn tools<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let is_first = request.is_first_page();
    let mut response = match inner.oneshot(request).await.map_err(Into::into) {
        // The inner stack has no tools, and the layer has added the capability.
        Err(error) if error.is_method_not_found() && is_first => {
            McpResponse::new(ListToolsResult::default())
        }
        answer => answer?,
    };
    results::expect_in::<ListToolsResult>(&mut response.result)?;
    let ServerResult::ListToolsResult(listed) = &*response.result else {
        return Ok(response);
    };
    // As a registry's, the layer's tools hide inner ones of their names.
    let edits = listed.tools.iter().map(|tool| {
        match shared.tools.iter().any(|own| own.name == tool.name) {
            true => Edit::Remove,
            false => Edit::Keep,
        }
    });
    let edits = edits.collect();
    let own = match listed.next_cursor {
        None => shared.tools.to_vec(),
        Some(_) => Vec::new(),
    };
    response.result.edit_tools(edits, Vec::new(), own);
    Ok(response)
}

/// Returns the inner stack's description, with the capability `tools` and the Tasks extension.
pub(super) async fn discover<S: Stack>(inner: S, request: McpRequest) -> CallResult {
    let mut response = inner.oneshot(request).await.map_err(Into::into)?;
    results::expect_in::<DiscoverResult>(&mut response.result)?;
    let lacks = |discovered: &DiscoverResult| {
        let capabilities = &discovered.capabilities;
        capabilities.tools.is_none() || !capabilities.supports_tasks()
    };
    if let ServerResult::DiscoverResult(discovered) = &*response.result
        && lacks(discovered)
        && let ServerResult::DiscoverResult(discovered) = &mut *response.result
    {
        discovered.capabilities.tools.get_or_insert_default();
        let extensions = discovered.capabilities.extensions.get_or_insert_default();
        extensions.entry(TASKS_EXTENSION_ID.to_owned()).or_default();
    }
    Ok(response)
}
