use std::time::Instant;

use super::*;
use crate::common::soon;

/// Ends neither when its input is closed nor by `SIGTERM`; a process below it neither.
const STUBBORN: &str = r#"
    trap '' TERM
    (while :; do sleep 0.05; done) < /dev/null > /dev/null 2>&1 &
    echo $$ $! > "$1.new"; mv "$1.new" "$1"
    cat > /dev/null
    while :; do sleep 0.05; done
"#;

async fn started(scratch: &Scratch, text: &str, names: &[&str]) -> (Vec<Upstream>, Vec<String>) {
    let mut upstreams = Vec::new();
    let mut pids = Vec::new();
    for name in names {
        let child = server(text).arg("sh").arg(scratch.join(name));
        let upstream = upstream(child);
        soon("connecting", upstream.connect()).await.unwrap();
        let noted = scratch.read(name).await;
        pids.extend(noted.split_whitespace().map(str::to_owned));
        upstreams.push(upstream);
    }
    (upstreams, pids)
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_will_not_end_are_all_gone_within_three_seconds() {
    let scratch = Scratch::new();
    let (upstreams, pids) = started(&scratch, STUBBORN, &["a", "b", "c", "d"]).await;
    assert!(pids.len() == 8 && pids.iter().all(|pid| runs(pid)));
    let closed = Instant::now();
    futures::future::join_all(upstreams.iter().map(Upstream::close)).await;
    let took = closed.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    for pid in &pids {
        gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_reads_nothing_is_gone_within_three_seconds() {
    let scratch = Scratch::new();
    let text = r#"
        trap '' TERM
        echo $$ > "$1.new"; mv "$1.new" "$1"
        sleep 0.2
        echo '{"jsonrpc":"2.0","id":"p","method":"ping"}'
        echo asked > "$1.asked"
        while :; do sleep 0.05; done
    "#;
    let (upstreams, pids) = started(&scratch, text, &["a"]).await;
    // More than a pipe holds, so that a message is half written.
    let long = "x".repeat(1024 * 1024);
    let call = rmcp_layers::McpRequest::call_tool("any").argument("long", long);
    let call = tower::ServiceExt::oneshot(upstreams[0].clone(), call.build());
    let call = tokio::spawn(call);
    while upstreams[0].in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    // The answer to its question waits for that message.
    scratch.read("a.asked").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let closed = Instant::now();
    upstreams[0].close().await;
    let took = closed.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    gone(&pids[0]).await;
    let error = soon("the call's end", call).await.unwrap().unwrap_err();
    assert!(error.is_transport(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_ends_when_its_input_is_closed_is_sent_no_signal() {
    let scratch = Scratch::new();
    let text = r#"
        trap 'echo told > "$1.told"; exit' TERM
        echo $$ > "$1.new"; mv "$1.new" "$1"
        cat > /dev/null
        sleep 0.3
        echo well > "$1.ended"
    "#;
    let (upstreams, _) = started(&scratch, text, &["a"]).await;
    upstreams[0].close().await;
    assert!(std::fs::exists(scratch.join("a.ended")).unwrap());
    assert!(!std::fs::exists(scratch.join("a.told")).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_has_time_to_end_after_sigterm() {
    let scratch = Scratch::new();
    let text = r#"
        trap 'sleep 0.3; echo well > "$1.ended"; exit' TERM
        echo $$ > "$1.new"; mv "$1.new" "$1"
        cat > /dev/null
        while :; do sleep 0.05; done
    "#;
    let (upstreams, _) = started(&scratch, text, &["a"]).await;
    upstreams[0].close().await;
    assert!(std::fs::exists(scratch.join("a.ended")).unwrap());
}

/// A child has no terminal to stop it, however it is started.
#[tokio::test]
async fn a_child_is_a_session_of_its_own() {
    let scratch = Scratch::new();
    let text = r#"
        sid=$(cut -d ' ' -f 6 /proc/$$/stat)
        if (: < /dev/tty) 2> /dev/null; then tty=tty; else tty=none; fi
        echo $$ $sid $tty > "$1.new"; mv "$1.new" "$1"
        cat > /dev/null
    "#;
    let (upstreams, noted) = started(&scratch, text, &["a"]).await;
    assert_eq!(noted[0], noted[1], "the session is named for its leader");
    assert_eq!(noted[2], "none");
    upstreams[0].close().await;
}
