//! Tool search.

mod index;

use std::sync::{Arc, Mutex};

use rmcp::model::{
    CallToolResult, ClientRequest, ErrorData, JsonObject, ListToolsRequest, ListToolsResult,
    PaginatedRequestParams, Tool, ToolAnnotations,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};

use self::index::{Document, Index};
use super::{state::Shared, tool_result::tool_error};
use crate::{
    CallContext, Error, Item, McpRequest, McpResponse, context,
    protocol::{
        pages::{Next, Pages},
        results,
    },
    util::lock,
    wire::Edit,
};

/// The name of the tool that searches tools.
pub const SEARCH_TOOLS: &str = "search_tools";
/// The name of the tool that calls a tool from a search result.
pub const CALL_TOOL: &str = crate::request::CALL_TOOL;

/// Default and maximum number of tools in one search result.
const DEFAULT_HITS: usize = 10;
const MAX_HITS: usize = 50;
/// Maximum length of a query in characters.
const MAX_QUERY: usize = 1_000;
/// Maximum number of inner tools that are searched.
const MAX_TOOLS: usize = 10_000;
/// Number of tools from which indexing and searching run off the runtime's threads.
const MANY_TOOLS: usize = 200;

/// The contents of `tools/list` if the search is on.
///
/// In both modes `search_tools` takes a `query`, and a `limit` of 1 to 50 (default: 10). It returns
/// the definitions of the best matches, from the registered tools and the inner stack's. Names,
/// tags, titles, descriptions and argument names count, with decreasing weight, by BM25. Limit:
/// 10,000 inner tools are searched.
///
/// A search covers only the tools that its caller may see. Each outer layer that limits the
/// caller's [visibility](crate::Visibility), such as the auth layer, is asked about each tool
/// before the ranking. Hidden tools therefore do not affect the ranking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SearchMode {
    /// All tools, and `search_tools`.
    Beside,
    /// Only `search_tools` and `call_tool`. `call_tool` takes the `name` and the `arguments` of a
    /// tool from a search result.
    ///
    /// This mode is for catalogues that are too large for a model's context. The list never
    /// changes, so prompts that contain it stay cached. Every tool can still be called by its name.
    ///
    /// Layers *around* the registry see a call of `call_tool`, with the tool's name in its
    /// arguments. Authorization layers are [asked](McpRequest::admit) about the actual call, also
    /// through a gateway, so the auth layer's rules apply to the tool's name. Put other layers that
    /// decide by a tool's name (such as its cost, or whether it may be repeated) *inside* the
    /// registry, or use [`Beside`](Self::Beside).
    Only,
}

pub(super) struct Search {
    mode: SearchMode,
    search: Tool,
    call: Tool,
    /// The index of the list that was searched last.
    index: Mutex<Option<Arc<Index>>>,
}

/// The arguments of [`SEARCH_TOOLS`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchArguments {
    query: String,
    /// A number of any form: `10` and `10.0` are the same integer in JSON Schema.
    #[serde(default)]
    limit: Option<f64>,
}

/// The arguments of [`CALL_TOOL`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CallArguments {
    name: String,
    #[serde(default)]
    arguments: Option<JsonObject>,
}

impl SearchArguments {
    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_QUERY).contains(&self.query.chars().count()) {
            return Err(format!("at /query: give 1 to {MAX_QUERY} characters"));
        }
        let is_limit =
            |limit: f64| limit.fract() == 0.0 && (1.0..=MAX_HITS as f64).contains(&limit);
        if self.limit.is_some_and(|limit| !is_limit(limit)) {
            return Err(format!("at /limit: give an integer from 1 to {MAX_HITS}"));
        }
        Ok(())
    }
}

/// Reads the arguments of one of the registry's own two tools, or returns a tool error.
fn arguments<T: DeserializeOwned>(
    request: &mut McpRequest,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<T, McpResponse> {
    let (name, given) = match request.as_tool_call_mut() {
        Some(call) => (call.name.to_string(), call.arguments.take()),
        None => (String::new(), None),
    };
    let read = serde_json::from_value(Value::Object(given.unwrap_or_default()));
    let read = read.map_err(|error| error.to_string());
    read.and_then(|arguments| check(&arguments).map(|()| arguments))
        .map_err(|reason| tool_error(format!("Invalid arguments for {name}: {reason}")))
}

fn definition(name: &'static str, description: &'static str, schema: Value) -> Tool {
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    Tool::new(name, description, schema)
}

/// Returns an error if a call of [`CALL_TOOL`] has a member of the wrong type: no layer could
/// authorize the actual call.
pub(super) fn misfit(request: &McpRequest) -> Option<ErrorData> {
    let given = request.as_tool_call()?.arguments.as_ref()?;
    let misfits = |member: &str, fits: fn(&Value) -> bool| {
        given.get(member).is_some_and(|value| !fits(value))
    };
    let (member, expected) = if misfits("name", Value::is_string) {
        ("name", "a string")
    } else if misfits("arguments", Value::is_object) {
        ("arguments", "an object")
    } else {
        return None;
    };
    let path = format!("params.arguments.{member}");
    let message = format!("a call of `{CALL_TOOL}` cannot be read: {path}: expected {expected}");
    let data = json!({ "method": "tools/call", "path": path });
    Some(ErrorData::invalid_params(message, Some(data)))
}

impl Search {
    pub(super) fn new(mode: SearchMode) -> Self {
        let query = "What the tool should do, in a few words.";
        let limit = "How many tools to name. 10 if it is not given.";
        let mut search = definition(
            SEARCH_TOOLS,
            "Finds tools by what they do. Answers with the definitions of those that fit best, best first.",
            json!({
                "type": "object",
                "properties": {
                    "query": { "type": "string", "minLength": 1, "maxLength": MAX_QUERY, "description": query },
                    "limit": { "type": "integer", "minimum": 1, "maximum": MAX_HITS, "description": limit },
                },
                "required": ["query"],
                "additionalProperties": false,
            }),
        );
        let annotations = ToolAnnotations::new().read_only(true).open_world(false);
        search.annotations = Some(annotations.idempotent(true));
        let call = definition(
            CALL_TOOL,
            "Calls a tool that search_tools named.",
            json!({
                "type": "object",
                "properties": {
                    "name": { "type": "string", "description": "The tool's name." },
                    "arguments": {
                        "type": "object",
                        "description": "What the tool's inputSchema asks for.",
                    },
                },
                "required": ["name"],
                "additionalProperties": false,
            }),
        );
        Self {
            mode,
            search,
            call,
            index: Mutex::default(),
        }
    }

    pub(super) fn hides_tools(&self) -> bool {
        self.mode == SearchMode::Only
    }

    /// Returns the definitions of the search's own tools, in a fixed order.
    pub(super) fn definitions(&self) -> Vec<Tool> {
        let search = self.search.clone();
        match self.mode {
            SearchMode::Beside => vec![search],
            SearchMode::Only => vec![self.call.clone(), search],
        }
    }

    /// Replaces a call of `call_tool` by the actual call.
    pub(super) fn unwrap_call(request: &mut McpRequest) -> Result<(), McpResponse> {
        let params = request.message.inner_call_params();
        let CallArguments { name, arguments } = arguments(request, |_| Ok(()))?;
        if name == CALL_TOOL {
            return Err(tool_error("call_tool does not call itself"));
        }
        if let Some(call) = request.as_tool_call_mut() {
            call.name = name.into();
            call.arguments = arguments;
        }
        if let Some(params) = params {
            request.message.set_text(params);
        }
        Ok(())
    }

    /// Returns the index of these tools. The last index is reused if the tools are the same.
    async fn index(&self, documents: Vec<Document>) -> Result<Arc<Index>, McpResponse> {
        let last = lock(&self.index).clone();
        if let Some(last) = last.filter(|last| last.documents == documents) {
            return Ok(last);
        }
        let index = if documents.len() < MANY_TOOLS {
            Index::new(documents)
        } else {
            let built = tokio::task::spawn_blocking(move || Index::new(documents)).await;
            built.map_err(|error| tool_error(format!("the search failed: {error}")))?
        };
        let index = Arc::new(index);
        *lock(&self.index) = Some(index.clone());
        Ok(index)
    }
}

/// Answers a call of `search_tools`.
pub(super) async fn answer<S>(
    shared: Arc<Shared>,
    inner: S,
    mut request: McpRequest,
) -> Result<McpResponse, Error>
where
    S: Service<McpRequest, Response = McpResponse> + Clone,
    S::Error: Into<Error>,
{
    let Some(search) = &shared.search else {
        return Ok(tool_error("there is no search here"));
    };
    let SearchArguments { query, limit } = match arguments(&mut request, SearchArguments::check) {
        Ok(arguments) => arguments,
        Err(answer) => return Ok(answer),
    };
    let limit = limit.map_or(DEFAULT_HITS, |limit| limit as usize);
    let mut documents: Vec<Document> = shared
        .listed()
        .iter()
        .map(|tool| Document {
            tags: shared.tags(&tool.name),
            tool: tool.clone(),
        })
        .collect();
    let (_, context) = request.into_parts();
    let inner = inner_tools(&shared, inner, &context).await?;
    documents.extend(inner.into_iter().map(|tool| Document {
        tool,
        tags: Vec::new(),
    }));
    let many = documents.len() >= MANY_TOOLS;
    let index = match search.index(documents).await {
        Ok(index) => index,
        Err(answer) => return Ok(answer),
    };
    let limited = context.has_limited_visibility();
    let find = move || {
        let found = index.find(&query, limit, |name| context.sees(Item::Tool(name)));
        serde_json::to_value(found).unwrap_or_default()
    };
    let found = if many {
        match tokio::task::spawn_blocking(find).await {
            Ok(found) => found,
            Err(error) => return Ok(tool_error(format!("the search failed: {error}"))),
        }
    } else {
        find()
    };
    let mut response = McpResponse::new(CallToolResult::structured(json!({ "tools": found })));
    if limited {
        // An authorization layer may show the caller other tools the next time.
        response.mark_session_private();
    }
    Ok(response)
}

/// Returns the inner stack's tools that this caller may see.
async fn inner_tools<S>(
    shared: &Shared,
    inner: S,
    context: &CallContext,
) -> Result<Vec<Tool>, Error>
where
    S: Service<McpRequest, Response = McpResponse> + Clone,
    S::Error: Into<Error>,
{
    let mut tools = Vec::new();
    let mut cursor = None;
    let mut pages = Pages::default();
    loop {
        let mut context = context.clone();
        context.id = context::next_id();
        let mut list = ListToolsRequest::default();
        if cursor.is_some() {
            list.params = Some(PaginatedRequestParams::default().with_cursor(cursor));
        }
        let request = McpRequest::from_parts(ClientRequest::from(list), context);
        let page: ListToolsResult = match inner.clone().oneshot(request).await.map_err(Into::into) {
            Ok(page) => results::expect(page.into_result())?,
            Err(error) if error.is_method_not_found() => break,
            Err(error) => return Err(error),
        };
        tools.extend(page.tools);
        cursor = match pages.after(page.next_cursor) {
            Next::Page(cursor) => Some(cursor),
            Next::End => break,
            Next::CutShort(why) => {
                shared.log_cut_short(why);
                break;
            }
        };
        if tools.len() >= MAX_TOOLS {
            tracing::warn!("the search leaves out what comes after {MAX_TOOLS} inner tools");
            tools.truncate(MAX_TOOLS);
            break;
        }
    }
    let edits = shared.filter_inner(&tools);
    let edited = tools.into_iter().zip(edits);
    let shown = edited.filter_map(|(tool, edit)| match edit {
        Edit::Keep => Some(tool),
        Edit::Remove => None,
        Edit::Replace(tool) => Some(tool),
    });
    Ok(shown.collect())
}
