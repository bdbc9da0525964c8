//! Tasks of revision 2025-11-25, which rmcp has no types for.

use rmcp_layers::{
    Upstream,
    gateway::{Gateway, Member, Prefix},
};
use serde_json::{Value, json};

use crate::{
    http_callers::Door,
    peers::{Caller, LEGACY, Road, Seen, Server},
};

const CAPABILITIES: &str =
    r#"{"tools":{},"tasks":{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}}"#;
const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A server whose tasks are named after it. It asks and tells of the task before its result.
fn server(name: &'static str) -> (Server, Seen) {
    let task = |id: &str| {
        format!(
            r#""new":1.0,"taskId":"{id}","status":"working","createdAt":"c","lastUpdatedAt":"u","ttl":null,"pollInterval":5e2"#
        )
    };
    let (server, seen) = Server::new(LEGACY, move |message| {
        let Some(method) = message["method"].as_str() else {
            return Vec::new();
        };
        let id = message["params"]["taskId"].as_str().unwrap_or_default();
        let related = |id: &str| format!(r#""_meta":{{"x":1.0,"{RELATED}":{{"taskId":"{id}"}}}}"#);
        let own = format!("{name}-1");
        let result = match method {
            "tools/call" => format!(r#"{{"task":{{{}}},"z":0.10}}"#, task(&own)),
            "tasks/list" if message["params"]["cursor"].is_null() => {
                format!(r#"{{"tasks":[{{{}}}],"nextCursor":"two"}}"#, task(&own))
            }
            "tasks/list" => format!(r#"{{"tasks":[{{{}}}]}}"#, task(&format!("{name}-2"))),
            _ if id != own => {
                return vec![
                    r#"{"jsonrpc":"2.0","id":$request_id,"error":{"code":-32602,"message":"no task"}}"#
                        .to_owned(),
                ];
            }
            "tasks/result" => format!(
                r#"{{"content":[{{"k":1e1,"type":"resource_link","name":"n","uri":"a:b"}}],{}}}"#,
                related(id)
            ),
            _ => format!("{{{}}}", task(id)),
        };
        let mut lines = Vec::new();
        if method == "tasks/result" {
            let status = format!(r#"{{"taskId":"{id}","status":"working","n":1.0}}"#);
            lines.push(format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{status}}}"#
            ));
            lines.push(format!(
                r#"{{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{{"message":"m","requestedSchema":{{"type":"object","properties":{{}}}},{}}}}}"#,
                related(id)
            ));
        }
        lines.push(format!(
            r#"{{"jsonrpc":"2.0","id":$request_id,"result":{result}}}"#
        ));
        lines
    });
    (server.with_capabilities(CAPABILITIES), seen)
}

async fn member(name: &'static str) -> (Upstream, Seen) {
    let (server, seen) = server(name);
    (server.by(Road::Lines).await, seen)
}

/// A gateway with two members.
async fn gateway() -> (Gateway, [Seen; 2]) {
    let ((a, seen_a), (b, seen_b)) = (member("a").await, member("b").await);
    let gateway = Gateway::builder().member("a", a).member("b", b).build();
    (gateway.unwrap(), [seen_a, seen_b])
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Begins a task, and returns its id.
async fn begun(caller: &mut Caller, tool: &str) -> String {
    let params = format!(r#""name":"{tool}","task":{{"ttl":6e4}}"#);
    let answer = caller.ask("tools/call", &params).await;
    assert!(answer.contains(r#""z":0.10"#), "{answer}");
    let id = json_of(&answer)["result"]["task"]["taskId"].clone();
    id.as_str().expect(&answer).to_owned()
}

#[tokio::test]
async fn a_task_passes_between_a_caller_and_one_server_as_it_is() {
    let (stack, mut seen) = member("a").await;
    let mut caller = Caller::legacy(stack).await;
    assert_eq!(begun(&mut caller, "t").await, "a-1");
    assert!(
        seen.next("tools/call")
            .await
            .contains(r#""task":{"ttl":6e4}"#)
    );
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = caller.ask(method, r#""taskId":"a-1","y":1.0"#).await;
        let task = r#"{"new":1.0,"taskId":"a-1","status":"working","createdAt":"c","lastUpdatedAt":"u","ttl":null,"pollInterval":5e2}"#;
        assert!(answer.contains(&format!(r#""result":{task}"#)), "{answer}");
        assert!(
            seen.next(method)
                .await
                .contains(r#""taskId":"a-1","y":1.0"#)
        );
    }
    let answer = caller.ask("tasks/list", "").await;
    assert!(answer.contains(r#""nextCursor":"two""#), "{answer}");
}

#[tokio::test]
async fn a_gateway_sends_each_request_about_a_task_to_its_member() {
    let (gateway, mut seen) = gateway().await;
    let mut caller = Caller::legacy_with(gateway, r#"{"elicitation":{}}"#).await;
    let ids = [
        begun(&mut caller, "a__t").await,
        begun(&mut caller, "b__t").await,
    ];
    assert_ne!(ids[0], "a-1");
    for (id, (own, seen)) in ids.iter().zip(["a-1", "b-1"].into_iter().zip(&mut seen)) {
        for method in ["tasks/get", "tasks/cancel"] {
            let answer = caller
                .ask(method, &format!(r#""y":1.0,"taskId":"{id}""#))
                .await;
            let task = format!(r#""result":{{"new":1.0,"taskId":"{id}","status":"working""#);
            assert!(answer.contains(&task), "{answer}");
            let sent = seen.next(method).await;
            assert!(
                sent.contains(&format!(r#""y":1.0,"taskId":"{own}""#)),
                "{sent}"
            );
        }
    }
}

#[tokio::test]
async fn what_belongs_to_a_task_names_it_by_its_outward_id() {
    let (gateway, [_, mut seen]) = gateway().await;
    let mut caller = Caller::legacy_with(gateway, r#"{"elicitation":{}}"#).await;
    let id = begun(&mut caller, "b__t").await;
    let asked = caller
        .send("tasks/result", &format!(r#""taskId":"{id}""#))
        .await;
    let status = caller.hear("notifications/tasks/status").await;
    assert_eq!(json_of(&status)["params"]["taskId"], *id, "{status}");
    let question = json_of(&caller.hear("elicitation/create").await);
    let related = &question["params"]["_meta"][RELATED];
    assert_eq!(*related, json!({ "taskId": id }));
    let answer = json!({ "jsonrpc": "2.0", "id": question["id"], "result": {
        "action": "decline", "_meta": { RELATED: related },
    } });
    caller.write(&answer.to_string()).await;
    let result = loop {
        let line = caller.line().await;
        if json_of(&line)["id"] == asked && json_of(&line)["method"].is_null() {
            break line;
        }
    };
    let wanted = format!(
        r#""result":{{"content":[{{"k":1e1,"type":"resource_link","name":"n","uri":"b+a:b"}}],"_meta":{{"x":1.0,"{RELATED}":{{"taskId":"{id}"}}}}}}"#
    );
    assert!(result.contains(&wanted), "{result}");
    loop {
        let sent = json_of(&seen.any().await);
        if sent["result"]["action"] == "decline" {
            assert_eq!(sent["result"]["_meta"][RELATED]["taskId"], "b-1", "{sent}");
            break;
        }
    }
}

#[tokio::test]
async fn a_task_id_that_the_gateway_has_not_given_is_refused() {
    for prefix in [Prefix::Always, Prefix::Never] {
        let (stack, _seen) = member("a").await;
        let gateway = Gateway::builder()
            .add_member(Member::new("a", stack).prefix(prefix))
            .build()
            .unwrap();
        let mut caller = Caller::legacy(gateway).await;
        for method in ["tasks/get", "tasks/cancel", "tasks/result"] {
            for id in [r#""a-1""#, r#""?""#, "7", "null"] {
                let answer = caller.ask(method, &format!(r#""taskId":{id}"#)).await;
                assert_eq!(
                    json_of(&answer)["error"]["code"],
                    -32602,
                    "{method} {answer}"
                );
            }
        }
        let related = format!(r#""name":"t","_meta":{{"{RELATED}":{{"taskId":"a-1"}}}}"#);
        let answer = caller
            .ask("tools/call", &related.replace(r#""t""#, r#""a__t""#))
            .await;
        assert_eq!(json_of(&answer)["error"]["code"], -32602, "{answer}");
    }
}

#[tokio::test]
async fn a_request_that_belongs_to_a_task_names_it_by_its_own_id_to_the_member() {
    let (gateway, [mut seen, _]) = gateway().await;
    let mut caller = Caller::legacy(gateway).await;
    let id = begun(&mut caller, "a__t").await;
    let params = format!(r#""name":"a__t","_meta":{{"{RELATED}":{{"taskId":"{id}"}}}}"#);
    caller.ask("tools/call", &params).await;
    seen.next("tools/call").await;
    let sent = json_of(&seen.next("tools/call").await);
    assert_eq!(sent["params"]["_meta"][RELATED]["taskId"], "a-1");
    let answer = caller
        .ask("tools/call", &params.replace("a__t", "b__t"))
        .await;
    assert_eq!(json_of(&answer)["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn a_notification_that_belongs_to_a_task_reaches_its_member_alone() {
    let (gateway, [mut seen, _]) = gateway().await;
    let mut caller = Caller::legacy(gateway).await;
    let id = begun(&mut caller, "a__t").await;
    caller
        .write(&format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/acme","params":{{"x":1.0,"_meta":{{"{RELATED}":{{"taskId":"{id}"}}}}}}}}"#
        ))
        .await;
    let sent = json_of(&seen.next("notifications/acme").await);
    assert_eq!(sent["params"]["_meta"][RELATED]["taskId"], "a-1", "{sent}");
}

#[tokio::test]
async fn the_tasks_of_all_members_are_one_list() {
    let (gateway, _seen) = gateway().await;
    let mut caller = Caller::legacy(gateway).await;
    let ids = [
        begun(&mut caller, "a__t").await,
        begun(&mut caller, "b__t").await,
    ];
    let text = caller.ask("tasks/list", "").await;
    assert!(text.contains(r#""new":1.0"#), "{text}");
    let page = &json_of(&text)["result"];
    let listed = |page: &Value| -> Vec<String> {
        let tasks = page["tasks"].as_array().unwrap().iter();
        let id = |task: &Value| task["taskId"].as_str().unwrap().to_owned();
        tasks.map(id).collect()
    };
    assert_eq!(listed(page), ids);
    let cursor = format!(r#""cursor":{}"#, page["nextCursor"]);
    let last = json_of(&caller.ask("tasks/list", &cursor).await);
    assert_eq!(listed(&last["result"]).len(), 2);
    assert_eq!(last["result"]["nextCursor"], Value::Null);
    for id in listed(&last["result"]) {
        // The servers do not know their second tasks, but are asked for them.
        let answer = caller
            .ask("tasks/get", &format!(r#""taskId":"{id}""#))
            .await;
        assert_eq!(json_of(&answer)["error"]["message"], "no task");
    }
    let answer = caller.ask("tasks/list", r#""cursor":"?""#).await;
    assert_eq!(json_of(&answer)["error"]["code"], -32602, "{answer}");
}

#[tokio::test]
async fn the_list_of_the_only_member_keeps_its_meta() {
    let (server, _) = Server::answering(LEGACY, r#"{"tasks":[],"_meta":{"x/y":1.0}}"#);
    let upstream = server.with_capabilities(CAPABILITIES).by(Road::Lines).await;
    let gateway = Gateway::builder().member("a", upstream).build().unwrap();
    let mut caller = Caller::legacy(gateway).await;
    let answer = caller.ask("tasks/list", "").await;
    assert!(
        answer.contains(r#"{"tasks":[],"_meta":{"x/y":1.0}}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_caller_over_http_has_tasks_too() {
    let (gateway, [mut seen, _]) = gateway().await;
    let door = Door::to(gateway).await;
    let session = door.session().await;
    let result = async |method: &str, params: String| {
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
        let answer = door.post(text.as_bytes(), Some(&session)).await;
        let mut data = answer.split("data: ").flat_map(str::lines);
        let answer = data.find(|line| line.contains(r#""id":1,"#));
        answer.unwrap_or_default().to_owned()
    };
    let params = r#""name":"a__t","task":{"ttl":6e4}"#.to_owned();
    let begun = result("tools/call", params).await;
    let id = json_of(&begun)["result"]["task"]["taskId"].clone();
    assert!(id.is_string(), "{begun}");
    for method in ["tasks/get", "tasks/cancel"] {
        let answer = result(method, format!(r#""taskId":{id}"#)).await;
        let task = format!(r#""result":{{"new":1.0,"taskId":{id},"status":"working""#);
        assert!(answer.contains(&task), "{method} {answer}");
        assert!(seen.next(method).await.contains(r#""taskId":"a-1""#));
        let answer = result(method, r#""taskId":"a-1""#.to_owned()).await;
        assert_eq!(json_of(&answer)["error"]["code"], -32602, "{answer}");
    }
    let answer = result("tasks/list", String::new()).await;
    assert!(answer.contains(&format!(r#""taskId":{id}"#)), "{answer}");
}
