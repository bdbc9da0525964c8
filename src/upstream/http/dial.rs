//! The way to connect over streamable HTTP.

use std::sync::Arc;

use futures::future::BoxFuture;
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
        connection::{Connection, Handshake, Kind, TransportProfile},
        reconnect::Dial,
    },
};

/// A dialer that posts messages to a URL.
pub(super) struct HttpDial {
    pub(super) client: reqwest::Client,
    pub(super) bearer: Option<BearerSource>,
    pub(super) config: StreamableHttpClientTransportConfig,
    pub(super) handshake: Handshake,
}

impl Dial for HttpDial {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let client = self.client.clone();
        let bearer = self.bearer.clone();
        let mut config = self.config.clone();
        let handshake = self.handshake.clone();
        Box::pin(async move {
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
        })
    }
}
