//! The list of the tasks of all members (revision 2025-11-25).

use std::sync::Arc;

use futures::future::join_all;
use rmcp::model::{ClientRequest, CustomRequest, CustomResult, ErrorData, ServerResult};
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};
use tokio_util::bytes::Bytes;

use super::{active_members::ActiveMembers, lists::listed_member::ListedMember, shared::Shared};
use crate::{
    Error, Lossless, McpRequest, McpResponse, ServedBy,
    caller::Era,
    protocol::legacy_tasks::Place,
    wire::{
        Members, Reading, Source,
        answers::{Expected, ReadResult},
    },
};

const CURSOR: &str = "cursor";
const NEXT: &str = "nextCursor";

/// The members whose lists have more pages, each with its own cursor.
type Cursors = Vec<(String, String)>;

impl Shared {
    /// Answers a page of the list of tasks: the next page of each member that has one.
    pub(super) async fn list_tasks(
        &self,
        members: &ActiveMembers,
        mut request: McpRequest,
    ) -> Result<McpResponse, Error> {
        request.context.extensions.remove::<ServedBy>();
        let asked = pages(members, &request)?;
        let is_of_one = asked.len() == 1;
        let pages = asked.into_iter().map(|(member, cursor)| {
            let mut request = request.clone();
            set_cursor(&mut request, cursor);
            self.tasks_of(member, request)
        });
        let (mut tasks, mut next) = (Vec::new(), Cursors::new());
        let (mut failed, mut missing, mut any) = (None, Vec::new(), false);
        // The `_meta` of one member's list does not apply to the lists of others.
        let mut meta = None;
        for (member, page) in join_all(pages).await {
            match page {
                Ok(page) => {
                    any = true;
                    meta = page.meta.filter(|_| is_of_one);
                    if !tasks.is_empty() && !page.tasks.is_empty() {
                        tasks.push(b',');
                    }
                    tasks.extend(page.tasks);
                    next.extend(page.next.map(|cursor| (member.name.to_string(), cursor)));
                }
                Err(error) => {
                    if !error.is_method_not_found() {
                        missing.push(Value::from(&*member.name));
                    }
                    failed = failed
                        .filter(|_| error.is_method_not_found())
                        .or(Some(error));
                }
            }
        }
        if let Some(error) = failed.filter(|_| !any) {
            return Err(error);
        }
        if !missing.is_empty() {
            meta = to_raw_value(&json!({ "rmcp-layers/missing": missing })).ok();
        }
        let mut response = merged(&request.message, &tasks, &next, meta)?;
        members.mark_private(&mut response, &request.context);
        Ok(response)
    }

    /// Requests a page of one member's tasks.
    async fn tasks_of<'a>(
        &self,
        member: &'a Arc<ListedMember>,
        request: McpRequest,
    ) -> (&'a Arc<ListedMember>, Result<TaskPage, Error>) {
        let timeout = self.rules.list_timeout;
        let outward = self.outward(member, &request.context);
        let answer = tokio::time::timeout(timeout, member.call(request)).await;
        let page = match answer {
            Ok(Ok(mut response)) => {
                outward.seal_tasks(&mut response.result, Some(Place::List));
                TaskPage::of(&response.result).map_err(|error| {
                    let why = format!("the list of tasks of `{}`: {error}", member.name);
                    ErrorData::internal_error(why, None).into()
                })
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::timeout(timeout)),
        };
        (member, page)
    }
}

/// A page of one member's tasks.
struct TaskPage {
    /// The tasks as text, with commas between them.
    tasks: Vec<u8>,
    next: Option<String>,
    meta: Option<Box<RawValue>>,
}

impl TaskPage {
    fn of(result: &Lossless<ServerResult>) -> serde_json::Result<Self> {
        let text = match result.text() {
            Some(text) => text,
            None => serde_json::to_vec(&**result)?.into(),
        };
        let members: Members<'_> = serde_json::from_slice(&text)?;
        let mut tasks = Vec::new();
        let all = members.get("tasks").map(RawValue::get).unwrap_or("[]");
        for task in serde_json::from_str::<Vec<&RawValue>>(all)? {
            if !tasks.is_empty() {
                tasks.push(b',');
            }
            tasks.extend_from_slice(task.get().as_bytes());
        }
        let next = members.get(NEXT).map(RawValue::get).unwrap_or("null");
        Ok(Self {
            tasks,
            next: serde_json::from_str(next)?,
            meta: members.get("_meta").map(ToOwned::to_owned),
        })
    }
}

/// The members to ask, each with the cursor of its page.
type Asked<'a> = Vec<(&'a Arc<ListedMember>, Option<String>)>;

/// Returns the members to ask, each with the cursor of its page.
fn pages<'a>(members: &'a ActiveMembers, request: &McpRequest) -> Result<Asked<'a>, Error> {
    let ClientRequest::CustomRequest(custom) = &*request.message else {
        return Ok(Vec::new());
    };
    let cursor = custom.params.as_ref().and_then(|params| params.get(CURSOR));
    let Some(Value::String(cursor)) = cursor else {
        return Ok(members.list.iter().map(|member| (member, None)).collect());
    };
    let cursors: Cursors = serde_json::from_str(cursor)
        .map_err(|_| ErrorData::invalid_params("Invalid cursor", None))?;
    let known = cursors.into_iter().take(members.list.len());
    let known = known.filter_map(|(name, cursor)| Some((members.get(&name)?, Some(cursor))));
    Ok(known.collect())
}

fn set_cursor(request: &mut McpRequest, cursor: Option<String>) {
    let ClientRequest::CustomRequest(custom) = &*request.message else {
        return;
    };
    let mut params = match &custom.params {
        Some(Value::Object(params)) => params.clone(),
        _ => Map::new(),
    };
    match cursor {
        Some(cursor) => drop(params.insert(CURSOR.to_owned(), cursor.into())),
        None => drop(params.shift_remove(CURSOR)),
    }
    let params = (custom.params.is_some() || !params.is_empty()).then(|| params.into());
    let changed = CustomRequest::new(custom.method.clone(), params);
    if custom.params != changed.params {
        *request.message = changed.into();
    }
}

/// Returns the response with the tasks of all members.
fn merged(
    request: &ClientRequest,
    tasks: &[u8],
    next: &Cursors,
    meta: Option<Box<RawValue>>,
) -> Result<McpResponse, Error> {
    let text = |out: &mut Vec<u8>| -> serde_json::Result<()> {
        out.extend_from_slice(br#"{"tasks":["#);
        out.extend_from_slice(tasks);
        out.push(b']');
        if !next.is_empty() {
            out.extend_from_slice(br#","nextCursor":"#);
            serde_json::to_writer(&mut *out, &serde_json::to_string(next)?)?;
        }
        if let Some(meta) = &meta {
            out.extend_from_slice(br#","_meta":"#);
            out.extend_from_slice(meta.get().as_bytes());
        }
        out.push(b'}');
        Ok(())
    };
    let mut out = Vec::with_capacity(tasks.len() + 256);
    let unreadable =
        |error: serde_json::Error| Error::from(ErrorData::internal_error(error.to_string(), None));
    text(&mut out).map_err(unreadable)?;
    let json: Value = serde_json::from_slice(&out).map_err(unreadable)?;
    let reading = Reading::Result(ReadResult {
        expected: Expected::of(request),
        era: Era::Legacy,
    });
    let source = Source::new(Bytes::from(out), reading);
    let result = CustomResult(json).into();
    Ok(McpResponse::lossless(Lossless::from_source(
        result,
        Some(source),
    )))
}
