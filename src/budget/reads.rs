//! Reads of kept results.

use std::sync::Arc;

use rmcp::model::{
    CallToolResult, ClientRequest, ContentBlock, ErrorData, ReadResourceResult, ResourceContents,
    ServerResult,
};
use serde_json::{Map, Value, json};

use super::{
    Conversation,
    calls::{Charge, cost_of, finish, refused, run_within, sees_read_tool, tool_error},
    conversation::Owner,
    counters,
    fit::ToFit,
    kept::{KeptResult, SCHEME},
    lists,
    read_result::{Document, Misread, Page, Range, ReadRequest, read_page},
    rules::ResultKind,
    state::Shared,
};
use crate::{
    Audience, CallContext, Error, McpRequest, McpResponse, Refusal, Stack, response::CallResult,
    util::metrics::count,
};

/// The length from which the JSON of a result is read on a thread for blocking work.
const LONG: usize = 64 * 1024;
/// The number of times that a page is made shorter until it is within its share with its note.
const MAX_TRIES: usize = 4;

/// Answers a call of the tool that reads kept results.
pub(super) async fn by_tool<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let call = request.as_tool_call();
    let read = ReadRequest::from_arguments(call.and_then(|call| call.arguments.as_ref()));
    answer(shared, inner, request, read, None).await
}

/// Answers a read of a `result://` URI.
pub(super) async fn by_uri<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
) -> CallResult {
    let uri = match &*request.message {
        ClientRequest::ReadResourceRequest(read) => read.params.uri.clone(),
        _ => String::new(),
    };
    let read = ReadRequest::from_uri(&uri);
    answer(shared, inner, request, read, Some(uri)).await
}

/// Answers a read, by a URI or else by the tool.
async fn answer<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
    read: Result<ReadRequest, Misread>,
    uri: Option<String>,
) -> CallResult {
    let kind = match &uri {
        Some(_) => ResultKind::Resource,
        None => ResultKind::Tool,
    };
    let conversation = Conversation::of(&request, shared.key.as_ref());
    let asked = shared.rules.request(kind, &request);
    let reservation = match shared.reserve(conversation.as_ref(), asked).await {
        Ok(reservation) => reservation,
        Err(reason) => return refused(&reason, asked.min_to_call, kind),
    };
    let is_id = read.is_ok();
    let share = usize::try_from(reservation.share()).unwrap_or(usize::MAX);
    let read = read_within(&shared, &request.context, read, share, &uri).await;
    if let Err(Failure::Misread(Misread::UnknownId)) = &read
        && is_id
        && is_read_inside(&shared, inner.clone(), &request.context).await
    {
        return run_within(shared, inner, request, kind, conversation, reservation).await;
    }
    counters::add(&shared.counters.reads, 1);
    count!(budget.reads, 1_u64);
    let (response, charge) = match read {
        Ok(read) => read,
        Err(failure) => failed(&shared, failure, &uri).await?,
    };
    finish(
        &shared,
        conversation.as_ref(),
        reservation,
        response,
        charge,
    )
    .await
}

/// Returns `true` if an inner budget may hold what this layer does not: the inner stack lists the
/// tool of one, by the name of this layer's own.
async fn is_read_inside<S: Stack>(shared: &Shared, inner: S, context: &CallContext) -> bool {
    let Some(tool) = &shared.read_tool else {
        return false;
    };
    let audience = Audience::of(context);
    let is_known = || shared.tools.reads_kept_results(&audience, &tool.name);
    if let Some(is_read) = is_known() {
        return is_read;
    }
    lists::learn_tools(shared, inner, &context.to_background(), &audience).await;
    is_known().unwrap_or(false)
}

/// The reason why a kept result cannot be read.
enum Failure {
    Misread(Misread),
    Error(Error),
}

impl From<Misread> for Failure {
    fn from(misread: Misread) -> Self {
        Self::Misread(misread)
    }
}

async fn read_within(
    shared: &Arc<Shared>,
    context: &CallContext,
    read: Result<ReadRequest, Misread>,
    share: usize,
    uri: &Option<String>,
) -> Result<(McpResponse, Charge), Failure> {
    let read = read?;
    let kept = match &shared.kept {
        Some(kept) => kept.get(&Owner::of(context), read.id).await,
        None => Ok(None),
    };
    let kept = kept.map_err(|error| {
        shared.note_store_failure(&error);
        let text = "the store of the kept results does not answer; try again later";
        Failure::Error(Refusal::new("budget", text).with_source(error).into())
    })?;
    // The same for a result of another caller, which must not learn that it exists.
    let kept = kept.ok_or(Misread::UnknownId)?;
    let document = document(kept.clone(), read.pointer.clone()).await?;
    let tool = shared.read_tool.as_ref();
    let tool = tool.filter(|_| uri.is_none() || sees_read_tool(shared, context));
    let tool = tool.map(|tool| &*tool.name);
    if document.is_blob && read.range == Range::Page(1) {
        let whole = whole_blob(&document, &read, uri.as_deref());
        if let Some(fitted) = fitted(shared, whole, share, Map::new()).await {
            return Ok(fitted);
        }
    }
    let mut room = share;
    for _ in 0..MAX_TRIES {
        let page = read_page(&shared.fitter, &kept, document.clone(), &read, room, tool).await;
        let page = page.map_err(Misread::Arguments)?;
        let mut meta = Map::new();
        meta.insert("page".to_owned(), page.meta.clone());
        let response = response(page, uri.as_deref());
        if let Some(fitted) = fitted(shared, response, share, meta).await {
            return Ok(fitted);
        }
        room -= room / 8;
    }
    let reason = format!("a share of {share} tokens has no room for any part of it");
    Err(Misread::Arguments(reason).into())
}

/// Returns a response and its cost, if it is within the share. A page is never cut: it would not be
/// the kept text.
async fn fitted(
    shared: &Shared,
    response: McpResponse,
    share: usize,
    meta: Map<String, Value>,
) -> Option<(McpResponse, Charge)> {
    let to_fit = ToFit {
        result: response.into_parts().result,
        share,
        schema: None,
        rest: None,
    };
    let fitted = shared.fitter.fit(to_fit).await.ok()?;
    if fitted.cut.is_some() {
        return None;
    }
    let mut response = McpResponse::lossless(fitted.result);
    response.mark_session_private();
    let charge = Charge {
        meta,
        ..Charge::of(fitted.cost)
    };
    Some((response, charge))
}

/// Returns an image, audio or blob as it was in the result.
fn whole_blob(document: &Document, read: &ReadRequest, uri: Option<&str>) -> McpResponse {
    let data = document.text.to_string();
    let mime_type = document.mime_type.clone();
    let contents = |uri: String, mime_type| ResourceContents::BlobResourceContents {
        uri,
        mime_type,
        blob: data.clone(),
        meta: None,
    };
    if let Some(uri) = uri {
        let contents = vec![contents(uri.to_owned(), mime_type)];
        return McpResponse::new(ServerResult::ReadResourceResult(ReadResourceResult::new(
            contents,
        )));
    }
    let block = match mime_type {
        Some(image) if image.starts_with("image/") => ContentBlock::image(data.clone(), image),
        Some(audio) if audio.starts_with("audio/") => ContentBlock::audio(data.clone(), audio),
        other => ContentBlock::resource(contents(format!("{SCHEME}{}", read.id), other)),
    };
    McpResponse::new(CallToolResult::success(vec![block]))
}

/// Returns the text to read.
async fn document(kept: Arc<KeptResult>, pointer: Option<String>) -> Result<Document, Misread> {
    let is_long = pointer.is_some() && kept.bytes() > LONG;
    let find = move || Document::of(&kept, pointer.as_deref());
    let found = match is_long {
        true => tokio::task::spawn_blocking(find)
            .await
            .unwrap_or_else(|error| Err(format!("it cannot be read: {error}"))),
        false => find(),
    };
    found.map_err(Misread::Arguments)
}

fn response(page: Page, uri: Option<&str>) -> McpResponse {
    let Some(uri) = uri else {
        let content = vec![ContentBlock::text(page.text), ContentBlock::text(page.note)];
        return McpResponse::new(CallToolResult::success(content));
    };
    let contents = |text, uri, mime_type| ResourceContents::TextResourceContents {
        uri,
        mime_type,
        text,
        meta: None,
    };
    let mut all = vec![contents(page.text, uri.to_owned(), page.mime_type)];
    if let Some(next) = page.next {
        all.push(contents(page.note, next, Some("text/plain".to_owned())));
    }
    McpResponse::new(ServerResult::ReadResourceResult(ReadResourceResult::new(
        all,
    )))
}

/// Answers a read that has failed: a model that has called the tool gets a tool error.
async fn failed(
    shared: &Shared,
    failure: Failure,
    uri: &Option<String>,
) -> Result<(McpResponse, Charge), Error> {
    let misread = match failure {
        Failure::Misread(misread) => misread,
        Failure::Error(error) => return Err(error),
    };
    if let Some(uri) = uri {
        return Err(match misread {
            Misread::UnknownId => {
                let data = json!({ "uri": uri });
                ErrorData::resource_not_found(format!("Resource not found: {uri}"), Some(data))
            }
            Misread::Arguments(reason) => ErrorData::invalid_params(reason, None),
        }
        .into());
    }
    let name = shared.read_tool.as_ref().map_or("", |tool| &tool.name);
    let text = match misread {
        Misread::UnknownId => format!(
            "{name}: there is no result with this id. A result is kept for a while only; call its \
             tool again."
        ),
        Misread::Arguments(reason) => format!("Invalid arguments for {name}: {reason}"),
    };
    let cost = cost_of(shared, &text).await;
    Ok((tool_error(text), Charge::of(cost)))
}
