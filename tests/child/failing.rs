use rmcp::model::{ErrorData, ListToolsRequest, PaginatedRequestParams};
use rmcp_layers::{Error, McpRequest};
use tower::ServiceExt;

use super::*;
use crate::common::soon;

async fn refused(child: ChildProcess) -> Error {
    let upstream = upstream(child.quiet());
    soon("connecting", upstream.connect()).await.unwrap_err()
}

fn call() -> McpRequest {
    McpRequest::call_tool("any").build()
}

#[tokio::test]
async fn a_child_that_ends_at_once_is_an_error_with_its_status_and_last_words() {
    for (text, status) in [
        ("echo 'API_KEY is not set' >&2; exit 3", "exit status: 3"),
        (
            "read -r line; echo 'API_KEY is not set' >&2; exit 3",
            "exit status: 3",
        ),
        (
            "echo not-json; echo 'API_KEY is not set' >&2; exit 0",
            "exit status: 0",
        ),
        ("echo 'API_KEY is not set' >&2; kill -9 $$", "signal: 9"),
        (
            "exec >&-; echo 'API_KEY is not set' >&2; sleep 0.02; exit 3",
            "exit status: 3",
        ),
    ] {
        let error = refused(script(text)).await;
        assert!(error.is_not_delivered(), "{text}: {error}");
        let said = error.to_string();
        for part in [status, "API_KEY is not set", "script"] {
            assert!(said.contains(part), "{text}: {said}");
        }
        assert!(!said.to_lowercase().contains("broken pipe"), "{said}");
    }
}

/// The operating system says of both that there is no such file.
#[tokio::test]
async fn a_missing_directory_is_not_taken_for_a_missing_program() {
    let said = refused(script("").current_dir("/no/such/directory"))
        .await
        .to_string();
    assert!(said.contains("`/no/such/directory`"), "{said}");
    let said = refused(ChildProcess::new("/no/such/program").current_dir("/"))
        .await
        .to_string();
    assert!(!said.contains("directory,"), "{said}");
    assert!(said.contains("`/no/such/program`"), "{said}");
}

#[tokio::test]
async fn only_the_last_lines_of_a_child_are_told() {
    let error = refused(script(
        "seq 1 100000 >&2; printf 'no \\033[31mend' >&2; exit 1",
    ))
    .await;
    let said = error.to_string();
    for part in ["99999\n", "100000\n", "no [31mend"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("99980\n"), "{said}");

    let error = refused(script("head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1")).await;
    assert!(
        error.to_string().len() < 5_000,
        "{}",
        error.to_string().len()
    );
}

#[tokio::test]
async fn callers_hear_how_a_child_ended_and_not_what_it_wrote() {
    let upstream = upstream(script("echo 'password: hunter2' >&2; exit 3").quiet());
    for _ in 0..2 {
        let error = soon("a call", upstream.clone().oneshot(call())).await;
        let error = error.unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        let wire = serde_json::to_string(&ErrorData::from(error)).unwrap();
        assert!(wire.contains("exit status: 3"), "{wire}");
        assert!(!wire.contains("hunter2"), "{wire}");
    }
    let Err(Error::Transport(error)) = upstream.oneshot(call()).await else {
        panic!("the call was answered");
    };
    assert!(error.detail().unwrap().contains("hunter2"), "{error:?}");
}

#[tokio::test]
async fn a_call_whose_child_ends_says_how_it_ended() {
    for (end, status) in [("exit 4", "exit status: 4"), ("kill -9 $$", "signal: 9")] {
        let text = format!("read -r initialized; read -r call; echo 'out of memory' >&2; {end}");
        let upstream = upstream(server(&text).quiet());
        soon("connecting", upstream.connect()).await.unwrap();
        let Err(Error::Transport(error)) = soon("a call", upstream.oneshot(call())).await else {
            panic!("the call was answered");
        };
        assert!(error.to_string().contains(status), "{error}");
        assert!(!error.to_string().contains("out of memory"), "{error}");
        assert!(
            error.detail().unwrap().contains("out of memory"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_child_that_refuses_the_handshake_has_its_own_error() {
    let refusal = r#"{"jsonrpc":"2.0","id":0,"error":{"code":-32001,"message":"not today"}}"#;
    let error = refused(script(&format!("read -r line; echo '{refusal}'; exit 1"))).await;
    assert!(error.to_string().contains("not today"), "{error}");
}

/// Lists through a child that writes much to its standard error before each answer.
#[tokio::test]
async fn a_child_that_writes_much_to_its_standard_error_is_not_held_up() {
    let text = r#"
        read -r initialized
        read -r list
        id=${list##*\"id\":}
        id=${id%%[!0-9]*}
        head -c 1000000 /dev/zero | tr '\0' x >&2
        echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}'
        cat > /dev/null
    "#;
    let upstream = upstream(server(text).quiet());
    let list = ListToolsRequest::with_param(PaginatedRequestParams::default());
    let list = McpRequest::new(rmcp::model::ClientRequest::ListToolsRequest(list));
    let listed = soon("the list", upstream.clone().oneshot(list)).await;
    assert!(listed.is_ok(), "{listed:?}");
    upstream.close().await;
}
