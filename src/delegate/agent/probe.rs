use std::{collections::HashMap, fmt, time::Duration};

use rmcp::model::{ListToolsRequest, ListToolsResult, PaginatedRequestParams, Tool};
use serde_json::Value;
use tokio::time::timeout;

use super::{Agent, call::send};
use crate::{
    CallContext, Error, Refusal, code, context,
    protocol::{
        pages::{Next, Pages},
        results,
    },
    util::schema::Schema,
};

/// Maximum number of tools of an agent that are looked at.
const MAX_TOOLS: usize = 10_000;
/// The time limit for the list of an agent's tools. Its process may have to be installed first.
const PROBE_WITHIN: Duration = Duration::from_secs(60);
/// Maximum number of tools that are named in an error.
const NAMED_TOOLS: usize = 20;

impl Agent {
    /// Finds out whether the agent can be reached and has the tools of its mapping, with schemas
    /// that fit it.
    pub(in crate::delegate) async fn probe(&self, context: &CallContext) -> Result<(), Error> {
        let unreachable = |reason: &dyn fmt::Display| {
            let text = format!("agent `{}` cannot be reached: {reason}", self.name());
            Refusal::new("delegate", text).with_code(code::UNAVAILABLE)
        };
        let listed_within = timeout(PROBE_WITHIN, self.tools(context)).await;
        let tools = listed_within.map_err(|_| {
            let reason = format!("it has not listed its tools within {PROBE_WITHIN:?}");
            Error::from(unreachable(&reason))
        })?;
        let tools = tools.map_err(|error| {
            let mut refusal = unreachable(&error);
            if let Some(after) = error.retry_after() {
                refusal = refusal.with_retry_after(after);
            }
            Error::from(refusal.with_source(error))
        })?;
        for call in self.mapping().examples() {
            let Some(tool) = tools.get(&*call.tool) else {
                return Err(self.misfit(&format!(
                    "has no tool `{}`, which its mapping calls; {}",
                    call.tool,
                    listed(&tools)
                )));
            };
            let schema = match Schema::compile(&tool.input_schema) {
                Ok(schema) => schema,
                Err(reason) => {
                    tracing::debug!(reason, tool = call.tool, "a schema cannot be checked");
                    continue;
                }
            };
            let arguments = Value::Object(call.arguments);
            if let Some(failures) = schema.failures(&arguments) {
                return Err(self.misfit(&format!(
                    "has a tool `{}` whose arguments its mapping does not fit: it would send \
                     {arguments}{failures}",
                    call.tool,
                )));
            }
        }
        Ok(())
    }

    async fn tools(&self, context: &CallContext) -> Result<HashMap<String, Tool>, Error> {
        let mut tools = HashMap::new();
        let mut pages = Pages::default();
        let mut cursor = None;
        loop {
            let mut list = ListToolsRequest::default();
            if cursor.is_some() {
                list.params = Some(PaginatedRequestParams::default().with_cursor(cursor));
            }
            let mut context = context.clone();
            context.id = context::next_id();
            let page = send(&self.shared, list.into(), context).await?;
            let page: ListToolsResult = results::expect(page)?;
            tools.extend(
                page.tools
                    .into_iter()
                    .map(|tool| (tool.name.to_string(), tool)),
            );
            cursor = match pages.after(page.next_cursor) {
                Next::Page(cursor) if tools.len() < MAX_TOOLS => Some(cursor),
                _ => return Ok(tools),
            };
        }
    }

    fn misfit(&self, reason: &str) -> Error {
        let text = format!("agent `{}` {reason}; change the mapping", self.name());
        Refusal::new("delegate", text)
            .with_code(code::FORBIDDEN)
            .into()
    }
}

fn listed(tools: &HashMap<String, Tool>) -> String {
    if tools.is_empty() {
        return "it has no tools".to_owned();
    }
    let mut names: Vec<_> = tools.keys().map(|name| format!("`{name}`")).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED_TOOLS);
    names.truncate(NAMED_TOOLS);
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("it has {}{more}", names.join(", "))
}
