//! Serves the stack until the process is stopped.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use rmcp::{ServiceExt, transport::streamable_http_server::session::local::LocalSessionManager};
use rmcp_layers::{LenientHttpLayer, Lines, McpServer, ServerHandle};
use tokio::{io::AsyncWriteExt, net::TcpListener};
use tokio_util::sync::CancellationToken;

use crate::{Result, Stack, auth::Auth, connections, transport};

/// The time that calls in flight may take after the first signal to stop. Then they are cancelled.
const DRAIN: Duration = Duration::from_secs(5);
/// The time for closing connections after that.
const CLOSE: Duration = Duration::from_secs(2);

/// The time that calls in flight over standard input and output may take after the host has closed
/// the input. Hosts wait about 4 s before they kill a server. The gateway's child processes need up
/// to 2.5 s of that.
const HOST_LEFT: Duration = Duration::from_millis(1_200);

/// The limit of standard input that is read ahead, in bytes.
const READ_AHEAD: usize = 64 * 1024;

/// Signals to stop: SIGINT, SIGTERM, SIGHUP, SIGQUIT or Ctrl-C.
#[derive(Clone, Default)]
pub struct Told {
    /// Cancelled by the first signal: the gateway shuts down gracefully. The end of a session over
    /// standard input and output counts as a signal.
    pub once: CancellationToken,
    /// Cancelled by the second signal: the gateway stops immediately.
    pub twice: CancellationToken,
}

/// Access settings of the HTTP server.
pub struct Doors<'a> {
    /// Permitted `Host` headers. If empty, only those of this machine are permitted.
    pub hosts: &'a [String],
    /// Permitted `Origin` headers. `None`: pages of this machine and of `hosts`.
    pub origins: Option<&'a [String]>,
    pub auth: Option<&'a Auth>,
    /// The maximum number of open connections.
    pub max_connections: usize,
}

/// Serves streamable HTTP at `listen`. With `demo`, runs the demo session against the gateway and
/// then stops.
pub async fn http<F, Fut>(
    listen: &str,
    doors: Doors<'_>,
    stack: Stack,
    told: &Told,
    demo: Option<F>,
) -> Result<()>
where
    F: FnOnce(String) -> Fut,
    Fut: Future<Output = Result<()>>,
{
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        format!(
            "cannot listen at {listen}: {error}: give a free ADDRESS:PORT by `listen` or --listen"
        )
    })?;
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
    let handle = server.handle();
    let config = transport::config(hosts, doors.origins)?;
    let config = config.with_cancellation_token(handle.cancellation_token());
    let service = server.http_service(Arc::new(LocalSessionManager::default()), config);
    let stop = CancellationToken::new();
    let mut router = axum::Router::new().route_service("/mcp", service);
    if let Some(guard) = guard {
        router = router.layer(guard);
    }
    router = router.layer(LenientHttpLayer::new());
    let served = connections::serve(listener, router, doors.max_connections, stop.clone());
    let served = tokio::spawn(served);

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
    drain(&handle).await;
    match tokio::time::timeout(CLOSE, served).await {
        Ok(served) => served?,
        Err(_) => tracing::warn!("connections were still open, and are dropped"),
    }
    outcome
}

/// Serves one session over standard input and output.
pub async fn stdio(stack: Stack, told: &Told) -> Result<()> {
    let host_left = CancellationToken::new();
    let (mut stdin, stdout) = rmcp::transport::stdio();
    let at_end = host_left.clone();
    // rmcp reads nothing while it waits for the answer of the handshake, and the end would go unseen.
    let (input, mut ahead) = tokio::io::simplex(READ_AHEAD);
    tokio::spawn(async move {
        if let Err(error) = tokio::io::copy(&mut stdin, &mut ahead).await {
            tracing::debug!(%error, "standard input failed");
        }
        at_end.cancel();
        let _ = ahead.shutdown().await;
    });
    let mut given_up = pin!(async {
        host_left.cancelled().await;
        tokio::time::sleep(HOST_LEFT).await;
    });
    let server = McpServer::new(stack);
    let handle = server.handle();
    let lines = Lines::new(input, stdout);
    let serving = server.serve_with_ct(lines, handle.cancellation_token());
    let running = tokio::select! {
        running = serving => running?,
        () = told.once.cancelled() => return Ok(()),
        // The handshake waits for the servers.
        () = &mut given_up => return Ok(()),
    };
    let mut ended = tokio::spawn(running.waiting());
    let left = tokio::select! {
        _ = &mut ended => return Ok(()),
        () = host_left.cancelled() => true,
        () = told.once.cancelled() => false,
    };
    if left {
        told.once.cancel();
        // Calls continue until their answers are written. A host that has left may not read them.
        tokio::select! {
            _ = &mut ended => {}
            () = &mut given_up => {
                tracing::warn!("the host left before all of its calls were answered");
            }
        }
    } else {
        drain(&handle).await;
        let _ = tokio::time::timeout(CLOSE, ended).await;
    }
    Ok(())
}

async fn drain(handle: &ServerHandle) {
    let cut_off = handle.drain(DRAIN).await;
    if cut_off > 0 {
        tracing::warn!(cut_off, "calls were still in flight, and are cancelled");
    }
}

/// Returns the stop signals, and listens for them from now on.
pub fn told_to_stop() -> Result<Told> {
    let told = Told::default();
    let mut signals = Signals::new()?;
    let teller = told.clone();
    tokio::spawn(async move {
        loop {
            signals.next().await;
            if teller.once.is_cancelled() {
                return teller.twice.cancel();
            }
            teller.once.cancel();
        }
    });
    Ok(told)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// `None` if the process was started with it ignored, as `nohup` does.
    hangup: Option<tokio::signal::unix::Signal>,
    quit: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: (!ignores_hangup())
                .then(|| signal(SignalKind::hangup()))
                .transpose()?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            Some(_) = received(&mut self.hangup) => {}
            _ = self.quit.recv() => {}
        }
    }
}

#[cfg(unix)]
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    signal.as_mut()?.recv().await
}

/// Returns `true` if SIGHUP, whose number is 1, is ignored. It is known on Linux only.
#[cfg(unix)]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
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
