//! MCP Apps (SEP-1865): `ui://` resources, and tools that an app calls by the names its server knows.

use rmcp_layers::{Item, Visibility};
use serde_json::Value;

use super::{common::script::scripted_lines, *};

const VIEW: &str = "ui://chart/view.html";

/// A server with an app, over lines. Every URI that it names is `uri`, and its tools are `show` and `poll`.
fn app(name: &'static str, uri: &'static str, poll: &'static str) -> Upstream {
    scripted_lines(Upstream::builder().name(name), move |request| {
        let ui = json!({
            "ui": {
                "resourceUri": uri,
                "visibility": ["model", "app"],
                "domain": "a904794854a047f6.example.com",
                "csp": { "connectDomains": ["https://api.example.com", "ui://csp"] },
            },
            "ui/resourceUri": uri,
            "openai/outputTemplate": uri,
            "example.com/other": "file:///kept",
        });
        let schema = json!({ "type": "object" });
        let params = &request["params"];
        let result = match request["method"].as_str().unwrap_or_default() {
            "tools/list" => json!({ "tools": [
                { "name": "show", "inputSchema": schema, "_meta": ui },
                { "name": poll, "inputSchema": schema, "annotations": { "readOnlyHint": true } },
            ] }),
            "tools/call" => json!({
                "content": [
                    { "type": "text", "text": format!("{name}: {}", params["name"].as_str().unwrap()) },
                    { "type": "resource_link", "name": "l", "uri": uri, "_meta": ui },
                    { "type": "resource", "resource": { "uri": uri, "text": "t", "_meta": ui }, "_meta": ui },
                ],
                "_meta": ui,
            }),
            "prompts/list" => json!({ "prompts": [{ "name": "p", "_meta": ui }] }),
            "prompts/get" => json!({ "messages": [{
                "role": "user",
                "content": { "type": "resource", "resource": { "uri": uri, "text": "t" } },
            }] }),
            "resources/list" => {
                json!({ "resources": [{ "uri": uri, "name": "view", "_meta": ui }] })
            }
            "resources/templates/list" => json!({ "resourceTemplates": [
                { "uriTemplate": format!("ui://{name}/by/{{id}}"), "name": "t" },
                { "uriTemplate": format!("{name}-data://{{id}}"), "name": "d" },
            ] }),
            "resources/read" => json!({ "contents": [{
                "uri": params["uri"],
                "mimeType": "text/html;profile=mcp-app",
                "text": format!("{name} serves {}", params["uri"].as_str().unwrap()),
                "_meta": ui,
            }] }),
            "completion/complete" => {
                json!({ "completion": { "values": [params["ref"]["uri"]] } })
            }
            "subscriptions/listen" => return Some(listened(&request, uri)),
            _ => return Some(vec![refused(&request)]),
        };
        Some(vec![answered(&request, result)])
    })
}

fn answered(request: &Value, mut result: Value) -> String {
    result["resultType"] = json!("complete");
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()
}

fn refused(request: &Value) -> String {
    let error = json!({ "code": -32601, "message": "Method not found" });
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string()
}

/// Acknowledges a listen, and tells that the resource was updated if that was asked for.
fn listened(request: &Value, uri: &str) -> Vec<String> {
    let meta = json!({ "io.modelcontextprotocol/subscriptionId": request["id"] });
    let wanted = &request["params"]["notifications"];
    let mut lines = vec![
        json!({
            "jsonrpc": "2.0",
            "method": "notifications/subscriptions/acknowledged",
            "params": { "_meta": meta, "notifications": wanted },
        })
        .to_string(),
    ];
    if wanted["resourceSubscriptions"] == json!([uri]) {
        let params = json!({ "_meta": meta, "uri": uri });
        let method = "notifications/resources/updated";
        lines.push(json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string());
    }
    lines
}

/// Two apps whose only difference is what they serve under one URI.
fn apps() -> Gateway {
    Gateway::builder()
        .member("bars", app("bars", VIEW, "bars-poll"))
        .member("pies", app("pies", VIEW, "pies-poll"))
        .build()
        .unwrap()
}

async fn read(client: &Client, uri: &str) -> (String, String) {
    let params = ReadResourceRequestParams::new(uri);
    let result = soon("a read", client.peer.read_resource(params)).await;
    let ResourceContents::TextResourceContents { uri, text, .. } = &result.unwrap().contents[0]
    else {
        panic!("no text")
    };
    (uri.clone(), text.clone())
}

/// Every URI in `_meta` that a host may look for, after all else in it was found to be as the server had it.
fn uris_of(meta: Option<&MetaObject>) -> Vec<String> {
    let meta = json!(meta.expect("_meta"));
    assert_eq!(meta["ui"]["visibility"], json!(["model", "app"]));
    assert_eq!(meta["ui"]["domain"], "a904794854a047f6.example.com");
    let origins = json!(["https://api.example.com", "ui://csp"]);
    assert_eq!(meta["ui"]["csp"]["connectDomains"], origins);
    assert_eq!(meta["example.com/other"], "file:///kept");
    let uris = [
        &meta["ui"]["resourceUri"],
        &meta["ui/resourceUri"],
        &meta["openai/outputTemplate"],
    ];
    uris.map(|uri| uri.as_str().expect("a URI").to_owned())
        .into()
}

#[tokio::test]
async fn an_apps_view_is_read_by_the_uri_that_its_tool_names() {
    for client in [
        Client::modern("m", apps()).await,
        Client::legacy("l", apps()).await,
    ] {
        let tools = client.peer.list_tools(None).await.unwrap().tools;
        let mut seen = HashSet::new();
        for (name, by) in [("bars__show", "bars"), ("pies__show", "pies")] {
            let tool = tools.iter().find(|tool| tool.name == name).unwrap();
            for uri in uris_of(tool.meta.as_ref()) {
                assert!(uri.starts_with("ui://"), "{uri}");
                let served = format!("{by} serves {VIEW}");
                assert_eq!(read(&client, &uri).await, (uri.clone(), served));
                seen.insert(uri);
            }
        }
        assert_eq!(seen.len(), 2, "one URI a member");
    }
}

#[tokio::test]
async fn every_mention_of_a_view_is_the_uri_that_leads_to_its_member() {
    let client = Client::modern("m", apps()).await;
    let outward = "ui://pies/chart/view.html".to_owned();
    let mut mentions = Vec::new();

    let listed = client.peer.list_resources(None).await.unwrap().resources;
    mentions.push(listed[1].uri.clone());
    mentions.extend(uris_of(listed[1].meta.as_ref()));
    let prompts = client.peer.list_prompts(None).await.unwrap().prompts;
    mentions.extend(uris_of(prompts[1].meta.as_ref()));
    let result = client.call(tool("pies__show", json!({}))).await;
    mentions.extend(uris_of(result.meta.as_ref()));
    for block in &result.content[1..] {
        match block {
            ContentBlock::ResourceLink(link) => {
                mentions.push(link.uri.clone());
                mentions.extend(uris_of(link.meta.as_ref()));
            }
            ContentBlock::Resource(embedded) => {
                mentions.extend(uris_of(embedded.meta.as_ref()));
                let ResourceContents::TextResourceContents { uri, meta, .. } = &embedded.resource
                else {
                    panic!("no text")
                };
                mentions.push(uri.clone());
                mentions.extend(uris_of(meta.as_ref()));
            }
            other => panic!("{other:?}"),
        }
    }
    let params = ReadResourceRequestParams::new(&outward);
    let result = client.peer.read_resource(params).await.unwrap();
    let ResourceContents::TextResourceContents { uri, meta, .. } = &result.contents[0] else {
        panic!("no text")
    };
    mentions.push(uri.clone());
    mentions.extend(uris_of(meta.as_ref()));
    let got = client
        .peer
        .get_prompt(GetPromptRequestParams::new("pies__p"));
    let ContentBlock::Resource(embedded) = &got.await.unwrap().messages[0].content else {
        panic!("no resource")
    };
    let ResourceContents::TextResourceContents { uri, .. } = &embedded.resource else {
        panic!("no text")
    };
    mentions.push(uri.clone());
    assert_eq!(mentions, vec![outward; mentions.len()]);
}

#[tokio::test]
async fn a_template_of_views_keeps_its_scheme_and_leads_back() {
    let client = Client::modern("m", apps()).await;
    let listed = client.peer.list_resource_templates(None).await.unwrap();
    let template = &listed.resource_templates[2].uri_template;
    assert_eq!(template, "ui://pies/pies/by/{id}");
    let served = read(&client, "ui://pies/pies/by/7").await.1;
    assert_eq!(served, "pies serves ui://pies/by/7");
    let argument = ArgumentInfo::new("id", "");
    let params = CompleteRequestParams::new(Reference::for_resource(template), argument);
    let completed = client.peer.complete(params).await.unwrap();
    assert_eq!(completed.completion.values, ["ui://pies/by/{id}"]);
}

#[tokio::test]
async fn an_update_of_a_view_has_the_uri_that_was_subscribed_to() {
    // The bare one too, where only one member has it.
    let bare = Gateway::builder()
        .member("bars", app("bars", "ui://bars", "bars-poll"))
        .member("pies", app("pies", VIEW, "pies-poll"))
        .build()
        .unwrap();
    for (gateway, uri) in [(apps(), "ui://pies/chart/view.html"), (bare, VIEW)] {
        let mut client = Client::legacy("l", gateway).await;
        client.peer.list_resources(None).await.unwrap();
        let subscribed = client.peer.subscribe(SubscribeRequestParams::new(uri));
        soon("subscribing", subscribed).await.unwrap();
        loop {
            match client.hear("an update").await {
                Heard::Updated(updated) => break assert_eq!(updated, uri),
                other => assert_eq!(other, Heard::Tools),
            }
        }
    }
}

#[tokio::test]
async fn a_finished_task_names_its_view_by_the_uri_that_leads_back() {
    let server = service_fn(|_request: McpRequest| {
        let meta = json!({ "ui": { "resourceUri": VIEW }, "ui/resourceUri": VIEW });
        let blocks = json!([
            { "type": "resource_link", "name": "l", "uri": VIEW, "_meta": meta },
            { "type": "resource", "resource": { "uri": VIEW, "text": "", "_meta": meta } },
        ]);
        let result =
            JsonObject::from_iter([("content".to_owned(), blocks), ("_meta".to_owned(), meta)]);
        let task = Task::new("t", TaskStatus::Completed, "now", "now");
        let payload = TaskPayload::Completed { result };
        let result = GetTaskResult::new(DetailedTask::new(task, payload));
        std::future::ready(Ok::<_, Error>(McpResponse::new(result)))
    });
    let made = service_fn(|_request: McpRequest| {
        let task = Task::new("t", TaskStatus::Working, "now", "now");
        std::future::ready(Ok::<_, Error>(McpResponse::new(CreateTaskResult::new(
            task,
        ))))
    });
    let codec = || RequestStateCodec::try_new(vec![7; 32]).unwrap();
    let gateway = |stack: tower::util::BoxCloneService<McpRequest, McpResponse, Error>| {
        Gateway::builder()
            .request_state_codec(codec())
            .member("pies", stack)
            .build()
            .unwrap()
    };
    let created = call(
        &gateway(tower::util::BoxCloneService::new(made)),
        "pies__show",
    )
    .await;
    let ServerResult::CreateTaskResult(created) = created.unwrap().into_result() else {
        panic!("no task")
    };
    let get = GetTaskRequest::new(GetTaskParams::new(created.task.task_id));
    let gateway = gateway(tower::util::BoxCloneService::new(server));
    let polled = gateway.oneshot(McpRequest::new(get)).await.unwrap();
    let ServerResult::GetTaskResult(polled) = polled.into_result() else {
        panic!("no task")
    };
    let TaskPayload::Completed { result } = polled.task.payload else {
        panic!("not completed")
    };
    let text = json!(result).to_string();
    assert_eq!(
        text.matches("ui://pies/chart/view.html").count(),
        8,
        "{text}"
    );
    assert_eq!(text.matches("ui://").count(), 8, "{text}");
}

#[tokio::test]
async fn a_namespace_keeps_the_scheme_of_views_and_nests() {
    let layer = |name| NamespaceLayer::new(name).unwrap();
    let stack = layer("outer").layer(layer("My.App").layer(app("one", VIEW, "poll")));
    let client = Client::modern("m", stack).await;
    let tools = client.peer.list_tools(None).await.unwrap().tools;
    for uri in uris_of(tools[0].meta.as_ref()) {
        assert_eq!(uri, "ui://outer/.4dy.2e.41pp/chart/view.html");
        assert_eq!(read(&client, &uri).await.1, format!("one serves {VIEW}"));
    }
    // By the names that the app knows.
    let stack = layer("My.App").layer(app("one", VIEW, "poll"));
    let client = Client::modern("m", stack).await;
    assert_eq!(
        text(&client.call(tool("poll", json!({}))).await),
        "one: poll"
    );
    assert_eq!(read(&client, VIEW).await.1, format!("one serves {VIEW}"));
}

#[tokio::test]
async fn a_members_own_name_leads_to_the_only_member_that_has_it() {
    for client in [
        Client::modern("m", apps()).await,
        Client::legacy("l", apps()).await,
    ] {
        for by in ["bars", "pies"] {
            // By a gateway that has listed nothing, and by one that has.
            let name: &'static str = ["bars-poll", "pies-poll"][usize::from(by == "pies")];
            let said = format!("{by}: {name}");
            assert_eq!(text(&client.call(tool(name, json!({}))).await), said);
            client.peer.list_tools(None).await.unwrap();
            assert_eq!(text(&client.call(tool(name, json!({}))).await), said);
        }
    }
}

#[tokio::test]
async fn an_own_name_of_several_members_is_answered_with_their_outward_names() {
    struct NotPies;
    impl Visibility for NotPies {
        fn sees(&self, item: Item<'_>) -> bool {
            !matches!(item, Item::Tool(name) if name.starts_with("pies"))
        }
    }
    let gateway = apps();
    listed(&gateway).await;
    let error = call(&gateway, "show").await.unwrap_err();
    let error = error.as_protocol().unwrap();
    assert_eq!(error.code, ErrorCode::INVALID_PARAMS);
    for name in ["bars__show", "pies__show"] {
        assert!(error.message.contains(name), "{error}");
    }

    let mut request = McpRequest::call_tool("show").build();
    request.context.limit_visibility(NotPies);
    let error = gateway.clone().oneshot(request).await.unwrap_err();
    let message = &error.as_protocol().unwrap().message;
    assert!(message.contains("bars__show"), "{message}");
    assert!(!message.contains("pies"), "{message}");

    // What the caller may not see is not found by the name that its server knows.
    let mut request = McpRequest::call_tool("pies-poll").build();
    request.context.limit_visibility(NotPies);
    let error = gateway.oneshot(request).await.unwrap_err();
    let error = error.as_protocol().unwrap();
    assert_eq!(error.message, "Unknown tool: pies-poll");
    assert_eq!(error.data.as_ref().unwrap()["nearest"], json!([]));
}

#[tokio::test]
async fn a_members_own_name_does_not_lead_to_a_hidden_item() {
    let pies = || Member::new("pies", app("pies", VIEW, "pies-poll"));
    let gateway = |member, read_only| {
        let gateway = Gateway::builder().read_only(read_only);
        let gateway = gateway.add_member(member);
        let bars = Member::new("bars", app("bars", "ui://bars", "bars-poll"));
        gateway.add_member(bars).build().unwrap()
    };
    let filter = |glob: &str| pies().filter(Filter::new().deny(glob));
    for (what, gateway) in [
        ("filter", gateway(filter("pies__*"), false)),
        ("hide", gateway(pies().hide("pies-poll"), false)),
        ("read-only", gateway(pies(), true)),
    ] {
        for listed_before in [false, true] {
            if listed_before {
                listed(&gateway).await;
            }
            let error = call(&gateway, "pies-poll").await.unwrap_err();
            let error = error.as_protocol().unwrap();
            assert_eq!(error.code, ErrorCode::INVALID_PARAMS, "{what}");
            assert!(!error.message.contains("pies__"), "{what}: {error}");
        }
    }
    // What one member has and may be seen is found in read-only mode too.
    let trusted = gateway(pies().trust_annotations(true), true);
    assert_eq!(said(call(&trusted, "pies-poll").await), "pies: pies-poll");

    let kept_back = gateway(filter("ui://pies/*").trust_annotations(true), false);
    for uri in [VIEW, "ui://pies/chart/view.html", "ui://pies/by/7"] {
        let read = McpRequest::read_resource(uri);
        let error = kept_back.clone().oneshot(read).await.unwrap_err();
        assert!(error.as_protocol().is_some(), "{uri}: {error}");
    }
}

#[tokio::test]
async fn a_members_own_uri_leads_to_the_only_member_that_has_it() {
    let gateway = Gateway::builder()
        .member("bars", app("bars", "ui://bars", "bars-poll"))
        // Its name begins the URIs of its own views.
        .member("chart", app("chart", VIEW, "poll"))
        .build()
        .unwrap();
    let client = Client::modern("m", gateway).await;
    client.peer.list_resources(None).await.unwrap();
    for (uri, served) in [
        (VIEW, "chart serves ui://chart/view.html"),
        (
            "ui://chart/chart/view.html",
            "chart serves ui://chart/view.html",
        ),
        ("ui://bars", "bars serves ui://bars"),
        ("bars-data://7", "bars serves bars-data://7"),
    ] {
        assert_eq!(read(&client, uri).await.1, served, "{uri}");
    }
    // Also if nothing was listed before, and by a template.
    for (uri, served) in [
        (VIEW, "chart serves ui://chart/view.html"),
        ("ui://chart/by/7", "chart serves ui://chart/by/7"),
        ("ui://chart/chart/by/7", "chart serves ui://chart/by/7"),
    ] {
        let gateway = Gateway::builder()
            .member("bars", app("bars", "ui://bars", "bars-poll"))
            .member("chart", app("chart", VIEW, "poll"))
            .build()
            .unwrap();
        let client = Client::modern("m", gateway).await;
        assert_eq!(read(&client, uri).await.1, served, "{uri}");
    }
    // Several have it: the error names the URIs that each is read by.
    let client = Client::modern("m", apps()).await;
    let read = client
        .peer
        .read_resource(ReadResourceRequestParams::new(VIEW));
    let error = read.await.unwrap_err().to_string();
    for uri in ["ui://bars/chart/view.html", "ui://pies/chart/view.html"] {
        assert!(error.contains(uri), "{error}");
    }
}

#[tokio::test]
async fn outer_layers_decide_on_an_own_name_by_the_outward_one() {
    /// Lets everything be seen, and notes which calls it was asked about.
    struct Asked(Arc<Mutex<Vec<String>>>);
    impl Visibility for Asked {
        fn sees(&self, item: Item<'_>) -> bool {
            !matches!(item, Item::Resource(uri) if uri.starts_with("ui://pies/"))
        }
        fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
            let names = format!("{tool} {}", call.target().unwrap_or_default());
            self.0.lock().unwrap().push(names);
            Err(ErrorData::invalid_request("not today", None).into())
        }
    }
    let gateway = Gateway::builder()
        .member("bars", app("bars", "ui://bars", "bars-poll"))
        .member("pies", app("pies", VIEW, "pies-poll"))
        .build()
        .unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut request = McpRequest::call_tool("pies-poll").build();
    request.context.limit_visibility(Asked(asked.clone()));
    let error = gateway.clone().oneshot(request).await.unwrap_err();
    assert_eq!(error.as_protocol().unwrap().message, "not today");
    assert_eq!(*asked.lock().unwrap(), ["pies__pies-poll pies__pies-poll"]);

    let mut request = McpRequest::read_resource(VIEW);
    request.context.limit_visibility(Asked(asked.clone()));
    let error = gateway.oneshot(request).await.unwrap_err();
    assert!(error.to_string().contains("not found"), "{error}");
}
