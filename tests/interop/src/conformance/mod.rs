//! The server the conformance suite is pointed at.
//!
//! The suite's scenarios name the tools, resources and prompts they expect and what each must
//! answer; this module is those fixtures on plain rmcp. Served bare it is the yardstick: any other
//! column (a stack of layers around it, a gateway in front of it) must score the same, check by
//! check, because it serves the same handler.

mod ask;
mod catalogue;
mod content;
mod jobs;
mod notices;
mod prompts;
mod resources;
mod rounds;
mod skills;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rmcp::model::*;
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::task_manager::TaskManager;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use notices::{Changes, Listeners};
use rounds::Seal;

/// How long, in milliseconds, a client may keep an answer that cannot change while we run.
const FRESH_FOR_MS: u64 = 60_000;

/// Every fixture the suite asks for, as one rmcp handler.
///
/// Cloning is cheap. What must outlive one request under the stateless 2026-07-28 lifecycle (tasks,
/// open subscriptions) is shared by all clones; what belongs to one legacy session (the log level,
/// the subscribed resources) is not: take a fresh one per session with [`Everything::session`].
#[derive(Clone, Default)]
pub struct Everything {
    tasks: TaskManager,
    listeners: Listeners,
    seal: Seal,
    session: Arc<Session>,
}

/// What a legacy session has asked for so far.
#[derive(Default)]
struct Session {
    log_level: Mutex<Option<LoggingLevel>>,
    watched: Mutex<HashSet<String>>,
    /// What had changed before the oldest acknowledgment of a listen that does not run yet.
    acknowledged: Mutex<Option<Changes>>,
}

impl Session {
    fn acknowledged(&self) -> MutexGuard<'_, Option<Changes>> {
        self.acknowledged
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One `tools/call`, taken apart for the modules that answer it.
struct Call<'a> {
    name: &'a str,
    arguments: JsonObject,
    answers: Option<InputResponses>,
    state: Option<String>,
    context: &'a RequestContext<RoleServer>,
}

type Answer = Result<CallToolResponse, ErrorData>;

impl Call<'_> {
    /// A string argument, or `default` when the caller left it out.
    fn text<'a>(&'a self, argument: &str, default: &'a str) -> &'a str {
        self.arguments
            .get(argument)
            .and_then(|value| value.as_str())
            .unwrap_or(default)
    }

    fn number(&self, argument: &str, default: f64) -> f64 {
        self.arguments
            .get(argument)
            .and_then(|value| value.as_f64())
            .unwrap_or(default)
    }

    fn capabilities(&self) -> ClientCapabilities {
        self.context.client_capabilities().unwrap_or_default()
    }
}

/// A finished tool call that says one thing.
fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

impl Everything {
    /// The same server for a new session: shared tasks and listeners, nothing else remembered.
    pub fn session(&self) -> Self {
        Self {
            session: Arc::default(),
            ..self.clone()
        }
    }

    /// Each module answers the tools it owns and passes on the rest.
    async fn dispatch(&self, call: Call<'_>) -> Answer {
        if let Some(result) = content::answer(&call) {
            return result.map(Into::into);
        }
        if let Some(result) = self.notify(&call).await {
            return result.map(Into::into);
        }
        if let Some(result) = ask::answer(&call).await {
            return result.map(Into::into);
        }
        if let Some(answer) = rounds::answer(&self.seal, &call) {
            return answer;
        }
        if let Some(answer) = jobs::answer(&self.tasks, &call).await {
            return answer;
        }
        Err(ErrorData::invalid_params(
            format!("no tool is called {:?}", call.name),
            None,
        ))
    }
}

impl ServerHandler for Everything {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_skills_with_directory_read()
            .enable_tasks()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(
                "rmcp-layers-conformance",
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("Fixtures for the MCP conformance suite; nothing here is useful.")
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        catalogue::tools()
            .into_iter()
            .find(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult {
            tools: catalogue::tools(),
            ..Default::default()
        }
        .with_ttl_ms(FRESH_FOR_MS)
        .with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.dispatch(Call {
            name: &request.name,
            arguments: request.arguments.unwrap_or_default(),
            answers: request.input_responses,
            state: request.request_state,
            context: &context,
        })
        .await
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(resources::list())
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(resources::templates())
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        resources::read(&request.uri).map(Into::into)
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched().insert(request.uri);
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.watched().remove(&request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut oldest = self.session.acknowledged();
        oldest.get_or_insert_with(|| self.listeners.changes());
        // Everything we advertise; rmcp takes away what we do not.
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let sink = context.sink();
        let _heard = self.listeners.add(sink.clone());
        let since = self.session.acknowledged().take();
        if let Some(since) = since {
            self.listeners.catch_up(sink, since).await;
        }
        context.cancelled().await;
        Ok(())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(prompts::list())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        prompts::get(request)
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        prompts::complete(&request)
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.keep_log_level(request.level);
        Ok(())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        self.tasks
            .get_task(&request.task_id)
            .map(GetTaskResult::new)
    }

    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks
            .update_task(&request.task_id, request.input_responses)
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.tasks.cancel_task(&request.task_id)
    }

    async fn list_skills(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListSkillsResult, ErrorData> {
        skills::list(request.and_then(|page| page.cursor).as_deref())
    }

    async fn get_skill(
        &self,
        request: GetSkillRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetSkillResult, ErrorData> {
        skills::get(&request.uri)
    }

    async fn read_resource_directory(
        &self,
        request: ReadResourceDirectoryRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceDirectoryResult, ErrorData> {
        skills::directory(&request.uri)
    }
}
