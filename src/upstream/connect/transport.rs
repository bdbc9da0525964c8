//! Any rmcp transport.

use std::{marker::PhantomData, sync::Arc};

use futures::future::BoxFuture;
use rmcp::{RoleClient, transport::IntoTransport};

use super::attributing_transport::AttributingTransport;
use crate::{
    Error,
    upstream::{
        connection::{Connection, Handshake, Kind, TransportProfile},
        errors,
        reconnect::Dial,
    },
};

/// A dialer that makes a transport for each connection.
pub(in crate::upstream) struct TransportDial<F, A> {
    make: Arc<F>,
    handshake: Handshake,
    _adapter: PhantomData<fn() -> A>,
}

impl<F, A> TransportDial<F, A> {
    pub(in crate::upstream) fn new(make: Arc<F>, handshake: Handshake) -> Self {
        Self {
            make,
            handshake,
            _adapter: PhantomData,
        }
    }
}

impl<T, E, A, F, Fut> Dial for TransportDial<F, A>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: IntoTransport<RoleClient, E, A>,
    E: std::error::Error + Send + Sync + 'static,
    A: 'static,
{
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let made = (self.make)();
        let handshake = self.handshake.clone();
        Box::pin(async move {
            let transport = made
                .await
                .map_err(|error| errors::of_spawn(&handshake.upstream, "cannot connect", error))?;
            let inner = transport.into_transport();
            let transport = |routes| AttributingTransport { inner, routes };
            let profile = TransportProfile::of(Kind::Other);
            Connection::establish_with(transport, handshake, profile).await
        })
    }
}
