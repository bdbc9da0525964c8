//! A server for the tests.

use super::*;

/// A server with a catalogue that can change. Clones are the same server.
#[derive(Clone)]
pub(super) struct Shop(pub(super) Arc<State>);

pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) tools: Mutex<Vec<Tool>>,
    pub(super) page: usize,
    /// How long a list takes.
    pub(super) slowness: Mutex<Duration>,
    /// How often a list was asked for.
    pub(super) lists: AtomicUsize,
    pub(super) scope: Option<CacheScope>,
    pub(super) announces: bool,
    pub(super) listens: Mutex<Vec<SubscriptionSink>>,
}

pub(super) fn named(name: &str) -> Tool {
    let schema = JsonObject::from_iter([("type".to_owned(), json!("object"))]);
    Tool::new(name.to_owned(), format!("Does {name}."), schema)
}

impl Shop {
    pub(super) fn with(name: &'static str, tools: &[&str]) -> Self {
        Self::of(name, tools, |_| {})
    }

    pub(super) fn of(name: &'static str, tools: &[&str], set: impl FnOnce(&mut State)) -> Self {
        let mut state = State {
            name,
            tools: Mutex::new(tools.iter().map(|name| named(name)).collect()),
            page: usize::MAX,
            slowness: Mutex::default(),
            lists: AtomicUsize::default(),
            scope: None,
            announces: true,
            listens: Mutex::default(),
        };
        set(&mut state);
        Self(Arc::new(state))
    }

    /// The server, at the other end of a pipe.
    pub(super) fn piped(&self) -> Upstream {
        let shop = self.clone();
        Upstream::builder().name(self.0.name).transport(move || {
            let near = pipe_to(shop.clone());
            async move { Ok::<_, io::Error>(near) }
        })
    }

    pub(super) fn lists(&self) -> usize {
        self.0.lists.load(Ordering::SeqCst)
    }

    pub(super) fn is_slow(&self, slowness: Duration) {
        *self.0.slowness.lock().unwrap() = slowness;
    }

    /// Has other tools from now on, and says so.
    pub(super) async fn stock(&self, tools: &[&str]) {
        *self.0.tools.lock().unwrap() = tools.iter().map(|name| named(name)).collect();
        self.tell(ToolListChangedNotification::default()).await;
    }

    pub(super) async fn tell(&self, change: impl Into<ServerNotification>) {
        let change = change.into();
        let listens = self.0.listens.lock().unwrap().clone();
        for listen in listens {
            let _ = listen.send(change.clone()).await;
        }
    }

    pub(super) async fn until_listened_to(&self, times: usize) {
        let enough = async {
            while self.0.listens.lock().unwrap().len() < times {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("a listen", enough).await;
    }
}

impl ServerHandler for Shop {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_tasks()
            .enable_tools()
            .build();
        if self.0.announces {
            capabilities.tools.get_or_insert_default().list_changed = Some(true);
        }
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new(self.0.name, "1"))
            .with_instructions(format!("Use {}.", self.0.name))
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.0.lists.fetch_add(1, Ordering::SeqCst);
        let slowness = *self.0.slowness.lock().unwrap();
        tokio::time::sleep(slowness).await;
        let all = self.0.tools.lock().unwrap().clone();
        let cursor = request.and_then(|request| request.cursor);
        let start: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let end = start.saturating_add(self.0.page).min(all.len());
        let mut result = ListToolsResult::with_all_items(all[start..end].to_vec());
        result.next_cursor = (end < all.len()).then(|| end.to_string());
        result.cache_scope = self.0.scope;
        if self.0.scope.is_some() {
            result.ttl_ms = Some(60_000);
        }
        Ok(result)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let blocks = match &*request.name {
            "link" => {
                let link = Resource::new("file:///link", "a link");
                let embedded = ContentBlock::embedded_text("file:///embedded", "text");
                vec![ContentBlock::resource_link(link), embedded]
            }
            name => vec![ContentBlock::text(format!("{}: {name}", self.0.name))],
        };
        Ok(CallToolResult::success(blocks).into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let prompt = Prompt::new("greet", Some("Greets."), None);
        Ok(ListPromptsResult::with_all_items(vec![prompt]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let said = format!("{} of {}", request.name, self.0.name);
        let message = PromptMessage::new_text(Role::User, said);
        Ok(GetPromptResult::new(vec![message]).into())
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let resource = Resource::new("file:///a", "a");
        Ok(ListResourcesResult::with_all_items(vec![resource]))
    }

    async fn list_resource_templates(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let template = ResourceTemplate::new("file:///{name}", "any");
        Ok(ListResourceTemplatesResult::with_all_items(vec![template]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let said = format!("{} in {}", request.uri, self.0.name);
        let contents = ResourceContents::text(said, request.uri);
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let of = match request.r#ref {
            Reference::Prompt(prompt) => prompt.name,
            Reference::Resource(resource) => resource.uri,
            _ => "nothing".to_owned(),
        };
        let values = vec![format!("{of} of {}", self.0.name)];
        Ok(CompleteResult::new(CompletionInfo::new(values).unwrap()))
    }

    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        Ok(CustomResult::new(
            json!({ "by": self.0.name, "method": request.method }),
        ))
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.0.listens.lock().unwrap().push(context.sink().clone());
        std::future::pending().await
    }
}
