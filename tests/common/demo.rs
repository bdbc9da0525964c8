//! A server with a tool for everything that can be lost on the way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{NotificationContext, Peer, RequestContext, SubscriptionContext, SubscriptionSink},
};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What the server has seen, for tests to wait on.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Calls of `wait` that are running.
    pub waiting: usize,
    /// Calls of `wait` that have started.
    pub started: usize,
    /// Calls of `wait` whose cancellation token has fired.
    pub cancelled: usize,
    /// The clients' notifications, by method.
    pub notices: Vec<String>,
    /// The resources that legacy clients are subscribed to.
    pub subscribed: Vec<String>,
    /// The filters of the listens that are open.
    pub listening: Vec<SubscriptionFilter>,
    /// The level of the last `logging/setLevel`.
    pub level: Option<LoggingLevel>,
}

/// The server. Clones are the same server.
#[derive(Clone, Default)]
pub struct Demo {
    seen: watch::Sender<Seen>,
    audience: Arc<Mutex<Audience>>,
}

#[derive(Default)]
struct Audience {
    next: u64,
    listens: HashMap<u64, SubscriptionSink>,
    sessions: Vec<Peer<RoleServer>>,
    watchers: Vec<(String, Peer<RoleServer>)>,
}

impl Demo {
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until the server has seen what `wanted` looks for.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&Seen) -> bool) {
        let mut seen = self.seen.subscribe();
        super::soon(what, seen.wait_for(wanted)).await.unwrap();
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells every listen, and every session on an older revision, of a change.
    pub async fn change(&self, change: impl Into<ServerNotification>) {
        let change = change.into();
        let (listens, sessions) = {
            let audience = self.audience();
            let listens: Vec<_> = audience.listens.values().cloned().collect();
            let sessions: Vec<_> = match &change {
                ServerNotification::ResourceUpdatedNotification(update) => audience
                    .watchers
                    .iter()
                    .filter(|(uri, _)| *uri == update.params.uri)
                    .map(|(_, session)| session.clone())
                    .collect(),
                _ => audience.sessions.clone(),
            };
            (listens, sessions)
        };
        for listen in listens {
            // A listen refuses what it did not ask for.
            let _ = listen.send(change.clone()).await;
        }
        for session in sessions {
            let _ = session.send_notification(change.clone()).await;
        }
    }

    fn saw(&self, method: &str) {
        self.seen
            .send_modify(|seen| seen.notices.push(method.to_owned()));
    }

    async fn wait(&self, context: &RequestContext<RoleServer>) -> Answer {
        // The token is watched from elsewhere too: the handler's future may be dropped as it fires.
        let (token, seen) = (context.ct.clone(), self.seen.clone());
        tokio::spawn(async move {
            token.cancelled().await;
            seen.send_modify(|seen| seen.cancelled += 1);
        });
        self.seen.send_modify(|seen| {
            seen.waiting += 1;
            seen.started += 1;
        });
        let _waiting = Waiting(self.seen.clone());
        context.ct.cancelled().await;
        said("cancelled")
    }
}

/// Sessions that begin with a handshake each keep their own.
fn same_session(one: &Peer<RoleServer>, other: &Peer<RoleServer>) -> bool {
    match (one.peer_info(), other.peer_info()) {
        (Some(one), Some(other)) => Arc::ptr_eq(&one, &other),
        _ => false,
    }
}

struct Waiting(watch::Sender<Seen>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.waiting -= 1);
    }
}

type Answer = Result<CallToolResponse, ErrorData>;

fn said(text: impl Into<String>) -> Answer {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

fn number(request: &CallToolRequestParams, name: &str) -> u64 {
    let arguments = request.arguments.as_ref();
    arguments
        .and_then(|arguments| arguments.get(name)?.as_u64())
        .unwrap_or_default()
}

async fn report(context: &RequestContext<RoleServer>, count: u64) -> Answer {
    let Some(token) = context.meta.get_progress_token() else {
        return said("nobody asked for progress");
    };
    for step in 1..=count {
        let progress = ProgressNotificationParam::new(token.clone(), step as f64);
        let progress = progress.with_total(count as f64);
        let _ = context.peer.notify_progress(progress).await;
    }
    said("reported")
}

async fn sample(context: &RequestContext<RoleServer>) -> Answer {
    let question = vec![SamplingMessage::user_text("Who are you?")];
    let request = CreateMessageRequestParams::new(question, 10);
    match context.peer.create_message(request).await {
        Ok(answer) => {
            let text = answer.message.content.first().and_then(|b| b.as_text());
            said(text.map_or_else(String::new, |text| text.text.clone()))
        }
        Err(error) => Ok(CallToolResult::error(vec![ContentBlock::text(error.to_string())]).into()),
    }
}

/// Wants to know a name and a greeting, and gives both back with the state it left with the caller.
fn ask(request: &CallToolRequestParams) -> Answer {
    if let Some(answers) = &request.input_responses {
        let state = request.request_state.as_deref();
        return said(json!({ "answers": answers, "state": state }).to_string());
    }
    let form = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: "What is your name?".to_owned(),
        requested_schema: serde_json::from_value(
            json!({ "type": "object", "properties": { "name": { "type": "string" } } }),
        )
        .unwrap(),
    };
    let prompt = CreateMessageRequestParams::new(vec![SamplingMessage::user_text("Greet me.")], 10);
    let wanted = BTreeMap::from([
        (
            "name".to_owned(),
            InputRequest::Elicitation(ElicitRequest::new(form)),
        ),
        (
            "greeting".to_owned(),
            InputRequest::CreateMessage(CreateMessageRequest::new(prompt)),
        ),
    ]);
    Ok(InputRequiredResult::new(Some(wanted), Some("round one".to_owned())).into())
}

/// What the server is told of a call, and by whom.
fn echo(context: &RequestContext<RoleServer>) -> Answer {
    let seen = json!({
        "meta": context.meta,
        "client": context.client_info(),
        "capabilities": context.client_capabilities(),
        "version": context.protocol_version(),
    });
    said(seen.to_string())
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_logging()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tasks()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("demo", "1.2.3"))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = serde_json::from_value::<JsonObject>(json!({ "type": "object" })).unwrap();
        let tools = ["add", "echo"].map(|name| Tool::new(name, "", Arc::new(schema.clone())));
        Ok(ListToolsResult {
            tools: tools.into(),
            ..Default::default()
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Answer {
        match &*request.name {
            "add" => said((number(&request, "a") + number(&request, "b")).to_string()),
            "echo" => echo(&context),
            "progress" => report(&context, number(&request, "count")).await,
            "slow" => {
                for _ in 0..number(&request, "count") {
                    tokio::time::sleep(Duration::from_millis(number(&request, "apart"))).await;
                    report(&context, 1).await?;
                }
                tokio::time::sleep(Duration::from_millis(number(&request, "rest"))).await;
                said("at last")
            }
            "wait" => self.wait(&context).await,
            "sample" => sample(&context).await,
            "ask" => ask(&request),
            "big" => said("x".repeat(number(&request, "bytes") as usize)),
            "fail" => Ok(CallToolResult::error(vec![ContentBlock::text("disk full")]).into()),
            "task" => {
                let task = Task::new("task-1", TaskStatus::Working, "now", "now");
                Ok(CreateTaskResult::new(task).into())
            }
            "reject" => Err(ErrorData::new(
                ErrorCode(-32050),
                "not on a Sunday",
                Some(json!({ "day": "Sunday", "nested": [1, { "two": null }] })),
            )),
            "log" => {
                let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!("line"));
                let asked = context.meta.log_level();
                let _ = context.peer.notify_logging_message(line).await;
                said(format!("{asked:?}"))
            }
            "seen" => {
                let seen = self.seen();
                said(json!({ "waiting": seen.waiting, "cancelled": seen.cancelled }).to_string())
            }
            "pid" => said(std::process::id().to_string()),
            "exit" => std::process::exit(3),
            other => Err(ErrorData::invalid_params(
                format!("no tool is called `{other}`"),
                None,
            )),
        }
    }

    async fn set_level(
        &self,
        request: SetLevelRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.seen
            .send_modify(|seen| seen.level = Some(request.level));
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.audience()
            .watchers
            .push((request.uri.clone(), context.peer));
        self.seen
            .send_modify(|seen| seen.subscribed.push(request.uri));
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.audience()
            .watchers
            .retain(|(uri, session)| *uri != request.uri || !same_session(session, &context.peer));
        self.seen.send_modify(|seen| {
            if let Some(at) = seen.subscribed.iter().position(|uri| *uri == request.uri) {
                seen.subscribed.remove(at);
            }
        });
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let key = {
            let mut audience = self.audience();
            audience.next += 1;
            let key = audience.next;
            audience.listens.insert(key, context.sink().clone());
            key
        };
        let filter = context.accepted().clone();
        let _open = Open {
            demo: self.clone(),
            key,
            filter: filter.clone(),
        };
        self.seen.send_modify(|seen| seen.listening.push(filter));
        context.cancelled().await;
        Ok(())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.audience().sessions.push(context.peer);
        self.saw("notifications/initialized");
    }

    async fn on_roots_list_changed(&self, _context: NotificationContext<RoleServer>) {
        self.saw("notifications/roots/list_changed");
    }

    async fn on_custom_notification(
        &self,
        notification: CustomNotification,
        _context: NotificationContext<RoleServer>,
    ) {
        let params = notification.params.unwrap_or(Value::Null);
        self.saw(&format!("{} {params}", notification.method));
    }
}

/// A listen that is open.
struct Open {
    demo: Demo,
    key: u64,
    filter: SubscriptionFilter,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.demo.audience().listens.remove(&self.key);
        self.demo.seen.send_modify(|seen| {
            if let Some(at) = seen.listening.iter().position(|open| *open == self.filter) {
                seen.listening.remove(at);
            }
        });
    }
}
