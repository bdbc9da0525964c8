//! Connections over HTTP, with limits on their number and on the time that a request may take to
//! arrive. `axum::serve` has neither limit, so that clients that send half a request could keep all
//! others out.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    BoxError, Extension, Router,
    body::{Body, Bytes, HttpBody},
};
use futures::{StreamExt, stream};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::{Layer, ServiceExt};

/// The time limit for the head of a request on an open connection.
const HEAD: Duration = Duration::from_secs(15);
/// The time limit for the body of a request.
const BODY: Duration = Duration::from_secs(60);
/// The pause of accepting when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// The bounds of the default maximum number of connections.
const FEWEST: usize = 64;
const MOST: usize = 16_384;

/// Returns the default maximum number of open connections: half of the files that the process may
/// open, so that its servers have the rest.
pub fn default_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_whitespace().next())
        .and_then(|soft| soft.parse::<usize>().ok());
    (files.unwrap_or(1_024) / 2).clamp(FEWEST, MOST)
}

/// Serves until `stop`, and then until the open connections have ended. Connections beyond `max`
/// wait in the listener's queue.
pub async fn serve(listener: TcpListener, router: Router, max: usize, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(max));
    let open = TaskTracker::new();
    while let Some((tcp, slot)) = stop.run_until_cancelled(accept(&listener, &slots)).await {
        open.spawn(connection(tcp, router.clone(), slot, stop.clone()));
    }
    drop(listener);
    open.close();
    open.wait().await;
}

async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, Slot) {
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return (tcp, slot),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// A connection's share of the limit.
type Slot = Option<OwnedSemaphorePermit>;

fn connection(
    tcp: TcpStream,
    router: Router,
    slot: Slot,
    stop: CancellationToken,
) -> impl Future<Output = ()> {
    // Without it, a small event waits up to 40 ms for the acknowledgement of the previous one.
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    async move {
        let _slot = slot;
        let Ok(peer) = tcp.peer_addr() else {
            // It is closed already.
            return;
        };
        // The builder looks for HTTP/2 first unless told not to, and waits for that without a limit.
        let mut http = Builder::new(TokioExecutor::new()).http1_only();
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD);
        // Spans show the address of the client.
        let service = Extension(peer).layer(router).map_request(bound_body);
        let service = TowerToHyperService::new(service);
        let mut serving = std::pin::pin!(http.serve_connection(TokioIo::new(tcp), service));
        let served = tokio::select! {
            served = serving.as_mut() => served,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(error, "a connection failed");
        }
    }
}

/// Ends a request body with an error if it does not arrive in time.
fn bound_body<B>(request: Request<B>) -> Request<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let until = Instant::now() + BODY;
    request.map(|body| {
        let pieces = Body::new(body).into_data_stream();
        Body::from_stream(stream::unfold(Some(pieces), move |pieces| async move {
            let mut pieces = pieces?;
            match tokio::time::timeout_at(until, pieces.next()).await {
                Ok(Some(piece)) => Some((piece.map_err(io::Error::other), Some(pieces))),
                Ok(None) => None,
                Err(_) => Some((Err(io::ErrorKind::TimedOut.into()), None)),
            }
        }))
    })
}
