//! The way to connect over streamable HTTP.

use std::sync::Arc;

use rmcp::transport::{
    StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{BearerSource, Client, Resume},
    direct::DirectClient,
    session_stream::UntilGone,
};
use crate::{
    Error,
    upstream::{
        connect::AttributingTransport,
        connection::{Connection, Handshake, Kind, TransportProfile},
        route::Routes,
    },
};

/// Connects to the URL in the configuration.
pub(super) async fn connect(
    client: reqwest::Client,
    bearer: Option<BearerSource>,
    mut config: StreamableHttpClientTransportConfig,
    handshake: Handshake,
) -> Result<Connection, Error> {
    let gone = CancellationToken::new();
    config.retry_config = Arc::new(Resume);
    let client = Client::new(client, bearer, gone.clone());
    let direct = DirectClient::new(client.clone(), &config, &handshake);
    let transport = |routes: Arc<Routes>| {
        routes.expect_responses();
        let client = client.with_routes(Arc::clone(&routes));
        let inner = StreamableHttpClientTransport::with_client(client, config);
        let transport = UntilGone {
            transport: inner,
            gone,
        };
        AttributingTransport {
            inner: transport,
            routes,
        }
    };
    let profile = TransportProfile {
        direct: Some(Box::new(direct)),
        ..TransportProfile::of(Kind::Http)
    };
    Connection::establish_with(transport, handshake, profile).await
}
