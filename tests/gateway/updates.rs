//! Subscriptions to resources: refused ones, and updates of what is not named so.

use serde_json::Value;

use super::{
    common::script::{scripted_as, scripted_lines},
    *,
};

/// A server of a revision before 2026-07-28, or not, that refuses subscriptions to `bad…`; with the lines that it has
/// to say when `say` is called.
struct Server {
    upstream: Upstream,
    said: Arc<Mutex<Vec<String>>>,
    subscribed: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// With these capabilities of resources.
    fn with(name: &'static str, resources: Value) -> Self {
        let (said, subscribed) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let (lines, noted) = (said.clone(), Arc::<Mutex<Vec<String>>>::clone(&subscribed));
        let capabilities = json!({ "tools": { "listChanged": true }, "resources": resources });
        let builder = Upstream::builder().name(name);
        let upstream = scripted_as(builder, Some(capabilities), move |request| {
            let uri = request["params"]["uri"].as_str().unwrap_or_default();
            let result = match request["method"].as_str().unwrap_or_default() {
                "tools/list" => {
                    json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] })
                }
                "resources/list" => {
                    json!({ "resources": [{ "uri": "file:///good", "name": "good" }] })
                }
                "resources/templates/list" => json!({ "resourceTemplates": [] }),
                "resources/subscribe" if uri.contains("bad") => {
                    let error =
                        json!({ "code": -32601, "message": "no such subscription", "data": 7 });
                    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
                    return Some(vec![answer.to_string()]);
                }
                "resources/subscribe" => {
                    noted.lock().unwrap().push(uri.to_owned());
                    json!({})
                }
                "resources/unsubscribe" => json!({}),
                // What there is to say comes before the answer of any call.
                "tools/call" => json!({ "content": [] }),
                _ => {
                    let error = json!({ "code": -32601, "message": "Method not found" });
                    let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
                    return Some(vec![answer.to_string()]);
                }
            };
            let mut all = match request["method"] == "tools/call" {
                true => std::mem::take(&mut *lines.lock().unwrap()),
                false => Vec::new(),
            };
            let answer = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
            all.push(answer.to_string());
            Some(all)
        });
        Self {
            upstream,
            said,
            subscribed,
        }
    }

    fn says(&self, method: &str, params: Value) {
        let line = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        self.said.lock().unwrap().push(line.to_string());
    }

    fn updates(&self, uri: &str) {
        self.says("notifications/resources/updated", json!({ "uri": uri }));
    }
}

/// The stacks that a subscription is to behave the same in: the server alone, as the only member, and beside another.
fn stacks(server: &Server) -> Vec<(&'static str, Gateway, &'static str)> {
    let alone = Gateway::builder()
        .prefix(Prefix::Never)
        .member("s", server.upstream.clone());
    let named = Gateway::builder().member("s", server.upstream.clone());
    let both = Gateway::builder()
        .member("s", server.upstream.clone())
        .member("other", Shop::with("other", &["a"]).piped());
    vec![
        ("alone", alone.build().unwrap(), ""),
        ("named", named.build().unwrap(), "s"),
        ("beside another", both.build().unwrap(), "s"),
    ]
}

fn outward(prefix: &str, uri: &str) -> String {
    match prefix {
        "" => uri.to_owned(),
        prefix => format!("{prefix}+{uri}"),
    }
}

async fn subscribe(client: &Client, uri: &str) -> Result<(), rmcp::ServiceError> {
    let subscribed = client.peer.subscribe(SubscribeRequestParams::new(uri));
    soon("subscribing", subscribed).await
}

/// Has the server say what it has to say.
async fn speak(client: &Client, prefix: &str) {
    let name = match prefix {
        "" => "t",
        _ => "s__t",
    };
    client.call(tool(name, json!({}))).await;
}

/// The next update, whatever list changes come before.
async fn updated(client: &mut Client) -> String {
    loop {
        if let Heard::Updated(uri) = client.hear("an update").await {
            return uri;
        }
    }
}

#[tokio::test]
async fn a_refused_subscription_is_the_servers_own_refusal_and_ends_no_other() {
    let server = Server::with("s", json!({ "subscribe": true, "listChanged": true }));
    for (what, gateway, prefix) in stacks(&server) {
        let mut client = Client::legacy("l", gateway).await;
        subscribe(&client, &outward(prefix, "file:///good"))
            .await
            .unwrap();
        for _ in 0..2 {
            let error = subscribe(&client, &outward(prefix, "file:///bad"))
                .await
                .unwrap_err();
            let rmcp::ServiceError::McpError(error) = error else {
                panic!("{what}: {error}")
            };
            assert_eq!(error.code.0, -32601, "{what}: {error}");
            assert_eq!(error.message, "no such subscription", "{what}");
            assert_eq!(error.data, Some(json!(7)), "{what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        while client.heard.try_recv().is_ok() {}

        server.updates("file:///good");
        speak(&client, prefix).await;
        assert_eq!(
            updated(&mut client).await,
            outward(prefix, "file:///good"),
            "{what}"
        );
        server.says("notifications/tools/list_changed", json!({}));
        speak(&client, prefix).await;
        assert_eq!(client.hear("a change").await, Heard::Tools, "{what}");
        // Another one can still be subscribed to.
        subscribe(&client, &outward(prefix, "file:///more"))
            .await
            .unwrap();
        server.updates("file:///more");
        speak(&client, prefix).await;
        assert_eq!(
            updated(&mut client).await,
            outward(prefix, "file:///more"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_listen_continues_for_the_subscriptions_that_were_not_refused() {
    let server = Server::with("s", json!({ "subscribe": true }));
    for (what, gateway, prefix) in stacks(&server) {
        let client = McpClient::new(gateway);
        let uris = ["file:///bad", "file:///good"].map(|uri| outward(prefix, uri));
        let filter = SubscriptionFilter::builder()
            .tools_list_changed()
            .resource_subscriptions(uris.clone())
            .build();
        let mut changes = soon(what, client.listen(filter)).await.unwrap();
        let accepted = changes.accepted().resource_subscriptions.clone();
        assert_eq!(accepted.as_deref(), Some(&uris[1..]), "{what}");
        server.updates("file:///good");
        let name = if prefix.is_empty() { "t" } else { "s__t" };
        client.call_tool(name).await.unwrap();
        loop {
            match soon(what, changes.next()).await.unwrap().unwrap() {
                ServerNotification::ResourceUpdatedNotification(update) => {
                    break assert_eq!(update.params.uri, uris[1], "{what}");
                }
                ServerNotification::ToolListChangedNotification(_) => {}
                other => panic!("{what}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn an_update_of_a_part_of_a_resource_reaches_its_subscriber() {
    let server = Server::with("s", json!({ "subscribe": true }));
    for (what, gateway, prefix) in stacks(&server) {
        let mut client = Client::legacy("l", gateway).await;
        for uri in ["file:///dir", "file:///dir/", "notes://"] {
            subscribe(&client, &outward(prefix, uri)).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        while client.heard.try_recv().is_ok() {}
        for uri in [
            "file:///dir/a/b.txt",
            "file:///dir#line",
            "file:///dir?q=1",
            "notes://7",
        ] {
            server.updates("file:///directory");
            server.updates(uri);
            speak(&client, prefix).await;
            assert_eq!(updated(&mut client).await, outward(prefix, uri), "{what}");
        }
    }
}

#[tokio::test]
async fn updates_of_a_server_that_announces_no_subscriptions_reach_its_subscriber() {
    let server = Server::with("s", json!({}));
    for (what, gateway, prefix) in stacks(&server) {
        let mut client = Client::legacy("l", gateway).await;
        let before = server.subscribed.lock().unwrap().len();
        subscribe(&client, &outward(prefix, "file:///good"))
            .await
            .unwrap();
        assert_eq!(
            server.subscribed.lock().unwrap().len(),
            before + 1,
            "{what}"
        );
        server.updates("file:///good");
        speak(&client, prefix).await;
        assert_eq!(
            updated(&mut client).await,
            outward(prefix, "file:///good"),
            "{what}"
        );
    }
}

/// A server of revision 2026-07-28 that refuses a whole listen over one bad resource. A call has it tell every
/// listen of an update of `file:///good` and of a change of its tools.
fn strict() -> Upstream {
    let listens = Arc::new(Mutex::new(Vec::<Value>::new()));
    scripted_lines(Upstream::builder().name("s"), move |request| {
        let id = &request["id"];
        let of = |listen: &Value, method: &str, mut params: Value| {
            params["_meta"] = json!({ "io.modelcontextprotocol/subscriptionId": listen });
            json!({ "jsonrpc": "2.0", "method": method, "params": params }).to_string()
        };
        match request["method"].as_str().unwrap_or_default() {
            "subscriptions/listen" => {
                let wanted = &request["params"]["notifications"];
                if wanted.to_string().contains("bad") {
                    let error = json!({ "code": -32602, "message": "no such resource" });
                    let answer = json!({ "jsonrpc": "2.0", "id": id, "error": error });
                    return Some(vec![answer.to_string()]);
                }
                listens.lock().unwrap().push(id.clone());
                let method = "notifications/subscriptions/acknowledged";
                Some(vec![of(id, method, json!({ "notifications": wanted }))])
            }
            "tools/call" => {
                let mut lines = Vec::new();
                for listen in &*listens.lock().unwrap() {
                    let update = json!({ "uri": "file:///good" });
                    lines.push(of(listen, "notifications/resources/updated", update));
                    lines.push(of(listen, "notifications/tools/list_changed", json!({})));
                }
                let result = json!({ "resultType": "complete", "content": [] });
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
                lines.push(answer.to_string());
                Some(lines)
            }
            _ => {
                let error = json!({ "code": -32601, "message": "Method not found" });
                let answer = json!({ "jsonrpc": "2.0", "id": id, "error": error });
                Some(vec![answer.to_string()])
            }
        }
    })
}

#[tokio::test]
async fn a_member_that_refuses_a_listen_over_one_resource_still_announces_the_rest() {
    let gateway = || {
        Gateway::builder()
            .member("s", strict())
            .member("other", Shop::with("other", &["a"]).piped())
            .build()
            .unwrap()
    };
    let mut client = Client::legacy("l", gateway()).await;
    subscribe(&client, "s+file:///good").await.unwrap();
    let error = subscribe(&client, "s+file:///bad").await.unwrap_err();
    let rmcp::ServiceError::McpError(error) = error else {
        panic!("{error}")
    };
    assert_eq!(
        (error.code.0, &*error.message),
        (-32602, "no such resource")
    );
    speak(&client, "s").await;
    assert_eq!(updated(&mut client).await, "s+file:///good");
    while client.hear("a change").await != Heard::Tools {}

    let client = McpClient::new(gateway());
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .resource_subscriptions(["s+file:///bad"])
        .build();
    let mut changes = soon("listening", client.listen(filter)).await.unwrap();
    client.call_tool("s__t").await.unwrap();
    loop {
        let change = soon("a change", changes.next()).await.unwrap().unwrap();
        if let ServerNotification::ToolListChangedNotification(_) = change {
            return;
        }
    }
}
