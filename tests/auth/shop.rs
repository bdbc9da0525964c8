//! A stack to guard, and requests that come to it.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use jsonwebtoken::Algorithm;
use rmcp::model::*;
use rmcp_layers::{
    Error, McpRequest, McpResponse,
    auth::{AuthLayer, AuthLayerBuilder, Rules, RulesBuilder, Scopes, TOKEN_META_KEY},
};
use serde_json::json;
use tower::{Layer, Service, ServiceExt};

use crate::{
    common::tool,
    tokens::{Issuer, by_secret},
};

#[derive(Clone, Default)]
pub struct Shop {
    pub seen: Arc<Mutex<Vec<McpRequest>>>,
    pub answers: Arc<Mutex<Vec<Result<ServerResult, ErrorData>>>>,
}

impl Shop {
    pub fn last(&self) -> McpRequest {
        self.seen.lock().unwrap().last().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Answers the next call with this.
    pub fn will_say(&self, answer: Result<ServerResult, ErrorData>) {
        self.answers.lock().unwrap().push(answer);
    }

    fn answer(&self, request: &McpRequest) -> Result<ServerResult, ErrorData> {
        if let Some(answer) = self.answers.lock().unwrap().pop() {
            return answer;
        }
        let names = ["zebra", "db__read", "db__drop", "ant", "secret"];
        let uri = |name: &str| format!("file:///{name}");
        Ok(match request.method() {
            "tools/list" => {
                let tools = names.map(|name| Tool::new(name, "", Arc::new(JsonObject::new())));
                let mut listed = ListToolsResult::with_all_items(tools.into());
                listed.next_cursor = Some("more".into());
                listed.into()
            }
            "prompts/list" => {
                let prompts = names.map(|name| Prompt::new(name, None::<String>, None));
                ListPromptsResult::with_all_items(prompts.into()).into()
            }
            "resources/list" | "resources/directory/read" => {
                let resources = names.map(|name| Resource::new(uri(name), name));
                ListResourcesResult::with_all_items(resources.into()).into()
            }
            "resources/templates/list" => {
                let templates = names.map(|name| ResourceTemplate::new(uri(name), name));
                ListResourceTemplatesResult::with_all_items(templates.into()).into()
            }
            "tools/call" => CallToolResult::success(vec![ContentBlock::text("done")]).into(),
            _ => ServerResult::empty(()),
        })
    }
}

impl Service<McpRequest> for Shop {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        let answer = self.answer(&request);
        self.seen.lock().unwrap().push(request);
        Box::pin(std::future::ready(
            answer.map(McpResponse::new).map_err(Error::protocol),
        ))
    }
}

pub fn token(scope: &str) -> String {
    Issuer::secret(Algorithm::HS256).token("alice", scope)
}

pub fn rules() -> RulesBuilder {
    Rules::builder()
        .tool("db__drop", Scopes::all_of(["db:write", "db:owner"]))
        .tool("db__*", Scopes::any_of(["db:read", "db:write"]))
        .tool("ant", Scopes::none())
        .prompt("db__*", "db:read")
        .resource("file:///db__read", "db:read")
        .resource("file:///public/*", Scopes::none())
}

pub fn layer(rules: RulesBuilder) -> AuthLayerBuilder {
    AuthLayer::builder(by_secret()).rules(rules.build().unwrap())
}

pub fn guarded(shop: &Shop, rules: RulesBuilder) -> rmcp_layers::auth::Auth<Shop> {
    layer(rules).build().unwrap().layer(shop.clone())
}

/// A request with a token in `_meta`.
pub fn shown(request: impl Into<ClientRequest>, scope: &str) -> McpRequest {
    let mut request = McpRequest::new(request);
    let token = token(scope).into();
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), token);
    request
}

pub fn call(name: &'static str, scope: &str) -> McpRequest {
    shown(CallToolRequest::new(tool(name, json!({}))), scope)
}

/// A request that came over HTTP with these headers.
pub fn over_http(uri: &str, headers: &[(&str, &str)]) -> McpRequest {
    let mut builder = http::Request::builder().method("POST").uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let (parts, ()) = builder.body(()).unwrap().into_parts();
    let mut request = McpRequest::call_tool("ant").build();
    request.context.extensions.insert(parts);
    request
}

pub async fn ask(
    stack: &rmcp_layers::auth::Auth<Shop>,
    request: McpRequest,
) -> Result<ServerResult, ErrorData> {
    let answer = stack.clone().oneshot(request).await;
    answer
        .map(McpResponse::into_result)
        .map_err(ErrorData::from)
}

pub fn names(result: &ServerResult) -> Vec<String> {
    let listed = serde_json::to_value(result).unwrap();
    let lists = ["tools", "prompts", "resources", "resourceTemplates"];
    let list = lists.iter().find_map(|list| listed[*list].as_array());
    list.unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect()
}
