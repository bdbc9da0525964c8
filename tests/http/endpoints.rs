//! What an upstream's URL says, and how the server there is reached.

use rmcp_layers::{
    HttpEndpoint, McpRequest, Upstream,
    auth::{Introspection, Jwks, TokenExchange},
};
use tower::ServiceExt;

use crate::{
    common::{Http, demo::Demo, said, soon},
    server::{ERAS, Seen, Server, done, json_body, status},
};

fn names_the_features(error: &dyn std::fmt::Display) {
    let said = error.to_string();
    assert!(
        said.contains("`rustls`") && said.contains("`native-tls`"),
        "{said}"
    );
}

#[test]
fn https_without_tls_is_refused_when_it_is_built() {
    if cfg!(any(feature = "rustls", feature = "native-tls")) {
        return;
    }
    for url in [
        "https://mcp.example/mcp",
        "HTTPS://mcp.example",
        "https://127.0.0.1:1/",
    ] {
        names_the_features(&Upstream::http(url).unwrap_err());
        names_the_features(&Upstream::builder().name("far").http(url).unwrap_err());
        names_the_features(&Jwks::url(url).err().unwrap());
        names_the_features(&TokenExchange::new(url).err().unwrap());
        let introspection = Introspection::builder(url).client("me", "secret");
        names_the_features(&introspection.audience("x").build().err().unwrap());
    }
    // A client of the caller's own may have been built with TLS.
    let client = Upstream::http(HttpEndpoint::new("https://mcp.example").client(client()));
    assert!(client.is_ok());
}

fn client() -> reqwest::Client {
    reqwest::Client::new()
}

const AS_CHILD: &str = "REACH_LOOPBACK_AS_CHILD";

/// Not a test by itself: it runs with a proxy in its environment that is not there.
#[tokio::test]
async fn reach_loopback_as_child() {
    if std::env::var_os(AS_CHILD).is_none() {
        return;
    }
    for era in ERAS {
        let server = Server::serve(era, |seen: Seen| match seen.message.is_null() {
            true => status(405),
            false => json_body(200, &done(&seen.message, "here")),
        })
        .await;
        let call = McpRequest::call_tool("act").build();
        let answer = soon("an answer", server.upstream(era).oneshot(call)).await;
        assert_eq!(said(answer), "here");
    }
    let http = Http::serve(Demo::default()).await;
    let url = format!("http://localhost:{}/mcp", http.port());
    let upstream = Upstream::http(url).unwrap();
    soon("connecting", upstream.connect()).await.unwrap();
    let away = Upstream::http("http://mcp.example:1/").unwrap();
    let error = soon("a failure", away.connect()).await.unwrap_err();
    println!("away: {error}");
}

#[test]
fn a_server_on_this_machine_is_reached_without_the_proxy() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    for variable in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "endpoints::reach_loopback_as_child",
                "--nocapture",
            ])
            .env_remove("NO_PROXY")
            .env_remove("no_proxy")
            .env(variable, &proxy)
            .env(AS_CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{variable}: {said}{failed}");
        assert!(said.contains("1 passed"), "{variable}: {said}");
    }
}
