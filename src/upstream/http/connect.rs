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
    upstream::connection::{Connection, Handshake, Kind, TransportProfile},
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
    let transport = |routes| {
        let client = client.with_routes(routes);
        let transport = StreamableHttpClientTransport::with_client(client, config);
        UntilGone { transport, gone }
    };
    let profile = TransportProfile {
        direct: Some(Box::new(direct)),
        ..TransportProfile::of(Kind::Http)
    };
    Connection::establish_with(transport, handshake, profile).await
}
