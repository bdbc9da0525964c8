//! The embedded demo server, with one or more examples of each MCP primitive.

use std::{collections::BTreeMap, time::Duration};

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, object, service::RequestContext};
use serde_json::Value;

/// The server.
#[derive(Clone, Default)]
pub struct Demo;

/// Returns a tool with its description and the schema of its arguments.
fn tool(
    name: &'static str,
    description: &'static str,
    properties: Value,
    required: &[&str],
) -> Tool {
    let schema = object!({ "type": "object", "properties": properties, "required": required });
    Tool::new(name, description, schema)
}

fn tools() -> Vec<Tool> {
    let integer = || serde_json::json!({ "type": "integer" });
    let text = || serde_json::json!({ "type": "string" });
    let props = |pairs: &[(&str, Value)]| {
        Value::Object(
            pairs
                .iter()
                .map(|(name, kind)| ((*name).to_owned(), kind.clone()))
                .collect(),
        )
    };
    vec![
        tool(
            "add",
            "Adds two integers",
            props(&[("a", integer()), ("b", integer())]),
            &["a", "b"],
        )
        .with_annotations(ToolAnnotations::new().read_only(true).idempotent(true)),
        tool(
            "echo",
            "Says what it is told",
            props(&[("text", text())]),
            &["text"],
        )
        .with_annotations(ToolAnnotations::new().read_only(true).idempotent(true)),
        tool(
            "count",
            "Counts up, telling of each step",
            props(&[("steps", integer()), ("delay_ms", integer())]),
            &["steps"],
        ),
        tool(
            "sleep",
            "Takes its time",
            props(&[("ms", integer())]),
            &["ms"],
        ),
        tool("fail", "Runs, and reports a failure", props(&[]), &[]),
        tool(
            "reject",
            "Is answered with a JSON-RPC error",
            props(&[]),
            &[],
        ),
        tool(
            "ask",
            "Asks the user",
            props(&[("question", text())]),
            &["question"],
        ),
        tool(
            "think",
            "Asks the client's model",
            props(&[("prompt", text())]),
            &["prompt"],
        ),
    ]
}

impl Demo {
    async fn count(&self, call: &Call<'_>) -> Result<CallToolResponse, ErrorData> {
        let steps = call.integer("steps")?;
        let delay = Duration::from_millis(call.integer("delay_ms").unwrap_or(0));
        for step in 1..=steps {
            tokio::time::sleep(delay).await;
            if let Some(token) = call.context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, step as f64)
                    .with_total(steps as f64)
                    .with_message(format!("step {step} of {steps}"));
                // If the caller is gone, the call is cancelled. Until then, a lost step does no
                // harm.
                let _ = call.context.peer.notify_progress(progress).await;
            }
        }
        Ok(said(format!("counted to {steps}")))
    }

    /// Asks the user. Callers on 2026-07-28 are asked in the result, older ones by a request.
    async fn ask(&self, call: &Call<'_>) -> Result<CallToolResponse, ErrorData> {
        let schema = ElicitationSchema::builder()
            .required_string("answer")
            .build()
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        let params = ElicitRequestParams::FormElicitationParams {
            meta: None,
            message: call.text("question")?.to_owned(),
            requested_schema: schema,
        };
        let answer: ElicitResult = match call.answered("user")? {
            Some(answer) => answer,
            None if call.is_modern() => {
                return Ok(wanted(
                    "user",
                    InputRequest::Elicitation(ElicitRequest::new(params)),
                ));
            }
            None => call
                .context
                .peer
                .create_elicitation(params)
                .await
                .map_err(unreachable)?,
        };
        Ok(said(match answer.content {
            Some(content) => format!("the user answered {content}"),
            None => "the user did not answer".to_owned(),
        }))
    }

    /// Asks the client's model, in the same way.
    #[expect(deprecated, reason = "sampling is what older clients have")]
    async fn think(&self, call: &Call<'_>) -> Result<CallToolResponse, ErrorData> {
        let prompt = SamplingMessage::user_text(call.text("prompt")?);
        let params = CreateMessageRequestParams::new(vec![prompt], 100);
        let thought: CreateMessageResult = match call.answered("model")? {
            Some(thought) => thought,
            None if call.is_modern() => {
                let request = CreateMessageRequest::new(params);
                return Ok(wanted("model", InputRequest::CreateMessage(request)));
            }
            None => call
                .context
                .peer
                .create_message(params)
                .await
                .map_err(unreachable)?,
        };
        let text = thought
            .message
            .content
            .first()
            .and_then(|block| block.as_text());
        Ok(said(match text {
            Some(text) => format!("the model says {}", text.text),
            None => "the model says nothing".to_owned(),
        }))
    }
}

/// One `tools/call`.
struct Call<'a> {
    params: &'a CallToolRequestParams,
    context: &'a RequestContext<RoleServer>,
}

impl Call<'_> {
    fn argument(&self, name: &str) -> Option<&Value> {
        self.params.arguments.as_ref()?.get(name)
    }

    fn integer<T: TryFrom<i64>>(&self, name: &str) -> Result<T, ErrorData> {
        self.argument(name)
            .and_then(Value::as_i64)
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| ErrorData::invalid_params(format!("`{name}` must be an integer"), None))
    }

    fn text(&self, name: &str) -> Result<&str, ErrorData> {
        self.argument(name)
            .and_then(Value::as_str)
            .ok_or_else(|| ErrorData::invalid_params(format!("`{name}` must be a string"), None))
    }

    fn is_modern(&self) -> bool {
        self.context
            .protocol_version()
            .is_some_and(|version| !version.has_initialize())
    }

    /// Returns the answer of this round to the input request of the round before.
    fn answered<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ErrorData> {
        let Some(answer) = self
            .params
            .input_responses
            .as_ref()
            .and_then(|all| all.get(key))
        else {
            return Ok(None);
        };
        serde_json::from_value(answer.clone())
            .map(Some)
            .map_err(|error| {
                ErrorData::invalid_params(format!("the answer to `{key}`: {error}"), None)
            })
    }
}

fn said(text: impl Into<String>) -> CallToolResponse {
    CallToolResult::success(vec![ContentBlock::text(text)]).into()
}

fn wanted(key: &str, request: InputRequest) -> CallToolResponse {
    InputRequiredResult::from_input_requests(BTreeMap::from([(key.to_owned(), request)])).into()
}

fn unreachable(error: rmcp::ServiceError) -> ErrorData {
    match error {
        rmcp::ServiceError::McpError(error) => error,
        other => ErrorData::internal_error(other.to_string(), None),
    }
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(
                "rmcp-layers-demo",
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("A demo server. Try `add`, `count` with progress, or `ask`.")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = Call {
            params: &request,
            context: &context,
        };
        match request.name.as_ref() {
            "add" => {
                let sum = call.integer::<i64>("a")?.wrapping_add(call.integer("b")?);
                Ok(said(sum.to_string()))
            }
            "echo" => Ok(said(call.text("text")?)),
            "count" => self.count(&call).await,
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(call.integer("ms")?)).await;
                Ok(said("slept"))
            }
            "fail" => Ok(
                CallToolResult::error(vec![ContentBlock::text("this tool always fails")]).into(),
            ),
            "reject" => {
                let data = serde_json::json!({ "reason": "demo" });
                Err(ErrorData::new(
                    ErrorCode(-32050),
                    "rejected on purpose",
                    Some(data),
                ))
            }
            "ask" => self.ask(&call).await,
            "think" => self.think(&call).await,
            other => Err(ErrorData::invalid_params(
                format!("unknown tool `{other}`"),
                None,
            )),
        }
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let readme = Resource::new("demo://readme", "readme").with_mime_type("text/plain");
        Ok(ListResourcesResult::with_all_items(vec![readme]))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let item = ResourceTemplate::new("demo://item/{id}", "item");
        Ok(ListResourceTemplatesResult::with_all_items(vec![item]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let text = match request.uri.strip_prefix("demo://") {
            Some("readme") => "The demo server's readme.".to_owned(),
            Some(item) if item.starts_with("item/") => format!("This is {item}."),
            _ => {
                return Err(ErrorData::resource_not_found(
                    format!("no resource {}", request.uri),
                    None,
                ));
            }
        };
        Ok(ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]).into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let name = PromptArgument::new("name")
            .with_description("whom to greet")
            .with_required(true);
        let greet = Prompt::new("greet", Some("Greets a person"), Some(vec![name]));
        Ok(ListPromptsResult::with_all_items(vec![greet]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        if request.name != "greet" {
            return Err(ErrorData::invalid_params(
                format!("unknown prompt `{}`", request.name),
                None,
            ));
        }
        let name = request
            .arguments
            .as_ref()
            .and_then(|all| all.get("name"))
            .and_then(Value::as_str);
        let greeting = format!("Say hello to {}.", name.unwrap_or("everyone"));
        let message = PromptMessage::new_text(Role::User, greeting);
        Ok(GetPromptResult::new(vec![message]).into())
    }
}
