//! Child processes: how they end, and how they are started again.

use super::*;

fn kill(pid: &str) {
    let killed = std::process::Command::new("sh")
        .args(["-c", &format!("kill -9 {pid}")])
        .status();
    assert!(killed.unwrap().success());
}

/// The process is gone, and waited for.
async fn gone(pid: &str) {
    if cfg!(target_os = "linux") {
        let stat = format!("/proc/{pid}/stat");
        soon("the end of the child", async {
            while std::fs::exists(&stat).unwrap() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn killing_a_child_fails_its_calls_at_once_and_the_next_call_succeeds() {
    for child in [modern_child(), legacy_child()] {
        let other = modern_child();
        let wait = |upstream: &Upstream| {
            let wait = McpRequest::call_tool("wait").build();
            tokio::spawn(upstream.clone().oneshot(wait))
        };
        let pid = call(&child, "pid").await;
        let calls = [wait(&child), wait(&child)];
        let others = wait(&other);
        soon("waiting", async {
            while seen(&child).await["waiting"] != 2 {}
        })
        .await;
        soon("waiting", async {
            while seen(&other).await["waiting"] != 1 {}
        })
        .await;

        let killed = std::time::Instant::now();
        kill(&pid);
        for call in calls {
            let error = soon("the call's end", call).await.unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Transport);
            assert!(!error.is_not_delivered(), "{error}");
            assert!(error.to_string().contains("child"), "{error}");
        }
        assert!(killed.elapsed() < Duration::from_secs(2), "not at once");
        assert_ne!(call(&child, "pid").await, pid);
        gone(&pid).await;
        assert_eq!(seen(&other).await["waiting"], 1);
        assert!(!others.is_finished());
        others.abort();
    }
}

#[tokio::test]
async fn a_child_that_exits_is_started_again_and_none_stays() {
    let child = modern_child();
    let mut pids = Vec::new();
    for _ in 0..2 {
        pids.push(call(&child, "pid").await);
        let exit = child.clone().oneshot(McpRequest::call_tool("exit").build());
        assert!(soon("the exit", exit).await.unwrap_err().is_transport());
    }
    for pid in pids {
        gone(&pid).await;
    }
}

#[tokio::test]
async fn closing_an_upstream_ends_its_child() {
    let child = modern_child();
    let pid = call(&child, "pid").await;
    let held = tokio::spawn(child.clone().oneshot(McpRequest::call_tool("wait").build()));
    soon("waiting", async {
        while seen(&child).await["waiting"] != 1 {}
    })
    .await;
    soon("the end", child.close()).await;
    if cfg!(target_os = "linux") {
        assert!(!std::fs::exists(format!("/proc/{pid}/stat")).unwrap());
    }
    assert!(
        soon("its end", held)
            .await
            .unwrap()
            .unwrap_err()
            .is_transport()
    );
    let call = child.oneshot(McpRequest::call_tool("add").build()).await;
    assert!(call.unwrap_err().is_not_delivered());

    // And so does letting go of it.
    let child = modern_child();
    let pid = self::call(&child, "pid").await;
    drop(child);
    gone(&pid).await;
}

#[tokio::test]
async fn a_command_that_is_no_server_says_why() {
    let absent = Upstream::child_process("no-such-program-anywhere");
    let error = absent.oneshot(McpRequest::list_tools()).await.unwrap_err();
    assert!(error.is_not_delivered());
    assert!(
        error.to_string().contains("no-such-program-anywhere"),
        "{error}"
    );

    let silent = Upstream::child_process("true");
    let error = soon("a failure", silent.oneshot(McpRequest::list_tools())).await;
    assert!(error.unwrap_err().is_not_delivered());
}

/// Whether there is such a process, and it has not ended.
#[cfg(target_os = "linux")]
fn runs(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

/// A process that has been killed has a moment to end.
#[cfg(target_os = "linux")]
async fn ended(pid: &str) {
    soon("the end of a process", async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[cfg(target_os = "linux")]
async fn written(file: &std::path::Path) -> String {
    soon("a file", async {
        loop {
            match std::fs::read_to_string(file) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

#[cfg(target_os = "linux")]
fn scratch(name: &str) -> std::path::PathBuf {
    let file = std::env::temp_dir().join(format!("rmcp-layers-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&file);
    file
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn closing_while_connecting_ends_the_child_and_what_it_started() {
    let file = scratch("connecting");
    let script = format!("sleep 100 & echo $$ $! > {}; wait", file.display());
    let silent = Upstream::child_process(ChildProcess::new("sh").args(["-c", &script]));
    let connecting = silent.clone();
    let connecting = tokio::spawn(async move { connecting.connect().await });
    let pids = written(&file).await;
    let closed = std::time::Instant::now();
    let both = futures::future::join(silent.close(), silent.close());
    soon("the end", both).await;
    for pid in pids.split_whitespace() {
        ended(pid).await;
    }
    let error = soon("the end", connecting).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    let error = silent.connect().await.unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(closed.elapsed() < Duration::from_secs(2), "not at once");
}

#[cfg(target_os = "linux")]
#[test]
fn a_runtime_that_ends_while_connecting_leaves_no_child() {
    let file = scratch("runtime");
    let script = format!("sleep 100 & echo $$ $! > {}; wait", file.display());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let silent = Upstream::child_process(ChildProcess::new("sh").args(["-c", &script]));
    let pids = runtime.block_on(async {
        tokio::spawn(async move { silent.connect().await });
        written(&file).await
    });
    drop(runtime);
    for pid in pids.split_whitespace() {
        for _ in 0..200 {
            if runs(pid) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(!runs(pid), "{pid}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_that_died_is_noticed_though_its_output_is_held_open() {
    let file = scratch("held");
    let initialized = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "dying", "version": "1" }
    });
    let script = format!(
        r#"sleep 100 & echo $$ $! > {}
        read line; id=${{line##*'"id":'}}; id=${{id%%[,\}}]*}}
        echo '{{"jsonrpc":"2.0","id":'$id',"result":{initialized}}}'
        read line; read line; exit 1"#,
        file.display()
    );
    let dying = Upstream::builder()
        .lifecycle(Lifecycle::Initialize)
        .reconnect_in_background(false)
        .child_process(ChildProcess::new("bash").args(["-c", &script]));
    let call = dying
        .clone()
        .oneshot(McpRequest::call_tool("anything").build());
    let began = std::time::Instant::now();
    let error = soon("the call's end", call).await.unwrap_err();
    assert!(error.is_transport() && !error.is_not_delivered(), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "not at once");
    for pid in written(&file).await.split_whitespace() {
        ended(pid).await;
    }
}
