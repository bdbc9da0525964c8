//! Whose a task is.

use jsonwebtoken::Algorithm;
use rmcp::model::*;
use rmcp_layers::{McpRequest, auth::TOKEN_META_KEY};
use serde_json::json;
use tower::{Layer, ServiceExt};

use crate::{
    common::{recorder, tool},
    guard::Crier,
    shop::{Shop, ask, call, guarded, layer, rules, shown},
    tokens::Issuer,
};

#[tokio::test]
async fn a_task_is_its_beginners_and_unknown_to_others() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let task = Task::new("task-1", TaskStatus::Working, "now", "now");
    shop.will_say(Ok(CreateTaskResult::new(task).into()));
    ask(&stack, call("ant", "")).await.unwrap();

    let get = || GetTaskRequest::new(GetTaskParams::new("task-1"));
    ask(&stack, shown(get(), "")).await.unwrap();
    let bob = Issuer::secret(Algorithm::HS256).token("bob", "admin");
    let mut request = McpRequest::new(get());
    request
        .context
        .meta
        .insert(TOKEN_META_KEY.to_owned(), bob.into());
    let error = ask(&stack, request).await.unwrap_err();
    assert_eq!(error.message, "Unknown task: task-1");
}

#[tokio::test]
async fn a_task_of_2025_11_25_is_its_beginners_and_on_no_other_list() {
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let result = |json| Ok(ServerResult::CustomResult(CustomResult(json)));
    let (alice, bob) = (json!({ "taskId": "a" }), json!({ "taskId": "b" }));
    let as_bob = |mut request: McpRequest| {
        let token = Issuer::secret(Algorithm::HS256).token("bob", "admin");
        let meta = &mut request.context.meta;
        meta.insert(TOKEN_META_KEY.to_owned(), token.into());
        request
    };
    shop.will_say(result(json!({ "task": alice })));
    ask(&stack, call("ant", "")).await.unwrap();
    shop.will_say(result(json!({ "task": bob })));
    ask(&stack, as_bob(call("ant", ""))).await.unwrap();

    let custom = |method: &str, params| shown(CustomRequest::new(method, Some(params)), "");
    let ended = || custom("tasks/result", json!({ "taskId": "a" }));
    shop.will_say(result(json!({ "content": [] })));
    ask(&stack, ended()).await.unwrap();
    assert_eq!(shop.last().target(), Some("a"));
    let error = ask(&stack, as_bob(ended())).await.unwrap_err();
    assert_eq!(error.message, "Unknown task: a");

    let listed = |request| async {
        shop.will_say(result(json!({ "tasks": [alice, bob, { "taskId": "c" }] })));
        match ask(&stack, request).await.unwrap() {
            ServerResult::CustomResult(list) => list.0["tasks"].clone(),
            other => panic!("{other:?}"),
        }
    };
    let list = || custom("tasks/list", json!({}));
    assert_eq!(listed(list()).await, json!([alice]));
    assert_eq!(listed(as_bob(list())).await, json!([bob]));
}

#[tokio::test]
async fn a_principal_with_many_tasks_pushes_out_nobody_elses_and_what_is_forgotten_is_nobodys() {
    const REMEMBERED: usize = 10_000;
    let shop = Shop::default();
    let tokens = ["alice", "bob"].map(|user| Issuer::secret(Algorithm::HS256).token(user, ""));
    let bearing = |request: ClientRequest, user: usize| {
        let mut request = McpRequest::new(request);
        let token = tokens[user].clone().into();
        request
            .context
            .meta
            .insert(TOKEN_META_KEY.to_owned(), token);
        request
    };
    for opens_unknown in [false, true] {
        let layer = layer(rules())
            .allow_unknown_tasks(opens_unknown)
            .build()
            .unwrap();
        let stack = layer.layer(shop.clone());
        let begin = async |user: usize, id: &str| {
            let task = Task::new(id, TaskStatus::Working, "now", "now");
            shop.will_say(Ok(CreateTaskResult::new(task).into()));
            let call = CallToolRequest::new(tool("ant", json!({})));
            ask(&stack, bearing(call.into(), user)).await.unwrap();
        };
        let get = async |user: usize, id: &str| {
            let get = GetTaskRequest::new(GetTaskParams::new(id));
            ask(&stack, bearing(get.into(), user)).await.is_ok()
        };
        begin(1, "bobs").await;
        for number in 0..REMEMBERED + 5 {
            begin(0, &format!("task-{number}")).await;
            if number == 10 {
                assert!(get(0, "task-3").await, "it is used");
            }
        }
        assert!(get(1, "bobs").await, "it is bob's still");
        assert!(!get(0, "bobs").await);
        for (number, is_known) in [(0, false), (3, true), (6, false), (7, true), (20, true)] {
            let id = format!("task-{number}");
            assert_eq!(get(0, &id).await, is_known || opens_unknown, "{id}");
            assert_eq!(get(1, &id).await, !is_known && opens_unknown, "{id}");
        }
    }
}

#[tokio::test]
async fn of_principals_with_as_many_tasks_the_one_loses_its_own_who_asked_for_it_longest_ago() {
    const REMEMBERED: usize = 10_000;
    let shop = Shop::default();
    let stack = guarded(&shop, rules());
    let issuer = Issuer::secret(Algorithm::HS256);
    let ask_as = async |user: usize, request: ClientRequest| {
        let token = issuer.token(&format!("user-{user}"), "").into();
        let mut request = McpRequest::new(request);
        request
            .context
            .meta
            .insert(TOKEN_META_KEY.to_owned(), token);
        ask(&stack, request).await
    };
    let get = async |user: usize| {
        let get = GetTaskRequest::new(GetTaskParams::new(format!("task-{user}")));
        ask_as(user, get.into()).await.is_ok()
    };
    for user in 0..REMEMBERED + 3 {
        if user == REMEMBERED {
            assert!(get(0).await, "it is used");
        }
        let task = Task::new(format!("task-{user}"), TaskStatus::Working, "now", "now");
        shop.will_say(Ok(CreateTaskResult::new(task).into()));
        let call = CallToolRequest::new(tool("ant", json!({})));
        ask_as(user, call.into()).await.unwrap();
    }
    for lost in [1, 2, 3] {
        assert!(!get(lost).await, "{lost}");
    }
    for (kept, begun) in [(0, "used"), (4, "then"), (REMEMBERED + 2, "now")] {
        assert!(get(kept).await, "{begun}");
    }
}

#[tokio::test]
async fn a_listen_hears_of_no_tasks_but_those_that_its_principal_began() {
    for opens_unknown in [false, true] {
        let (shop, crier) = (Shop::default(), Crier::default());
        let layer = layer(rules())
            .allow_unknown_tasks(opens_unknown)
            .build()
            .unwrap();
        let task = |id: &str| Task::new(id, TaskStatus::Working, "now", "now");
        shop.will_say(Ok(CreateTaskResult::new(task("own")).into()));
        ask(&layer.layer(shop), call("ant", "")).await.unwrap();

        let filter = SubscriptionFilter::new();
        let listen = SubscriptionsListenRequestParams::new(filter);
        let mut request = shown(SubscriptionsListenRequest::new(listen), "");
        let (caller, mut heard) = recorder();
        request.context.caller = caller;
        tokio::spawn(layer.layer(crier.clone()).oneshot(request));
        tokio::task::yield_now().await;
        let below = crier.0.lock().unwrap()[0].caller.clone();
        for id in ["own", "somebodys"] {
            let task = DetailedTask::new(task(id), TaskPayload::Working);
            let status = TaskStatusNotification::new(task.into());
            below.notify(status.into()).await.unwrap();
        }
        let ServerNotification::TaskStatusNotification(first) = heard.recv().await.unwrap() else {
            panic!("no status");
        };
        assert_eq!(first.params.task.task.task_id, "own");
        assert!(heard.try_recv().is_err(), "{opens_unknown}");
    }
}
