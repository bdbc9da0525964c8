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
use rmcp_layers::{LenientHttpLayer, Lines, McpServer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Result, Stack, auth::Auth, in_flight::InFlight};

/// How long calls in flight may go on once the gateway is told to stop. Then they are cancelled.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the answers of calls that have ended may take to be sent.
const ANSWERS: Duration = Duration::from_millis(200);
/// How long connections may take to close after that.
const CLOSE: Duration = Duration::from_secs(2);

/// How often the process was told to stop, by SIGINT, SIGTERM or Ctrl-C.
#[derive(Clone, Default)]
pub struct Told {
    /// Ends in good order.
    pub once: CancellationToken,
    /// Ends at once.
    pub twice: CancellationToken,
}

/// Who is let in over HTTP.
pub struct Doors<'a> {
    /// What requests may name as their `Host`; this machine, if there is none.
    pub hosts: &'a [String],
    pub auth: Option<&'a Auth>,
}

/// Serves streamable HTTP at `listen`. With `demo`, drives that against the gateway and then stops.
pub async fn http<F, Fut>(
    listen: &str,
    doors: Doors<'_>,
    stack: Stack,
    in_flight: &InFlight,
    told: &Told,
    demo: Option<F>,
) -> Result<()>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let listener = TcpListener::bind(listen)
        .await
        .map_err(|error| format!("cannot listen at {listen}: {error}"))?;
    let address = listener.local_addr()?;
    let url = format!("http://{address}/mcp");
    let guard = doors.auth.map(|auth| auth.guard(&url)).transpose()?;
    let hosts = doors.hosts;
    println!("listening on {url}");
    if hosts.is_empty() && !address.ip().is_loopback() {
        eprintln!(
            "gateway: only requests with `Host: localhost` (or 127.0.0.1, ::1) are answered, others with 403: \
             name the hosts that clients use in gateway.toml, allowed_hosts = [\"gateway.example\"]"
        );
    }

    let server = McpServer::new(stack);
    let mut config = StreamableHttpServerConfig::default();
    if !hosts.is_empty() {
        config = config.with_allowed_hosts(hosts);
    }
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
    let stop = CancellationToken::new();
    let mut router = axum::Router::new().route_service("/mcp", service);
    if let Some(guard) = guard {
        router = router.layer(guard);
    }
    router = router.layer(LenientHttpLayer::new());
    let served =
        axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let mut served = tokio::spawn(served.into_future());

    let outcome = match demo {
        Some(drive) => told
            .once
            .run_until_cancelled(drive(url))
            .await
            .unwrap_or(Ok(())),
        None => {
            println!("connect a client:   claude mcp add --transport http gateway {url}");
            println!(
                "or, by hand:        npx @modelcontextprotocol/inspector --cli {url} --method tools/list"
            );
            println!("stop with Ctrl-C");
            told.once.cancelled().await;
            Ok(())
        }
    };
    stop.cancel();
    drain(in_flight).await;
    // A call is over before its answer has been sent. The streams of those who listen end only when told to.
    let closed = match tokio::time::timeout(ANSWERS, &mut served).await {
        Err(_) => {
            streams.cancel();
            tokio::time::timeout(CLOSE, served).await
        }
        closed => closed,
    };
    match closed {
        Ok(served) => served??,
        Err(_) => tracing::warn!("connections were still open, and are dropped"),
    }
    outcome
}

/// Serves one session over standard input and output.
pub async fn stdio(stack: Stack, in_flight: &InFlight, told: &Told) -> Result<()> {
    let lines = Lines::from(rmcp::transport::stdio());
    let serving = McpServer::new(stack).serve(lines);
    let Some(running) = told.once.run_until_cancelled(serving).await else {
        return Ok(());
    };
    let running = running?;
    let end = running.cancellation_token();
    let mut ended = tokio::spawn(running.waiting());
    tokio::select! {
        _ = &mut ended => return Ok(()),
        () = told.once.cancelled() => {}
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

/// Listens for signals from now on.
pub fn told_to_stop() -> Result<Told> {
    let told = Told::default();
    let mut signals = Signals::new()?;
    let teller = told.clone();
    tokio::spawn(async move {
        signals.next().await;
        teller.once.cancel();
        signals.next().await;
        teller.twice.cancel();
    });
    Ok(told)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
