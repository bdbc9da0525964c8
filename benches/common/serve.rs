//! A program's own way to serve: over HTTP until its standard input ends.

use std::{io::Read, sync::Arc};

use axum::{Router, serve::ListenerExt};
use rmcp::{
    ServerHandler,
    transport::{
        StreamableHttpServerConfig, StreamableHttpService,
        streamable_http_server::session::local::LocalSessionManager,
    },
};

/// Routes to a server's `/events`, with answers as event streams as rmcp sends them by default, and
/// to its `/json`, with answers in plain JSON where there is no session.
pub fn routes<H: ServerHandler>(
    events: impl Fn() -> Result<H, std::io::Error> + Send + Sync + 'static,
    json: impl Fn() -> Result<H, std::io::Error> + Send + Sync + 'static,
) -> Router {
    let sessions = Arc::new(LocalSessionManager::default());
    let config = StreamableHttpServerConfig::default();
    let events = StreamableHttpService::new(events, sessions.clone(), config.clone());
    let json = StreamableHttpService::new(json, sessions, config.with_json_response(true));
    Router::new()
        .route_service("/events", events)
        .route_service("/json", json)
}

/// Serves on loopback, says where, and ends when standard input does.
pub async fn serve(router: Router) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .expect("a port");
    let address = listener.local_addr().expect("its address");
    println!("http://{address}");
    // Without this an event waits for the acknowledgement of the one before it.
    let listener = listener.tap_io(|tcp| {
        let _ = tcp.set_nodelay(true);
    });
    tokio::select! {
        served = async { axum::serve(listener, router).await } => served.expect("the server runs"),
        () = input_ended() => {}
    }
}

/// Waits until standard input has ended: the program that started this one has.
pub async fn input_ended() {
    let read = tokio::task::spawn_blocking(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    });
    let _ = read.await;
}
