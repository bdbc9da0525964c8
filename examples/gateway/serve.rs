//! Serving the stack until the process is told to stop.

use std::{future::Future, sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use rmcp::{
    ServiceExt,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    },
};
use rmcp_layers::McpServer;
use tokio::net::TcpListener;

use crate::{Result, Stack, in_flight::InFlight};

/// How long calls in flight may go on once the gateway is told to stop. Then they are cancelled.
const DRAIN: Duration = Duration::from_secs(5);
/// How long connections may take to close after that.
const CLOSE: Duration = Duration::from_secs(2);

/// Serves streamable HTTP at `listen`. With `demo`, drives that against the gateway and then stops.
pub async fn http<F, Fut>(
    listen: &str,
    stack: Stack,
    in_flight: &InFlight,
    demo: Option<F>,
) -> Result<()>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let told = told_to_stop()?;
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    println!("listening on {url}");

    let server = McpServer::new(stack);
    let config = StreamableHttpServerConfig::default();
    let streams = config.cancellation_token.clone();
    let service = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    // Without this a small event waits up to 40 ms for the acknowledgment of the one before it.
    let listener = listener.tap_io(|tcp| {
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let stop = tokio_util::sync::CancellationToken::new();
    let router = axum::Router::new().route_service("/mcp", service);
    let served =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let served = tokio::spawn(served.into_future());

    let outcome = match demo {
        Some(drive) => drive(url).await,
        None => {
            println!("connect a client:   claude mcp add --transport http gateway {url}");
            println!(
                "or, by hand:        npx @modelcontextprotocol/inspector --cli {url} --method tools/list"
            );
            println!("stop with Ctrl-C");
            told.await;
            Ok(())
        }
    };
    stop.cancel();
    drain(in_flight).await;
    streams.cancel();
    match tokio::time::timeout(CLOSE, served).await {
        Ok(served) => served??,
        Err(_) => tracing::warn!("connections were still open, and are dropped"),
    }
    outcome
}

/// Serves one session over standard input and output.
pub async fn stdio(stack: Stack, in_flight: &InFlight) -> Result<()> {
    let told = told_to_stop()?;
    let serving = McpServer::new(stack).serve(rmcp::transport::stdio());
    tokio::pin!(told);
    let running = tokio::select! {
        running = serving => running?,
        () = &mut told => return Ok(()),
    };
    let end = running.cancellation_token();
    let mut ended = tokio::spawn(running.waiting());
    tokio::select! {
        _ = &mut ended => return Ok(()),
        () = &mut told => {}
    }
    drain(in_flight).await;
    end.cancel();
    let _ = tokio::time::timeout(CLOSE, ended).await;
    Ok(())
}

async fn drain(in_flight: &InFlight) {
    if tokio::time::timeout(DRAIN, in_flight.idle()).await.is_err() {
        tracing::warn!("calls were still in flight, and are cancelled");
    }
}

/// Resolves on SIGINT and SIGTERM.
#[cfg(unix)]
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves on Ctrl-C.
#[cfg(not(unix))]
fn told_to_stop() -> Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
