//! A gateway over HTTP.

use std::sync::Arc;

use axum::Router;
use rmcp::transport::{
    StreamableHttpServerConfig, streamable_http_server::session::local::LocalSessionManager,
};
use rmcp_layers::{LenientHttpLayer, McpServer, Stack};

/// Routes to a gateway's `/events` and `/json`, as `serve::routes` to a server.
pub fn gateway_routes<S: Stack>(events: McpServer<S>, json: McpServer<S>) -> Router {
    let sessions = Arc::new(LocalSessionManager::default());
    let config = StreamableHttpServerConfig::default();
    let events = events.http_service(sessions.clone(), config.clone());
    let json = json.http_service(sessions, config.with_json_response(true));
    Router::new()
        .route_service("/events", events)
        .route_service("/json", json)
        .layer(LenientHttpLayer::new())
}
