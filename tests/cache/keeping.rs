//! What is kept, and for how long.

use std::time::Duration;

use rmcp::model::*;
use rmcp_layers::{
    CacheStatus, McpRequest,
    cache::{CACHE_META_KEY, CacheLayer},
};
use serde_json::json;
use tokio::time::advance;

use super::lab::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_read_only_tool_is_called_once() {
    let setup = Setup::listed(quiet()).await;
    let (first, missed) = setup.said(plain("read")).await;
    let (second, hit) = setup.said(plain("read")).await;
    assert_eq!((&*first, missed), ("read {} #1", Some(CacheStatus::Miss)));
    assert_eq!(second, first);
    assert!(is_hit(hit));
    assert_eq!(setup.lab.calls("read"), 1);
    let stats = setup.cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 2, 1));
}

#[tokio::test]
async fn a_tool_that_nobody_calls_safe_is_called_each_time() {
    let setup = Setup::listed(quiet()).await;
    for count in 1..=3 {
        let (said, status) = setup.said(plain("pay")).await;
        assert_eq!((said, status), (format!("pay {{}} #{count}"), None));
    }
    // Nothing is known of a tool that has not been listed.
    let unlisted = Setup::new(quiet());
    unlisted.said(plain("read")).await;
    unlisted.said(plain("read")).await;
    assert_eq!(unlisted.lab.calls("read"), 2);
}

#[tokio::test]
async fn what_tools_say_of_themselves_is_not_believed_by_default() {
    for (builder, runs) in [(quiet(), 2), (quiet().trust_annotations(true), 1)] {
        let setup = Setup::new(builder);
        setup.ask(McpRequest::list_tools()).await.unwrap();
        setup.said(plain("read")).await;
        setup.said(plain("read")).await;
        assert_eq!(setup.lab.calls("read"), runs);
    }
}

#[tokio::test]
async fn the_operator_says_which_tools_are_kept() {
    let setup = Setup::new(quiet().cache_tool("pa?"));
    setup.ask(McpRequest::list_tools()).await.unwrap();
    for _ in 0..2 {
        setup.said(plain("pay")).await;
        setup.said(plain("read")).await;
    }
    assert_eq!((setup.lab.calls("pay"), setup.lab.calls("read")), (1, 2));
}

#[tokio::test]
async fn the_never_cache_set_wins_over_all() {
    let setup = Setup::listed(quiet().cache_tool("*").never_cache("slo*")).await;
    for tool in [
        "deploy",
        "ci__deploy",
        "wipe",
        "send_email",
        "a__b__delete",
        "db.delete",
        "db-delete",
        "dbxdelete",
        "db.slow",
        "slo",
    ] {
        setup.said(plain(tool)).await;
        let (_, status) = setup.said(plain(tool)).await;
        assert_eq!((setup.lab.calls(tool), status), (2, None), "{tool}");
    }
    setup.said(plain("deployments")).await;
    assert!(is_hit(setup.said(plain("deployments")).await.1));
}

#[tokio::test]
async fn a_tool_that_turns_unsafe_is_not_answered_from_memory() {
    let setup = Setup::new(quiet().trust_annotations(true));
    setup.lab.moody_is_safe(true);
    setup.ask(McpRequest::list_tools()).await.unwrap();
    setup.said(plain("moody")).await;
    assert!(is_hit(setup.said(plain("moody")).await.1));
    setup.lab.moody_is_safe(false);
    setup.ask(McpRequest::list_tools()).await.unwrap();
    setup.said(plain("moody")).await;
    assert_eq!(setup.lab.calls("moody"), 2);
}

#[tokio::test]
async fn errors_and_unfinished_answers_are_not_kept() {
    let setup = Setup::listed(quiet().cache_tool("*")).await;
    setup.lab.fail(true);
    for tool in ["wrong", "input", "flaky"] {
        let _ = setup.ask(plain(tool)).await;
        let _ = setup.ask(plain(tool)).await;
        assert_eq!(setup.lab.calls(tool), 2, "{tool}");
    }
    assert_eq!(setup.cache.stats().entries, 0);
}

#[tokio::test]
async fn a_later_round_of_a_call_is_not_kept() {
    let setup = Setup::listed(quiet()).await;
    for _ in 0..2 {
        let mut request = plain("read");
        request.as_tool_call_mut().unwrap().request_state = Some("state".to_owned());
        setup.said(request).await;
    }
    assert_eq!(setup.lab.calls("read"), 2);
}

#[tokio::test]
async fn the_same_arguments_in_another_form_are_the_same() {
    let setup = Setup::listed(quiet()).await;
    let ask = |json: &str| call("read", serde_json::from_str(json).unwrap());
    setup.said(ask(r#"{"a":1,"b":{"x":1.5,"y":[1]}}"#)).await;
    for same in [
        r#"{"b":{"y":[1.0],"x":15e-1},"a":1e0}"#,
        r#"{"a":1.0,"b":{"x":1.50,"y":[1]}}"#,
    ] {
        assert!(is_hit(setup.said(ask(same)).await.1), "{same}");
    }
    for other in [
        r#"{"a":"1","b":{"x":1.5,"y":[1]}}"#,
        r#"{"a":1,"b":{"x":1.5,"y":[1,1]}}"#,
        r#"{"a":9007199254740992}"#,
        r#"{"a":9007199254740993}"#,
    ] {
        assert_eq!(
            setup.said(ask(other)).await.1,
            Some(CacheStatus::Miss),
            "{other}"
        );
    }
}

#[tokio::test]
async fn meta_that_may_change_the_answer_is_part_of_the_request() {
    let setup = Setup::listed(quiet().ignore_meta("vendor/trace")).await;
    setup.said(plain("read")).await;
    for (key, value) in [
        ("progressToken", json!(7)),
        ("traceparent", json!("00-1-2-01")),
        ("tracestate", json!("a=b")),
        ("baggage", json!("a=b")),
        ("vendor/trace", json!("x")),
    ] {
        let (_, status) = setup.said(with_meta(key, value, plain("read"))).await;
        assert!(is_hit(status), "{key}");
    }
    let german = with_meta("vendor/locale", json!("de"), plain("read"));
    assert_eq!(setup.said(german).await.1, Some(CacheStatus::Miss));
    let vary = |request: &McpRequest, key: &mut Vec<u8>| {
        if let Some(tenant) = request.context.extensions.get::<&'static str>() {
            key.extend(tenant.as_bytes());
        }
    };
    let setup = Setup::listed(quiet().vary_by(vary)).await;
    for tenant in ["a", "b"] {
        let mut request = plain("read");
        request.context.extensions.insert(tenant);
        assert_eq!(setup.said(request).await.1, Some(CacheStatus::Miss));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_its_time_and_no_longer() {
    let tools = quiet()
        .cache_tool_for("pay", seconds(10))
        .cache_tool("read");
    let setup = Setup::new(tools);
    setup.said(plain("pay")).await;
    setup.said(plain("read")).await;
    advance(seconds(9)).await;
    let (_, hit) = setup.said(plain("pay")).await;
    let (age, ttl) = (seconds(9), seconds(1));
    assert_eq!(hit, Some(CacheStatus::Hit { age, ttl }));
    advance(seconds(1)).await;
    assert_eq!(setup.said(plain("pay")).await.0, "pay {} #2");
    advance(seconds(289)).await;
    assert!(is_hit(setup.said(plain("read")).await.1));
    advance(seconds(1)).await;
    assert_eq!(setup.said(plain("read")).await.0, "read {} #2");
    assert!(setup.cache.stats().evictions >= 2);
}

#[tokio::test(start_paused = true)]
async fn the_servers_ttl_caps_the_operators() {
    let setup = Setup::new(quiet().cache_method("resources/read", seconds(60)));
    let read = |uri: &str| McpRequest::read_resource(uri);
    for uri in ["x://ttl-5000", "x://ttl-900000", "x://ttl-0", "x://other"] {
        setup.said(read(uri)).await;
    }
    advance(seconds(4)).await;
    let ttl_left = |response: &rmcp_layers::McpResponse| match &*response.result {
        ServerResult::ReadResourceResult(read) => read.ttl_ms,
        _ => None,
    };
    let short = setup.ask(read("x://ttl-5000")).await.unwrap();
    assert_eq!(ttl_left(&short), Some(1_000));
    let long = setup.ask(read("x://ttl-900000")).await.unwrap();
    assert_eq!(ttl_left(&long), Some(896_000));
    advance(seconds(1)).await;
    assert_eq!(setup.said(read("x://ttl-5000")).await.0, "#2");
    advance(seconds(54)).await;
    assert_eq!(setup.said(read("x://ttl-900000")).await.0, "#1");
    advance(seconds(1)).await;
    assert_eq!(setup.said(read("x://ttl-900000")).await.0, "#2");
    // `ttlMs: 0` is an answer that is stale as it comes.
    assert_eq!(setup.said(read("x://ttl-0")).await.0, "#2");
}

#[tokio::test]
async fn what_says_nothing_is_kept_by_the_operators_word_alone() {
    let silent = Setup::new(quiet());
    let prompt = || McpRequest::get_prompt("hello", JsonObject::new());
    silent.said(prompt()).await;
    assert_eq!(silent.said(prompt()).await.0, "#2");
    let told = Setup::new(quiet().cache_method("prompts/get", seconds(5)));
    told.said(prompt()).await;
    assert_eq!(told.said(prompt()).await.0, "#1");
}

#[tokio::test]
async fn pages_of_a_list_are_kept_each_by_itself() {
    let setup = Setup::new(quiet());
    for cursor in ["ttl-1000/a", "ttl-1000/b", "ttl-1000/a", "ttl-1000/b"] {
        setup.ask(page(cursor)).await.unwrap();
    }
    assert_eq!(setup.lab.calls("tools/list"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_request_may_say_how_it_is_answered() {
    let setup = Setup::listed(quiet()).await;
    let says = |directives| with_meta(CACHE_META_KEY, directives, plain("read"));
    setup.said(says(json!({ "no-store": true }))).await;
    assert_eq!(setup.cache.stats().entries, 0);
    setup.said(plain("read")).await;
    assert_eq!(setup.lab.calls("read"), 2);
    setup.said(says(json!({ "no-store": true }))).await;
    assert_eq!(setup.lab.calls("read"), 3);
    assert_eq!(
        setup.said(says(json!({ "no-cache": true }))).await.0,
        "read {} #4"
    );
    // What was fetched anew is kept.
    assert_eq!(setup.said(plain("read")).await.0, "read {} #4");
    advance(seconds(10)).await;
    assert!(is_hit(setup.said(says(json!({ "max-age": 10 }))).await.1));
    let (said, _) = setup.said(says(json!({ "max-age": 9.5 }))).await;
    assert_eq!(said, "read {} #5");
    // What cannot be read is taken for the most cautious.
    for unreadable in [
        json!("no"),
        json!({ "max-age": -1 }),
        json!({ "no-cache": 1 }),
    ] {
        let (_, status) = setup.said(says(unreadable)).await;
        assert_eq!(status, None);
    }
}

#[tokio::test]
async fn a_hit_can_tell_its_caller() {
    let setup = Setup::listed(quiet().report_in_meta(true)).await;
    setup.said(plain("read")).await;
    let hit = setup.ask(plain("read")).await.unwrap();
    let meta = hit.as_tool_result().unwrap().meta.clone().unwrap();
    assert_eq!(meta[CACHE_META_KEY]["status"], "hit");
    assert!(meta[CACHE_META_KEY]["ttlMs"].as_u64().unwrap() > 299_000);
}

#[tokio::test]
async fn the_least_recently_used_go_first_and_the_bounds_hold() {
    let setup = Setup::listed(quiet().max_entries(3)).await;
    for number in [1, 2, 3, 1, 4] {
        setup.said(call("read", json!({ "n": number }))).await;
    }
    assert_eq!(setup.cache.stats().entries, 3);
    assert_eq!(setup.cache.stats().evictions, 1);
    assert!(is_hit(setup.said(call("read", json!({ "n": 1 }))).await.1));
    assert!(!is_hit(setup.said(call("read", json!({ "n": 2 }))).await.1));
}

#[tokio::test]
async fn bytes_are_bounded_and_large_answers_are_not_kept() {
    let limit = 64 * 1024;
    let setup = Setup::listed(quiet().max_bytes(limit).max_item_bytes(16 * 1024)).await;
    let big = |bytes: usize, n: usize| call("big", json!({ "bytes": bytes, "n": n }));
    for n in 0..20 {
        setup.ask(big(8_000, n)).await.unwrap();
        assert!(setup.cache.stats().bytes <= limit);
    }
    assert!(setup.cache.stats().entries >= 6);
    let entries = setup.cache.stats().entries;
    setup.ask(big(17_000, 0)).await.unwrap();
    assert_eq!(setup.cache.stats().entries, entries);
    setup.cache.clear();
    let stats = setup.cache.stats();
    assert_eq!((stats.entries, stats.bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_is_given_while_a_new_one_is_fetched() {
    let tools = quiet().cache_tool_for("read", seconds(10));
    let setup = Setup::new(tools.stale_while_revalidate(seconds(30)));
    setup.said(plain("read")).await;
    advance(seconds(15)).await;
    let (said, status) = setup.said(plain("read")).await;
    let age = seconds(15);
    assert_eq!(
        (&*said, status),
        ("read {} #1", Some(CacheStatus::Stale { age }))
    );
    while setup.cache.stats().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(setup.lab.calls("read"), 2);
    let (said, status) = setup.said(plain("read")).await;
    assert!(said == "read {} #2" && is_hit(status));
    advance(seconds(40)).await;
    assert_eq!(setup.said(plain("read")).await.1, Some(CacheStatus::Miss));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ends_with_the_stack() {
    let tools = quiet().cache_tool_for("gated", seconds(10));
    let setup = Setup::new(tools.stale_while_revalidate(seconds(30)));
    setup.lab.open();
    setup.said(plain("gated")).await;
    setup.lab.shut();
    advance(seconds(15)).await;
    setup.said(plain("gated")).await;
    setup.lab.running(1).await;
    let Setup {
        lab,
        stack,
        cache,
        upstream,
    } = setup;
    drop(stack);
    lab.running(0).await;
    assert_eq!(cache.stats().in_flight, 0);
    drop(upstream);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_bridges_a_failure() {
    let tools = quiet().cache_tool_for("flaky", seconds(10));
    let setup = Setup::new(tools.stale_if_error(seconds(60)));
    setup.said(plain("flaky")).await;
    advance(seconds(20)).await;
    setup.lab.fail(true);
    let (said, status) = setup.said(plain("flaky")).await;
    assert_eq!(said, "flaky {} #1");
    assert_eq!(status, Some(CacheStatus::Stale { age: seconds(20) }));
    assert_eq!(setup.lab.calls("flaky"), 2);
    advance(seconds(60)).await;
    assert!(setup.ask(plain("flaky")).await.unwrap_err().is_protocol());
}

#[test]
fn impossible_settings_are_refused_with_the_remedy() {
    let refused = |builder: rmcp_layers::cache::CacheLayerBuilder| {
        builder
            .build()
            .expect_err("an impossible cache")
            .to_string()
    };
    let builder = CacheLayer::builder;
    assert!(refused(builder().max_entries(0)).contains("max_entries"));
    assert!(refused(builder().max_bytes(10)).contains("max_item_bytes"));
    assert!(refused(builder().cache_tool("deploy")).contains("clear_never_cache"));
    assert!(refused(builder().cache_tool("ci__deploy")).contains("clear_never_cache"));
    let never = builder().never_cache("order_*").cache_tool("order_new");
    assert!(refused(never).contains("`order_new`"));
    let store = rmcp_layers::store::MemoryStore::new();
    let hasty = builder().store(store).store_timeout(Duration::ZERO);
    assert!(refused(hasty).contains("store_timeout"));
    assert!(refused(builder().cache_method("tools/call", seconds(1))).contains("cache_tool"));
    assert!(refused(builder().cache_tool_for("a", Duration::ZERO)).contains("`a`"));
    assert!(refused(builder().time_to_live(Duration::ZERO)).contains("time_to_live"));
    assert!(
        builder()
            .clear_never_cache()
            .cache_tool("deploy")
            .build()
            .is_ok()
    );
}
