//! A client that its owner has connected.

use std::{any::Any, sync::Arc};

use futures::future::BoxFuture;
use rmcp::{RoleClient, service::Peer};

use crate::{
    Error,
    upstream::{
        connection::{Connection, ConnectionOwner, Handshake},
        errors,
        reconnect::Dial,
    },
};

/// A dialer that uses an existing client.
pub(in crate::upstream) struct ForeignDial {
    pub(in crate::upstream) peer: Peer<RoleClient>,
    pub(in crate::upstream) keep: Option<Arc<dyn Any + Send + Sync>>,
    pub(in crate::upstream) handshake: Handshake,
}

impl Dial for ForeignDial {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let connection = if self.peer.is_transport_closed() {
            Err(errors::lost_for_good(&self.handshake.upstream))
        } else {
            let keep = ConnectionOwner::Foreign {
                _client: self.keep.clone(),
            };
            Connection::foreign(self.peer.clone(), &self.handshake, keep)
        };
        Box::pin(std::future::ready(connection))
    }

    fn is_final(&self) -> bool {
        true
    }
}
