//! Where a request goes, and what comes back from there.

use super::*;

#[tokio::test]
async fn a_call_needs_no_list() {
    let (one, other, gateway) = two();
    assert_eq!(said(call(&gateway, "one__a").await), "one: a");
    assert_eq!((one.lists(), other.lists()), (0, 0));
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
    let ServerResult::InputRequiredResult(wanted) = &*response.result else {
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
    let ServerResult::InputRequiredResult(wanted) = &*response.result else {
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
            let result: ServerResult = match &*request.message {
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

/// A member with one resource, one template and one skill.
pub(super) fn library(
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
        let result: Result<ServerResult, Error> = match &*request.message {
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

#[tokio::test]
async fn an_answer_of_several_members_names_no_server() {
    let (_one, _other, gateway) = two();
    let discover = McpRequest::new(DiscoverRequest::default());
    for mut request in [discover, McpRequest::list_tools()] {
        let served_by = ServedBy::slot(&mut request.context.extensions);
        gateway.clone().oneshot(request).await.unwrap();
        assert_eq!(served_by.name(), None);
    }

    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let params = SubscriptionsListenRequestParams::new(filter);
    let mut request = McpRequest::new(SubscriptionsListenRequest::new(params));
    let (caller, mut received) = recorder();
    request.context.caller = caller;
    let served_by = ServedBy::slot(&mut request.context.extensions);
    let listen = tokio::spawn(gateway.oneshot(request));
    soon("an acknowledgment", received.recv()).await.unwrap();
    listen.abort();
    assert_eq!(served_by.name(), None);
}
