//! Serving a handler until the process is told to stop, over streamable HTTP or stdio.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::serve::ListenerExt;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, Service, ServiceExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// What a `main` here may fail with.
pub type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Serves `/mcp` at `address`, a new `session()` for each session (or each request, where the
/// protocol has none), and prints where once it listens.
pub async fn http<S>(
    address: SocketAddr,
    session: impl Fn() -> S + Clone + Send + Sync + 'static,
) -> Result<()>
where
    S: rmcp::ServerHandler,
{
    let config = StreamableHttpServerConfig::default();
    // Open event streams end with this; axum would otherwise wait for them forever.
    let stop = config.cancellation_token.clone();
    let service = StreamableHttpService::new(
        move || Ok(session()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/mcp", listener.local_addr()?);
    // Without this a small event waits for the acknowledgement of the one before it.
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    let told = told_to_stop()?;
    axum::serve(listener, axum::Router::new().route_service("/mcp", service))
        .with_graceful_shutdown(async move {
            told.await;
            stop.cancel();
        })
        .await?;
    Ok(())
}

/// Serves one session over standard input and output.
pub async fn stdio<S: Service<RoleServer>>(session: S) -> Result<()> {
    let told = told_to_stop()?;
    let served = async {
        let running = session.serve(rmcp::transport::stdio()).await?;
        running.waiting().await?;
        Ok(())
    };
    tokio::select! {
        over = served => over,
        // Dropping what runs ends it.
        () = told => Ok(()),
    }
}

/// Runs a program's one future, and ends with it.
///
/// A read of standard input cannot be called off: a runtime that waited for its threads, as
/// `#[tokio::main]`'s does, would wait for one more line after being told to stop.
pub fn run(program: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(program);
    runtime.shutdown_background();
    outcome
}

/// Ends on SIGINT or SIGTERM.
fn told_to_stop() -> Result<impl Future<Output = ()> + Send + 'static> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
