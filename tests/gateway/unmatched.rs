//! Options that match nothing.

use super::*;
use crate::common::log::Log;

/// The options of the first member that match nothing, with their values.
fn unmatched(gateway: &Gateway) -> Vec<(&'static str, String)> {
    let options = gateway.handle().members().remove(0).unmatched;
    options
        .into_iter()
        .map(|unmatched| (unmatched.option, unmatched.value))
        .collect()
}

async fn until_unmatched(gateway: &Gateway, wanted: &[(&'static str, &str)]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(option, value)| (*option, (*value).to_owned()))
        .collect();
    let reported = async {
        while unmatched(gateway) != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the report", reported).await;
}

#[tokio::test(start_paused = true)]
async fn options_that_match_no_tool_or_prompt_are_reported_once_with_the_nearest_names() {
    let (log, _guard) = Log::of_warnings();
    let shop = Shop::with("s", &["query", "read"]);
    let member = Member::new("s", shop.piped())
        .rename("qurey", "ask")
        .rename("read", "look")
        .hide("query@2")
        .hide("raed")
        .hide_prompt("great");
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    assert_eq!(unmatched(&gateway), []);

    listed(&gateway).await;
    until_unmatched(&gateway, &[("rename", "qurey"), ("hide", "raed")]).await;
    let reported = gateway.handle().members().remove(0).unmatched;
    assert_eq!(reported[0].nearest, ["query"]);
    // Nothing is said of prompts before they are listed.
    let client = McpClient::new(gateway.clone());
    client.list_all_prompts().await.unwrap();
    until_unmatched(
        &gateway,
        &[
            ("rename", "qurey"),
            ("hide", "raed"),
            ("hide_prompt", "great"),
        ],
    )
    .await;

    // Each change has the options compared again, and each option is logged once.
    shop.until_listened_to(1).await;
    shop.stock(&["qurey", "read"]).await;
    let changed = async {
        while listed(&gateway).await != ["ask", "look"] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the new list", changed).await;
    let now = [
        ("hide", "query@2"),
        ("hide", "raed"),
        ("hide_prompt", "great"),
    ];
    until_unmatched(&gateway, &now).await;
    assert_eq!(log.lines_with("an option matches nothing").len(), 4);
    let line = r#"member=s option="rename" value="qurey" nearest=["query"]"#;
    assert_eq!(log.lines_with(line).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn filters_that_match_nothing_are_reported_when_all_lists_are_known() {
    let (log, _guard) = Log::of_warnings();
    let shop = Shop::with("s", &["query"]);
    let filter = Filter::new()
        .allow("s__qurey*")
        .allow("s__query")
        .allow("s__greet")
        .deny("s__drop_*")
        .deny("s+file:///a")
        .deny("s+file:///{name}");
    let member = Member::new("s", shop.piped()).filter(filter);
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    assert_eq!(listed(&gateway).await, ["s__query"]);
    // The other lists are fetched for it, though no caller has asked for them.
    let now = [("filter.allow", "s__qurey*"), ("filter.deny", "s__drop_*")];
    until_unmatched(&gateway, &now).await;
    let reported = gateway.handle().members().remove(0).unmatched;
    assert_eq!(reported[0].nearest, ["s__query"]);
    assert_eq!(log.lines_with("an option matches nothing").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn options_of_a_member_that_is_down_are_not_reported() {
    let (log, _guard) = Log::of_warnings();
    let filter = Filter::new().deny("x");
    let gateway = Gateway::builder()
        .add_member(down("dead").rename("x", "y").filter(filter))
        .member("up", Shop::with("up", &["a"]).piped())
        .build()
        .unwrap();
    assert_eq!(listed(&gateway).await, ["up__a"]);
    assert_eq!(unmatched(&gateway), []);
    assert_eq!(log.lines_with("an option matches nothing").len(), 0);

    // A member that was up, and whose options match nothing.
    let up = Arc::new(Mutex::new(true));
    let shop = Shop::of("s", &["a"], |state| state.announces = false);
    let (is_up, inner) = (up.clone(), shop.piped());
    let stack = service_fn(move |request: McpRequest| {
        let (is_up, inner) = (*is_up.lock().unwrap(), inner.clone());
        async move {
            match is_up {
                true => inner.oneshot(request).await,
                false => Err(TransportError::not_delivered("gone").into()),
            }
        }
    });
    let gateway = Gateway::builder()
        .add_member(Member::new("s", stack).hide("x"))
        .build()
        .unwrap();
    listed(&gateway).await;
    assert_eq!(unmatched(&gateway), [("hide", "x".to_owned())]);
    *up.lock().unwrap() = false;
    call(&gateway, "s__a").await.unwrap_err();
    assert_eq!(unmatched(&gateway), []);
}

#[tokio::test(start_paused = true)]
async fn filters_are_compared_over_the_connection_of_the_callers_that_list() {
    let shop = Shop::with("s", &["query"]);
    let connections = Arc::new(AtomicUsize::new(0));
    let (server, connected) = (shop.clone(), connections.clone());
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::MatchCaller)
        .transport(move || {
            connected.fetch_add(1, Ordering::SeqCst);
            let near = pipe_to(server.clone());
            async move { Ok::<_, io::Error>(near) }
        });
    let member = Member::new("s", upstream).filter(Filter::new().deny("s__drop_*"));
    let gateway = Gateway::builder().add_member(member).build().unwrap();
    let client = Client::legacy("l", gateway.clone()).await;
    client.peer.list_all_tools().await.unwrap();
    until_unmatched(&gateway, &[("filter.deny", "s__drop_*")]).await;
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}
