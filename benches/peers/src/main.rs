//! The example gateway beside proxies of other projects. See README.md.

#[allow(dead_code, reason = "shared with the crate's benches")]
#[path = "../../common/echo.rs"]
mod echo;
mod gateway;
#[allow(dead_code, unused_imports, reason = "shared with the crate's benches")]
#[path = "../../common/lean/mod.rs"]
mod lean;
mod measure;
mod plain;
#[allow(dead_code, reason = "shared with the crate's benches")]
#[path = "../../common/process.rs"]
mod process;
#[allow(dead_code, reason = "shared with the crate's benches")]
#[path = "../../common/rounds.rs"]
mod rounds;
#[allow(dead_code, reason = "shared with the crate's benches")]
#[path = "../../common/serve.rs"]
mod serve;

use tokio::runtime::Builder;
use tower_mcp::{HttpTransport, client::HttpClientTransport, proxy::McpProxy};

use crate::{
    echo::Echo,
    serve::{routes, serve},
};

fn main() {
    let runtime = || Builder::new_multi_thread().enable_all().build();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("serve") => {
            let server = serve(routes(|| Ok(Echo), || Ok(Echo)));
            runtime().expect("a runtime").block_on(server);
        }
        Some("plain") => {
            let proxy = plain::router(&arguments[1]);
            runtime().expect("a runtime").block_on(serve(proxy));
        }
        Some("tower-mcp") => {
            let proxy = tower_mcp(&arguments[1]);
            runtime().expect("a runtime").block_on(proxy);
        }
        Some(other) => panic!("unknown argument {other}: run it without any"),
        None => {
            // A lean caller has nothing to share among threads.
            let lean = Builder::new_current_thread().enable_all().build();
            lean.expect("a runtime").block_on(measure::measure());
        }
    }
}

async fn tower_mcp(server: &str) {
    let upstream = HttpClientTransport::new(server);
    let proxy = McpProxy::builder("tower-mcp", "0")
        .backend("peer", upstream)
        .await;
    let built = proxy.build_strict().await.expect("the server answers");
    serve(HttpTransport::from_service(built).into_router()).await;
}
