//! Any rmcp transport.

use rmcp::{RoleClient, transport::IntoTransport};

use super::attributing_transport::AttributingTransport;
use crate::{
    Error,
    upstream::{
        connection::{Connection, Handshake, Kind, TransportProfile},
        errors,
    },
};

/// Connects over the transport that `made` resolves to.
pub(in crate::upstream) async fn connect_over<T, E, A>(
    made: impl Future<Output = Result<T, E>>,
    handshake: Handshake,
) -> Result<Connection, Error>
where
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
    A: 'static,
{
    let transport = made
        .await
        .map_err(|error| errors::of_spawn(&handshake.upstream, "cannot connect", error))?;
    let inner = transport.into_transport();
    let transport = |routes| AttributingTransport { inner, routes };
    let profile = TransportProfile::of(Kind::Other);
    Connection::establish_with(transport, handshake, profile).await
}
