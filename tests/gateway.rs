//! What a gateway promises: many servers behind one interface, and none of them in another's way.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

mod common;

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Client, Heard, demo::Demo, pipe_to, piped, piped_legacy, progress, recorder, said, soon, text,
    token, tool,
};
use futures::StreamExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{RequestContext, SubscriptionContext, SubscriptionSink},
};
use rmcp_layers::{
    Error, Lifecycle, McpClient, McpRequest, McpResponse, Principal, TransportError, Upstream,
    gateway::{
        Filter, Gateway, GatewayHandle, ListReport, Member, MemberState, NamespaceLayer, PerCaller,
        Prefix,
    },
};
use serde_json::json;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A server with a catalogue that can change. Clones are the same server.
#[derive(Clone)]
struct Shop(Arc<State>);

struct State {
    name: &'static str,
    tools: Mutex<Vec<Tool>>,
    page: usize,
    /// How long a list takes.
    slowness: Mutex<Duration>,
    /// How often a list was asked for.
    lists: AtomicUsize,
    scope: Option<CacheScope>,
    announces: bool,
    listens: Mutex<Vec<SubscriptionSink>>,
}

fn named(name: &str) -> Tool {
    let schema = JsonObject::from_iter([("type".to_owned(), json!("object"))]);
    Tool::new(name.to_owned(), format!("Does {name}."), schema)
}

impl Shop {
    fn with(name: &'static str, tools: &[&str]) -> Self {
        Self::of(name, tools, |_| {})
    }

    fn of(name: &'static str, tools: &[&str], set: impl FnOnce(&mut State)) -> Self {
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
    fn piped(&self) -> Upstream {
        let shop = self.clone();
        Upstream::builder().name(self.0.name).transport(move || {
            let near = pipe_to(shop.clone());
            async move { Ok::<_, io::Error>(near) }
        })
    }

    fn lists(&self) -> usize {
        self.0.lists.load(Ordering::SeqCst)
    }

    fn is_slow(&self, slowness: Duration) {
        *self.0.slowness.lock().unwrap() = slowness;
    }

    /// Has other tools from now on, and says so.
    async fn stock(&self, tools: &[&str]) {
        *self.0.tools.lock().unwrap() = tools.iter().map(|name| named(name)).collect();
        self.tell(ToolListChangedNotification::default()).await;
    }

    async fn tell(&self, change: impl Into<ServerNotification>) {
        let change = change.into();
        let listens = self.0.listens.lock().unwrap().clone();
        for listen in listens {
            let _ = listen.send(change.clone()).await;
        }
    }

    async fn until_listened_to(&self, times: usize) {
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

fn names(tools: &[Tool]) -> Vec<&str> {
    tools.iter().map(|tool| &*tool.name).collect()
}

async fn listed(gateway: &Gateway) -> Vec<String> {
    let tools = McpClient::new(gateway.clone())
        .list_all_tools()
        .await
        .unwrap();
    names(&tools).into_iter().map(str::to_owned).collect()
}

fn two() -> (Shop, Shop, Gateway) {
    let (one, other) = (
        Shop::with("one", &["a", "same"]),
        Shop::with("other", &["b", "same"]),
    );
    let gateway = Gateway::builder()
        .member("one", one.piped())
        .member("other", other.piped())
        .build()
        .unwrap();
    (one, other, gateway)
}

async fn call(gateway: &Gateway, name: &str) -> Result<McpResponse, Error> {
    soon(
        "a call",
        gateway.clone().oneshot(McpRequest::call_tool(name).build()),
    )
    .await
}

#[tokio::test]
async fn members_tools_are_listed_under_their_names_and_called_by_them() {
    let (_, _, gateway) = two();
    for client in [
        Client::modern("m", gateway.clone()).await,
        Client::legacy("l", gateway.clone()).await,
    ] {
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(
            names(&tools),
            ["one__a", "one__same", "other__b", "other__same"]
        );
        assert_eq!(tools[0].description.as_deref(), Some("[one] Does a."));
        for (name, answer) in [("one__same", "one: same"), ("other__same", "other: same")] {
            assert_eq!(text(&client.call(tool(name, json!({}))).await), answer);
        }
        let info = client.peer.peer_info().unwrap();
        assert!(info.instructions.as_deref().unwrap().contains("Use other."));
    }
}

#[tokio::test]
async fn a_call_needs_no_list() {
    let (one, other, gateway) = two();
    assert_eq!(said(call(&gateway, "one__a").await), "one: a");
    assert_eq!((one.lists(), other.lists()), (0, 0));
}

#[tokio::test]
async fn all_pages_of_all_members_are_listed_and_cursors_outlive_members() {
    let many: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let paged = |name| Shop::of(name, &many, |state| state.page = 3);
    let gateway = Gateway::builder()
        .member("a", paged("a").piped())
        .member("b", paged("b").piped())
        .member("c", paged("c").piped())
        .page_size(7)
        .build()
        .unwrap();
    let client = McpClient::new(gateway.clone());
    assert_eq!(client.list_all_tools().await.unwrap().len(), 30);

    // Two pages: all of `a`, and the first four of `b`.
    let first = client.list_tools(None).await.unwrap();
    let second = client.list_tools(first.next_cursor).await.unwrap();
    assert_eq!(second.tools.last().unwrap().name, "b__t3");
    // One leaves before the cursor, one joins.
    gateway.handle().remove("a");
    gateway
        .handle()
        .add(Member::new("d", paged("d").piped()))
        .unwrap();
    let mut rest = Vec::new();
    let mut cursor = second.next_cursor.clone();
    while let Some(next) = cursor {
        let page = client.list_tools(Some(next)).await.unwrap();
        rest.extend(page.tools);
        cursor = page.next_cursor;
    }
    assert_eq!(rest.first().unwrap().name, "b__t4");
    assert_eq!(rest.last().unwrap().name, "d__t9");
    assert_eq!(rest.len(), 6 + 10 + 10);
    // The cursor's own member leaves.
    gateway.handle().remove("b");
    let page = client.list_tools(second.next_cursor).await.unwrap();
    assert_eq!(page.tools[0].name, "c__t0");

    let error = client
        .list_tools(Some("nonsense".to_owned()))
        .await
        .unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test]
async fn an_upstreams_error_arrives_with_its_code_message_and_data() {
    for member in [
        piped(Upstream::builder(), &Demo::default()),
        piped_legacy(&Demo::default()),
    ] {
        let gateway = Gateway::builder().member("db", member).build().unwrap();
        let error = call(&gateway, "db__reject").await.unwrap_err();
        let error = error.as_protocol().unwrap();
        assert_eq!(error.code, ErrorCode(-32050));
        assert_eq!(error.message, "not on a Sunday");
        assert_eq!(
            error.data,
            Some(json!({ "day": "Sunday", "nested": [1, { "two": null }] }))
        );
    }
}

/// A member that cannot be reached, and says when it will be tried again.
fn down(name: &'static str) -> Member {
    Member::new(
        name,
        service_fn(|_request: McpRequest| async {
            let error = TransportError::not_delivered("connection refused");
            Err::<McpResponse, _>(Error::from(error.with_retry_after(Duration::from_secs(3))))
        }),
    )
}

#[tokio::test]
async fn a_member_that_is_down_is_left_out_and_named() {
    let shop = Shop::with("up", &["a"]);
    let gateway = Gateway::builder()
        .add_member(down("dead"))
        .member("up", shop.piped())
        .build()
        .unwrap();
    let response = gateway
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();
    let report = response.extensions.get::<ListReport>().unwrap();
    assert_eq!(report.missing, [Arc::from("dead")]);
    let ServerResult::ListToolsResult(list) = &response.result else {
        panic!("no list")
    };
    assert_eq!(names(&list.tools), ["up__a"]);
    assert_eq!(
        list.meta.as_ref().unwrap()["rmcp-layers/missing"],
        json!(["dead"])
    );

    let error = call(&gateway, "dead__x").await.unwrap_err();
    assert_eq!(error.to_string(), "upstream `dead`: connection refused");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    let members = gateway.handle().members();
    assert!(matches!(
        &members[0].state,
        MemberState::Failed {
            retry_after: Some(_),
            ..
        }
    ));
    assert!(matches!(&members[1].state, MemberState::Connected));

    // And a client can connect.
    let client = Client::legacy("l", gateway).await;
    assert_eq!(text(&client.call(tool("up__a", json!({}))).await), "up: a");
}

#[tokio::test(start_paused = true)]
async fn a_slow_member_holds_no_list_up_and_its_last_list_is_served() {
    let fast = Shop::of("fast", &["a"], |state| state.announces = false);
    let slow = Shop::of("slow", &["b"], |state| state.announces = false);
    let gateway = Gateway::builder()
        .member("fast", fast.piped())
        .member("slow", slow.piped())
        .build()
        .unwrap();
    slow.is_slow(Duration::from_secs(20));
    let started = tokio::time::Instant::now();
    assert_eq!(listed(&gateway).await, ["fast__a"]);
    assert_eq!(started.elapsed().as_secs(), 5);
    // The fetch goes on. Who asks meanwhile does not wait again.
    assert_eq!(listed(&gateway).await, ["fast__a"]);
    assert_eq!(started.elapsed().as_secs(), 5);
    let state = gateway.handle().members()[1].state.clone();
    assert!(matches!(state, MemberState::Degraded { .. }), "{state:?}");
    tokio::time::sleep(Duration::from_secs(30)).await;

    // What came late is the last known list from now on.
    let asked = tokio::time::Instant::now();
    let response = gateway
        .clone()
        .oneshot(McpRequest::list_tools())
        .await
        .unwrap();
    assert_eq!(asked.elapsed().as_secs(), 5);
    let report = response.extensions.get::<ListReport>().unwrap();
    assert_eq!(report.stale, [Arc::from("slow")]);
    let ServerResult::ListToolsResult(list) = &response.result else {
        panic!("no list")
    };
    assert_eq!(names(&list.tools), ["fast__a", "slow__b"]);
    // A call is not held up either.
    assert_eq!(said(call(&gateway, "slow__b").await), "slow: b");
}

#[tokio::test]
async fn two_members_with_one_tool_name_by_each_policy() {
    let (one, other) = (
        Shop::with("one", &["same"]),
        Shop::with("other", &["same", "b"]),
    );
    let gateway = |prefix| {
        Gateway::builder()
            .prefix(prefix)
            .member("one", one.piped())
            .add_member(Member::new("other", other.piped()).priority(1))
            .build()
            .unwrap()
    };
    let collided = gateway(Prefix::OnCollision);
    assert_eq!(listed(&collided).await, ["same", "b", "one__same"]);
    assert_eq!(said(call(&collided, "same").await), "other: same");
    assert_eq!(said(call(&collided, "one__same").await), "one: same");
    // By a gateway that has listed nothing.
    let collided = gateway(Prefix::OnCollision);
    assert_eq!(said(call(&collided, "one__same").await), "one: same");

    let never = gateway(Prefix::Never);
    let error = never.check().await.unwrap_err().to_string();
    assert!(
        error.contains("`other` and `one` both have a tool `same`"),
        "{error}"
    );
    assert_eq!(listed(&never).await, ["same", "b"]);
    assert_eq!(said(call(&never, "same").await), "other: same");
    assert_eq!(never.handle().members()[1].left_out[0], "same");

    gateway(Prefix::Always).check().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_is_refused_when_it_is_built() {
    let shop = Shop::with("s", &[]);
    let member = |name: &str| Member::new(name, shop.piped());
    for (builder, said) in [
        (
            Gateway::builder()
                .add_member(member("a"))
                .add_member(member("a")),
            "a member `a` already",
        ),
        (
            Gateway::builder().add_member(member("a__b")),
            "cannot name a member",
        ),
        (Gateway::builder().separator("/"), "cannot separate"),
        (Gateway::builder().max_name_length(5), "impossible"),
        (
            Gateway::builder()
                .add_member(member("a").rename("x", "z"))
                .add_member(member("b").rename("y", "z")),
            "renamed to `z`: one of `a`, one of `b`",
        ),
    ] {
        let error = builder.build().unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_tool_name_of_200_characters_is_shortened_and_leads_back_after_a_restart() {
    let long = "n".repeat(200);
    let longer = format!("{}x", "n".repeat(199));
    let shop = Shop::with("s", &[&long, &longer, "has space"]);
    let gateway = || {
        Gateway::builder()
            .member("s", shop.piped())
            .build()
            .unwrap()
    };
    let outward = listed(&gateway()).await;
    assert!(
        outward
            .iter()
            .all(|name| name.len() <= 64 && !name.contains(' ')),
        "{outward:?}"
    );
    assert_eq!(outward.iter().collect::<HashSet<_>>().len(), 3);
    // A gateway that has listed nothing yet.
    let restarted = gateway();
    for (name, inner) in outward.iter().zip([&*long, &*longer, "has space"]) {
        assert_eq!(said(call(&restarted, name).await), format!("s: {inner}"));
    }
    assert_eq!(listed(&restarted).await, outward);
}

#[tokio::test]
async fn a_cancelled_call_is_cancelled_at_its_member_only() {
    let (one, other) = (Demo::default(), Demo::default());
    let gateway = Gateway::builder()
        .member("one", piped(Upstream::builder(), &one))
        .member("other", piped(Upstream::builder(), &other))
        .build()
        .unwrap();
    let start =
        |name: &str| tokio::spawn(gateway.clone().oneshot(McpRequest::call_tool(name).build()));
    let (first, _second) = (start("one__wait"), start("other__wait"));
    one.until("the call", |seen| seen.waiting == 1).await;
    other
        .until("the other call", |seen| seen.waiting == 1)
        .await;
    first.abort();
    one.until("the cancellation", |seen| seen.cancelled == 1)
        .await;
    assert_eq!((other.seen().cancelled, other.seen().waiting), (0, 1));
}

#[tokio::test]
async fn progress_reaches_the_call_it_belongs_to() {
    let demo = Demo::default();
    let gateway = Gateway::builder()
        .member("one", piped(Upstream::builder(), &demo))
        .member("other", piped_legacy(&demo))
        .build()
        .unwrap();
    for member in ["one", "other"] {
        let (caller, mut received) = recorder();
        let call = McpRequest::call_tool(format!("{member}__progress"))
            .argument("count", 10)
            .progress_token(token(member))
            .caller(caller)
            .build();
        assert_eq!(said(gateway.clone().oneshot(call).await), "reported");
        let steps: Vec<_> = (1..=10).map(|n| (token(member), f64::from(n))).collect();
        assert_eq!(progress(&mut received), steps);
    }
}

#[tokio::test]
async fn removing_a_member_does_not_redirect_anothers_changes() {
    let (one, other) = (Shop::with("one", &["a"]), Shop::with("other", &["b"]));
    let gateway = Gateway::builder()
        .member("one", one.piped())
        .member("other", other.piped())
        .build()
        .unwrap();
    let mut client = Client::legacy("l", gateway.clone()).await;
    let uris = ["one+file:///a", "other+file:///a"];
    for uri in uris {
        let params = SubscribeRequestParams::new(uri);
        client.peer.subscribe(params).await.unwrap();
    }
    for (shop, uri) in [(&one, uris[0]), (&other, uris[1])] {
        let params = ResourceUpdatedNotificationParam::new("file:///a");
        shop.tell(ResourceUpdatedNotification::new(params)).await;
        assert_eq!(
            client.hear("an update").await,
            Heard::Updated(uri.to_owned())
        );
    }
    gateway.handle().remove("one");
    assert_eq!(client.hear("the lists' change").await, Heard::Tools);
    let params = ResourceUpdatedNotificationParam::new("file:///a");
    one.tell(ResourceUpdatedNotification::new(params.clone()))
        .await;
    other.tell(ResourceUpdatedNotification::new(params)).await;
    assert_eq!(
        client.hear("the other's update").await,
        Heard::Updated(uris[1].to_owned())
    );
    other.stock(&["c"]).await;
    assert_eq!(client.hear("a change").await, Heard::Tools);
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["other__c"]);
}

#[tokio::test]
async fn callers_are_told_when_members_come_are_replaced_and_go() {
    let (_, _, gateway) = two();
    let handle: GatewayHandle = gateway.handle();
    let third = |name, tools: &[&str]| Member::new("third", Shop::with(name, tools).piped());
    let of_a_newer_caller = McpClient::new(gateway.clone());
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut changes = of_a_newer_caller.listen(filter).await.unwrap();
    assert_eq!(changes.accepted().tools_list_changed, Some(true));
    let mut client = Client::legacy("l", gateway.clone()).await;
    // The session's listen opens beside its first requests.
    client.peer.list_tools(None).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    while client.heard.try_recv().is_ok() {}
    type Step<'a> = (&'a str, &'a dyn Fn(), &'a [&'a str]);
    let steps: [Step<'_>; 3] = [
        (
            "an addition",
            &|| handle.add(third("3", &["t"])).unwrap(),
            &["third__t"],
        ),
        (
            "a replacement",
            &|| handle.replace(third("4", &["u"])).unwrap(),
            &["third__u"],
        ),
        ("a removal", &|| assert!(handle.remove("third")), &[]),
    ];
    for (what, step, has) in steps {
        step();
        assert_eq!(client.hear(what).await, Heard::Tools);
        let change = soon(what, changes.next()).await.unwrap().unwrap();
        assert!(matches!(
            change,
            ServerNotification::ToolListChangedNotification(_)
        ));
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        assert_eq!(&names(&tools)[4..], has, "{what}");
    }
    assert!(!handle.remove("third"));
    assert!(handle.add(down("one")).is_err());
    assert!(handle.replace(down("nobody")).is_err());
}

#[tokio::test]
async fn an_unknown_name_is_answered_with_the_nearest_ones() {
    let (_, _, gateway) = two();
    listed(&gateway).await;
    for (name, nearest) in [
        ("one__sane", "one__same"),
        ("noe__same", "one__same"),
        ("b", "other__b"),
    ] {
        let error = call(&gateway, name).await.unwrap_err();
        let error = error.as_protocol().unwrap();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert!(
            error.message.starts_with(&format!("Unknown tool: {name}")),
            "{error}"
        );
        assert!(error.message.contains(nearest), "{error}");
        assert_eq!(error.data.as_ref().unwrap()["name"], name);
    }
}

#[tokio::test]
async fn uris_lead_back_from_everywhere() {
    let (_, _, gateway) = two();
    let client = McpClient::new(gateway.clone());
    let resources = client.list_all_resources().await.unwrap();
    let uris: Vec<_> = resources.iter().map(|resource| &*resource.uri).collect();
    assert_eq!(uris, ["one+file:///a", "other+file:///a"]);
    let templates = client.list_all_resource_templates().await.unwrap();
    assert_eq!(templates[1].uri_template, "other+file:///{name}");
    let read = async |uri: &str| {
        let request = McpRequest::read_resource(uri);
        match gateway
            .clone()
            .oneshot(request)
            .await
            .map(McpResponse::into_result)
        {
            Ok(ServerResult::ReadResourceResult(read)) => Ok(read.contents[0].clone()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
    let contents = read("other+file:///x").await.unwrap();
    assert_eq!(
        contents,
        ResourceContents::text("file:///x in other", "other+file:///x")
    );
    let error = read("nobody+file:///x").await.unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, ErrorCode::INVALID_PARAMS);

    let linked = call(&gateway, "one__link").await.unwrap();
    let linked = &linked.as_tool_result().unwrap().content;
    assert_eq!(
        linked[0].as_resource_link().unwrap().uri,
        "one+file:///link"
    );
    assert_eq!(
        linked[1],
        ContentBlock::embedded_text("one+file:///embedded", "text")
    );
    assert!(read("one+file:///link").await.is_ok());
}

#[tokio::test]
async fn prompts_and_completions_reach_their_member() {
    let (_, _, gateway) = two();
    let client = McpClient::new(gateway.clone());
    let prompts = client.list_all_prompts().await.unwrap();
    assert_eq!(prompts[1].name, "other__greet");
    assert_eq!(prompts[1].description.as_deref(), Some("[other] Greets."));
    let request = McpRequest::get_prompt("other__greet", JsonObject::new());
    let Ok(ServerResult::GetPromptResult(prompt)) = gateway
        .clone()
        .oneshot(request)
        .await
        .map(McpResponse::into_result)
    else {
        panic!("no prompt")
    };
    assert_eq!(
        prompt.messages[0].content,
        ContentBlock::text("greet of other")
    );
    for (reference, completed) in [
        (Reference::for_prompt("other__greet"), "greet of other"),
        (
            Reference::for_resource("one+file:///{name}"),
            "file:///{name} of one",
        ),
    ] {
        let params = CompleteRequestParams::new(reference, ArgumentInfo::new("a", "b"));
        let request = McpRequest::new(CompleteRequest::new(params));
        let Ok(ServerResult::CompleteResult(done)) = gateway
            .clone()
            .oneshot(request)
            .await
            .map(McpResponse::into_result)
        else {
            panic!("no completion")
        };
        assert_eq!(done.completion.values, [completed]);
    }
}

/// A later round of a call.
fn round(name: &str, state: &str, principal: Option<&str>) -> McpRequest {
    let mut params = CallToolRequestParams::new(name.to_owned());
    params.input_responses = Some(InputResponses::new());
    params.request_state = Some(state.to_owned());
    let mut request = McpRequest::new(CallToolRequest::new(params));
    if let Some(principal) = principal {
        request.context.set_principal(Principal::new(principal));
    }
    request
}

#[tokio::test]
async fn request_state_comes_back_to_its_member_and_cannot_be_made_up() {
    let demo = Demo::default();
    let gateway = Gateway::builder()
        .member("one", piped(Upstream::builder(), &demo))
        .member("other", piped(Upstream::builder(), &demo))
        .build()
        .unwrap();
    let first = McpRequest::call_tool("one__ask").principal(Principal::new("alice"));
    let response = gateway.clone().oneshot(first.build()).await.unwrap();
    let ServerResult::InputRequiredResult(wanted) = &response.result else {
        panic!("nothing is wanted: {response:?}")
    };
    let state = wanted.request_state.clone().unwrap();
    assert_ne!(state, "round one");

    let answer = gateway
        .clone()
        .oneshot(round("one__ask", &state, Some("alice")))
        .await;
    assert!(said(answer).contains("round one"));
    for forged in [
        round("other__ask", &state, Some("alice")),
        round("one__ask", &state, Some("bob")),
        round("one__ask", "round one", Some("alice")),
        round("one__ask", &state[..state.len() - 2], Some("alice")),
    ] {
        let error = gateway.clone().oneshot(forged).await.unwrap_err();
        let error = error.as_protocol().unwrap();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
        assert!(error.message.contains("requestState"), "{error}");
    }
}

#[tokio::test]
async fn replicas_with_one_key_read_each_others_state() {
    let demo = Demo::default();
    let gateway = || {
        let codec = RequestStateCodec::try_new(vec![7; 32]).unwrap();
        Gateway::builder()
            .request_state_codec(codec)
            .member("one", piped(Upstream::builder(), &demo))
            .build()
            .unwrap()
    };
    let response = call(&gateway(), "one__ask").await.unwrap();
    let ServerResult::InputRequiredResult(wanted) = &response.result else {
        panic!("nothing is wanted")
    };
    let state = wanted.request_state.as_deref().unwrap();
    let answer = gateway().oneshot(round("one__ask", state, None)).await;
    assert!(said(answer).contains("round one"));
}

#[tokio::test]
async fn a_task_is_polled_at_the_member_that_made_it() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let member = |name: &'static str| {
        let made = made.clone();
        service_fn(move |request: McpRequest| {
            made.lock()
                .unwrap()
                .push(format!("{name} {:?}", request.target()));
            let task = || Task::new("task-1", TaskStatus::Working, "now", "now");
            let result: ServerResult = match &request.message {
                ClientRequest::CallToolRequest(_) => CreateTaskResult::new(task()).into(),
                ClientRequest::GetTaskRequest(_) => {
                    let link = json!({ "type": "resource_link", "name": "l", "uri": "file:///l" });
                    let result = JsonObject::from_iter([("content".to_owned(), json!([link]))]);
                    let payload = TaskPayload::Completed { result };
                    GetTaskResult::new(DetailedTask::new(task(), payload)).into()
                }
                _ => ServerResult::empty(()),
            };
            std::future::ready(Ok::<_, Error>(McpResponse::new(result)))
        })
    };
    let gateway = Gateway::builder()
        .member("one", member("one"))
        .member("other", member("other"))
        .build()
        .unwrap();
    let created = call(&gateway, "other__long").await.unwrap().into_result();
    let ServerResult::CreateTaskResult(created) = created else {
        panic!("no task")
    };
    let id = created.task.task_id;
    let get = |id: &str| McpRequest::new(GetTaskRequest::new(GetTaskParams::new(id)));
    let polled = gateway
        .clone()
        .oneshot(get(&id))
        .await
        .unwrap()
        .into_result();
    let ServerResult::GetTaskResult(polled) = polled else {
        panic!("no task")
    };
    assert_eq!(polled.task.task.task_id, id);
    let TaskPayload::Completed { result } = polled.task.payload else {
        panic!("not completed")
    };
    assert_eq!(result["content"][0]["uri"], "other+file:///l");
    let cancel = McpRequest::new(CancelTaskRequest::new(CancelTaskParams::new(&*id)));
    gateway.clone().oneshot(cancel).await.unwrap();
    let seen = made.lock().unwrap().clone();
    let ours = r#"other Some("task-1")"#.to_owned();
    assert_eq!(
        seen,
        [r#"other Some("long")"#.to_owned(), ours.clone(), ours]
    );

    let error = gateway.oneshot(get("task-1")).await.unwrap_err();
    assert_eq!(error.as_protocol().unwrap().code, ErrorCode::INVALID_PARAMS);
}

#[tokio::test]
async fn a_log_level_and_a_clients_notices_reach_every_member() {
    let (one, other) = (Demo::default(), Demo::default());
    let gateway = Gateway::builder()
        .member("one", piped_legacy(&one))
        .member("silent", Shop::with("silent", &[]).piped())
        .member("other", piped_legacy(&other))
        .build()
        .unwrap();
    let client = Client::legacy("l", gateway).await;
    let level = SetLevelRequestParams::new(LoggingLevel::Warning);
    client.peer.set_level(level).await.unwrap();
    client.peer.notify_roots_list_changed().await.unwrap();
    for demo in [one, other] {
        demo.until("the level", |seen| {
            seen.level == Some(LoggingLevel::Warning)
        })
        .await;
        demo.until("the notice", |seen| !seen.notices.is_empty())
            .await;
    }
}

#[tokio::test]
async fn filters_overrides_and_read_only_mode_hold_for_lists_and_calls() {
    let mut reads = named("reads");
    reads.annotations = Some(ToolAnnotations::new().read_only(true));
    let shop = Shop::with("s", &["drop", "keep", "raw", "secret"]);
    shop.0.tools.lock().unwrap().push(reads);
    let member = || {
        Member::new("s", shop.piped())
            .filter(Filter::new().deny("s__d*").deny("s+file:///secret*"))
            .rename("raw", "cooked")
            .hide("secret")
            .describe("keep", "Keeps it.")
    };
    let gateway = Gateway::builder().add_member(member()).build().unwrap();
    // Before a list is known, and after.
    for _ in 0..2 {
        for name in ["s__drop", "s__raw", "s__secret"] {
            assert!(call(&gateway, name).await.is_err(), "{name}");
        }
        assert_eq!(said(call(&gateway, "cooked").await), "s: raw");
        assert_eq!(listed(&gateway).await, ["s__keep", "cooked", "s__reads"]);
    }
    let tools = McpClient::new(gateway.clone())
        .list_all_tools()
        .await
        .unwrap();
    assert_eq!(tools[0].description.as_deref(), Some("Keeps it."));
    assert!(
        gateway
            .clone()
            .oneshot(McpRequest::read_resource("s+file:///secret"))
            .await
            .is_err()
    );
    assert!(
        gateway
            .oneshot(McpRequest::read_resource("s+file:///a"))
            .await
            .is_ok()
    );

    for (trusted, names) in [(true, vec!["s__reads"]), (false, vec![])] {
        let member = member().trust_annotations(trusted);
        let gateway = Gateway::builder()
            .read_only(true)
            .add_member(member)
            .build()
            .unwrap();
        assert!(call(&gateway, "s__keep").await.is_err());
        assert_eq!(call(&gateway, "s__reads").await.is_ok(), trusted);
        assert_eq!(listed(&gateway).await, names);
    }
}

fn by(principal: &str, name: &str) -> McpRequest {
    McpRequest::call_tool(name)
        .principal(Principal::new(principal))
        .build()
}

#[tokio::test]
async fn a_per_caller_member_has_a_stack_for_each_principal_within_its_bound() {
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let member = Member::per_caller("own", PerCaller::Principal, move |context| {
        count.fetch_add(1, Ordering::SeqCst);
        let subject = context.principal().unwrap().subject().to_owned();
        Ok(service_fn(move |request: McpRequest| {
            let subject = subject.clone();
            async move {
                if request.target() == Some("wait") {
                    std::future::pending::<()>().await;
                }
                let said = vec![ContentBlock::text(subject)];
                Ok::<_, Error>(McpResponse::new(CallToolResult::success(said)))
            }
        }))
    });
    let gateway = Gateway::builder()
        .add_member(member.max_stacks(2))
        .build()
        .unwrap();
    for who in ["alice", "bob", "alice", "bob"] {
        assert_eq!(
            said(gateway.clone().oneshot(by(who, "own__who")).await),
            who
        );
    }
    assert_eq!(made.load(Ordering::SeqCst), 2);
    let nobody = call(&gateway, "own__who").await.unwrap_err();
    assert!(nobody.is_refused(), "{nobody}");

    // Both in use: a third has to wait its turn.
    let busy =
        ["alice", "bob"].map(|who| tokio::spawn(gateway.clone().oneshot(by(who, "own__wait"))));
    tokio::task::yield_now().await;
    let refused = gateway
        .clone()
        .oneshot(by("carol", "own__who"))
        .await
        .unwrap_err();
    assert!(refused.is_refused(), "{refused}");
    for call in busy {
        call.abort();
        let _ = call.await;
    }
    assert_eq!(
        said(gateway.oneshot(by("carol", "own__who")).await),
        "carol"
    );
    assert_eq!(made.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_known_list_costs_no_round_trip_until_it_changes() {
    let (one, other, gateway) = two();
    assert_eq!(listed(&gateway).await.len(), 4);
    one.until_listened_to(1).await;
    other.until_listened_to(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    listed(&gateway).await;
    let before = (one.lists(), other.lists());
    for _ in 0..10 {
        assert_eq!(listed(&gateway).await.len(), 4);
    }
    assert_eq!((one.lists(), other.lists()), before);
    one.stock(&["new"]).await;
    let changed = async {
        while listed(&gateway).await != ["one__new", "other__b", "other__same"] {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon("the new list", changed).await;
    assert_eq!((one.lists(), other.lists()), (before.0 + 1, before.1));
}

#[tokio::test]
async fn a_private_list_is_never_shown_to_another_principal() {
    let member = service_fn(|request: McpRequest| async move {
        if !matches!(request.message, ClientRequest::ListToolsRequest(_)) {
            return Err(Error::from(ErrorData::new(
                ErrorCode::METHOD_NOT_FOUND,
                "no",
                None,
            )));
        }
        let who = request
            .context
            .principal()
            .map_or("nobody", |p| p.subject());
        let mut list = ListToolsResult::with_all_items(vec![named(who)]);
        list.ttl_ms = Some(60_000);
        list.cache_scope = Some(CacheScope::Private);
        Ok(McpResponse::new(list))
    });
    let gateway = Gateway::builder().member("m", member).build().unwrap();
    for who in ["alice", "bob", "alice"] {
        let mut request = McpRequest::list_tools();
        request.context.set_principal(Principal::new(who));
        let response = gateway
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .into_result();
        let ServerResult::ListToolsResult(list) = response else {
            panic!("no list")
        };
        assert_eq!(names(&list.tools), [format!("m__{who}")]);
        assert_eq!(list.cache_scope, Some(CacheScope::Private));
    }
    assert_eq!(listed(&gateway).await, ["m__nobody"]);
}

#[tokio::test]
async fn a_list_carries_the_strictest_hints_of_its_parts() {
    let scoped = |name, scope| Shop::of(name, &["a"], |state| state.scope = scope);
    for (other, scope, ttl) in [
        (
            Some(CacheScope::Public),
            Some(CacheScope::Public),
            Some(60_000),
        ),
        (
            Some(CacheScope::Private),
            Some(CacheScope::Private),
            Some(60_000),
        ),
    ] {
        let gateway = Gateway::builder()
            .member("a", scoped("a", Some(CacheScope::Public)).piped())
            .member("b", scoped("b", other).piped())
            .build()
            .unwrap();
        let list = McpClient::new(gateway).list_tools(None).await.unwrap();
        assert_eq!((list.cache_scope, list.ttl_ms), (scope, ttl));
    }
}

#[tokio::test]
async fn an_only_member_without_a_prefix_is_passed_through() {
    let shop = Shop::of("solo", &["a", "b__c", "has space"], |state| state.page = 2);
    let member = Member::new("solo", shop.piped()).prefix(Prefix::Never);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let (through, bare) = (
        McpClient::new(gateway.clone()),
        McpClient::new(shop.piped()),
    );
    let page = async |client: &McpClient<_>| client.list_tools(None).await.unwrap();
    assert_eq!(page(&through).await, {
        let page = bare.list_tools(None).await.unwrap();
        assert_eq!(page.next_cursor.as_deref(), Some("2"));
        page
    });
    assert_eq!(said(call(&gateway, "b__c").await), "solo: b__c");
    assert_eq!(said(call(&gateway, "unheard of").await), "solo: unheard of");
    let client = Client::legacy("l", gateway).await;
    let info = client.peer.peer_info().unwrap();
    assert_eq!(info.server_info.as_ref().unwrap().name, "solo");
    assert_eq!(info.instructions.as_deref(), Some("Use solo."));
}

#[tokio::test]
async fn a_custom_method_goes_where_the_rule_says() {
    let (one, other) = (Shop::with("one", &[]), Shop::with("other", &[]));
    let gateway = Gateway::builder()
        .member("one", one.piped())
        .member("other", other.piped())
        .route_custom(|method, _, _| method.strip_prefix("x-").map(str::to_owned))
        .build()
        .unwrap();
    let custom = |method: &str| McpRequest::new(CustomRequest::new(method, None));
    let answer = gateway.clone().oneshot(custom("x-other")).await.unwrap();
    let ServerResult::CustomResult(answer) = answer.into_result() else {
        panic!("no answer")
    };
    assert_eq!(answer.0, json!({ "by": "other", "method": "x-other" }));
    for nowhere in ["x-nobody", "unruled"] {
        let error = gateway.clone().oneshot(custom(nowhere)).await.unwrap_err();
        assert_eq!(
            error.as_protocol().unwrap().code,
            ErrorCode::METHOD_NOT_FOUND
        );
    }
}

#[tokio::test]
async fn a_namespace_names_one_stack_and_gateways_nest() {
    let shop = Shop::with("s", &["query"]);
    let stack = ServiceBuilder::new()
        .layer(NamespaceLayer::new("db").unwrap())
        .service(shop.piped());
    let gateway = Gateway::builder().member("outer", stack).build().unwrap();
    assert_eq!(listed(&gateway).await, ["outer__db__query"]);
    assert_eq!(said(call(&gateway, "outer__db__query").await), "s: query");
    let read = McpRequest::read_resource("outer+db+file:///a");
    assert!(gateway.oneshot(read).await.is_ok());
    assert!(NamespaceLayer::new("a__b").is_err());
}

#[tokio::test]
async fn members_that_are_down_at_the_start_are_picked_up_when_they_come() {
    let up = Shop::with("up", &["a"]);
    let late = Shop::with("late", &["b"]);
    let open = Arc::new(Mutex::new(false));
    let (gate, shop) = (open.clone(), late.clone());
    let upstream = Upstream::builder().name("late").transport(move || {
        let pipe = gate.lock().unwrap().then(|| pipe_to(shop.clone()));
        async move { pipe.ok_or_else(|| io::Error::other("not yet")) }
    });
    let gateway = Gateway::builder()
        .member("up", up.piped())
        .member("late", upstream)
        .build()
        .unwrap();
    let mut client = Client::legacy("l", gateway.clone()).await;
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["up__a"]);
    *open.lock().unwrap() = true;
    while client.hear("the late member's tools").await != Heard::Tools {}
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    assert_eq!(names(&tools), ["up__a", "late__b"]);
}

#[tokio::test]
async fn a_lifecycle_that_follows_the_caller_keeps_working_through_a_gateway() {
    let demo = Demo::default();
    let builder = Upstream::builder().lifecycle(Lifecycle::MatchCaller);
    let gateway = Gateway::builder()
        .add_member(Member::new("db", piped(builder, &demo)).call_unlisted(true))
        .build()
        .unwrap();
    for (mut client, sampled) in [
        (Client::legacy("l", gateway.clone()).await, "I am l"),
        (Client::modern("m", gateway.clone()).await, ""),
    ] {
        client.peer.list_tools(None).await.unwrap();
        let answer = client.call(tool("db__sample", json!({}))).await;
        if !sampled.is_empty() {
            assert_eq!(text(&answer), sampled);
            assert_eq!(client.hear("a question").await, Heard::Asked("sampling"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_that_nobody_uses_is_dropped() {
    let alive = Arc::new(());
    let held = alive.clone();
    let member = Member::per_caller("own", PerCaller::Session, move |_| {
        let held = held.clone();
        Ok(service_fn(move |_request: McpRequest| {
            let _held = held.clone();
            std::future::ready(Ok::<_, Error>(McpResponse::new(EmptyResult {})))
        }))
    });
    let member = member.idle_timeout(Duration::from_secs(60));
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    call(&gateway, "own__x").await.unwrap();
    let before = Arc::strong_count(&alive);
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert!(Arc::strong_count(&alive) < before);
    call(&gateway, "own__x").await.unwrap();
    assert_eq!(Arc::strong_count(&alive), before);
}

/// A member with one resource, one template and one skill.
fn library(
    name: &'static str,
) -> impl tower::Service<McpRequest, Response = McpResponse, Error = Error, Future: Send + 'static>
+ Clone
+ Send
+ 'static {
    service_fn(move |request: McpRequest| {
        let skill = || {
            let file =
                SkillResource::from_bytes(format!("skill://{name}/SKILL.md"), name.as_bytes());
            Skill::new(
                format!("skill://{name}/SKILL.md"),
                SkillFrontmatter::new(name, "Reads."),
                SkillResources::Files(vec![file]),
            )
        };
        let result: Result<ServerResult, Error> = match &request.message {
            ClientRequest::ListResourcesRequest(_) => {
                let resource = Resource::new(format!("{name}:///listed"), "listed");
                Ok(ListResourcesResult::with_all_items(vec![resource]).into())
            }
            ClientRequest::ListResourceTemplatesRequest(_) => {
                let template = ResourceTemplate::new(format!("{name}:///by/{{id}}"), "by id");
                Ok(ListResourceTemplatesResult::with_all_items(vec![template]).into())
            }
            ClientRequest::ListSkillsRequest(_) => {
                Ok(ListSkillsResult::with_all_items(vec![skill()]).into())
            }
            ClientRequest::GetSkillRequest(get) if get.params.uri == skill().uri => {
                Ok(GetSkillResult::new(skill()).into())
            }
            ClientRequest::ReadResourceRequest(read) => {
                let contents = ResourceContents::text(name, read.params.uri.clone());
                Ok(ReadResourceResult::new(vec![contents]).into())
            }
            other => {
                Err(
                    ErrorData::new(ErrorCode::METHOD_NOT_FOUND, other.method().to_owned(), None)
                        .into(),
                )
            }
        };
        std::future::ready(result.map(McpResponse::new))
    })
}

#[tokio::test]
async fn a_skill_and_its_files_lead_back() {
    let gateway = Gateway::builder()
        .member("one", library("a"))
        .member("other", library("b"))
        .build()
        .unwrap();
    let client = McpClient::new(gateway);
    let skills = client.list_all_skills().await.unwrap();
    let skill = &skills[1];
    assert_eq!(skill.uri, "other+skill://b/SKILL.md");
    let SkillResources::Files(files) = &skill.resources else {
        panic!("no files")
    };
    assert_eq!(files[0].uri, "other+skill://b/SKILL.md");
    skill.validate().unwrap();
    assert_eq!(client.get_skill(&*skill.uri).await.unwrap().skill, *skill);
    let read = client.read_resource(&*files[0].uri).await.unwrap();
    assert_eq!(read.contents, [ResourceContents::text("b", &*files[0].uri)]);
}

#[tokio::test]
async fn uris_without_prefixes_are_found_by_list_and_by_template() {
    let gateway = Gateway::builder()
        .prefix(Prefix::Never)
        .member("one", library("a"))
        .member("other", library("b"))
        .build()
        .unwrap();
    let client = McpClient::new(gateway);
    for (uri, by) in [
        ("a:///listed", "a"),
        ("b:///listed", "b"),
        ("b:///by/7", "b"),
        ("skill://a/SKILL.md", "a"),
    ] {
        let read = client.read_resource(uri).await.unwrap();
        assert_eq!(read.contents, [ResourceContents::text(by, uri)], "{uri}");
    }
    assert!(client.read_resource("c:///x").await.is_err());
}
