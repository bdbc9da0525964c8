//! The connections of an upstream, and the one that serves a caller.

use std::sync::{Arc, OnceLock};

use super::{connection::Connection, errors, reconnect::Reconnect};
use crate::{Error, caller::Era};

/// One connection, or one for each way to begin a connection.
pub(super) struct Connections {
    /// The connection for callers with a handshake. It serves all callers, unless the lifecycle
    /// matches callers.
    first: Arc<Reconnect>,
    /// The connection for callers without a handshake, if the lifecycle matches callers.
    second: Option<Arc<Reconnect>>,
    /// The connection that serves all callers, once it is known that the server speaks only one of
    /// the two ways.
    only: OnceLock<Only>,
}

#[derive(Clone, Copy, Debug)]
enum Only {
    First,
    Second,
}

impl Connections {
    pub(super) fn new(first: Arc<Reconnect>, second: Option<Arc<Reconnect>>) -> Self {
        Self {
            first,
            second,
            only: OnceLock::new(),
        }
    }

    pub(super) fn first(&self) -> &Reconnect {
        &self.first
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Reconnect>> {
        std::iter::once(&self.first).chain(&self.second)
    }

    /// Returns the connection for a caller of this era, if there is one now and the server's
    /// revisions are known.
    pub(super) fn ready(&self, era: Era) -> Option<Arc<Connection>> {
        let Some(second) = &self.second else {
            return self.first.ready();
        };
        match (self.only.get(), era) {
            (Some(Only::First), _) => self.first.ready(),
            (Some(Only::Second), _) => second.ready(),
            (None, Era::Legacy) => self.first.ready().filter(|first| first.era == era),
            (None, Era::Modern) => second.ready().filter(|second| second.era == era),
        }
    }

    /// Returns the connection for a caller of this era, and makes it if there is none.
    pub(super) async fn get(&self, era: Era) -> Result<Arc<Connection>, Error> {
        let Some(second) = &self.second else {
            return self.first.get().await;
        };
        match (self.only.get(), era) {
            (Some(Only::First), _) => self.first.get().await,
            (Some(Only::Second), _) => second.get().await,
            (None, Era::Legacy) => self.for_legacy(second).await,
            (None, Era::Modern) => self.for_modern(second).await,
        }
    }

    async fn for_legacy(&self, second: &Reconnect) -> Result<Arc<Connection>, Error> {
        match self.first.get().await {
            Ok(connection) => {
                if connection.era == Era::Modern {
                    let _ = self.only.set(Only::First);
                }
                Ok(connection)
            }
            // A server that does not know `initialize` may still know `server/discover`.
            Err(error) if errors::is_refused_handshake(&error) => {
                let connection = second.get().await.map_err(|_| error)?;
                let _ = self.only.set(Only::Second);
                Ok(connection)
            }
            Err(error) => Err(error),
        }
    }

    async fn for_modern(&self, second: &Reconnect) -> Result<Arc<Connection>, Error> {
        let connection = match second.get().await {
            // Another attempt has found meanwhile that one connection is enough.
            Err(_) if matches!(self.only.get(), Some(Only::First)) => {
                return self.first.get().await;
            }
            connection => connection?,
        };
        if connection.era == Era::Modern {
            return Ok(connection);
        }
        // The server knows only `initialize`, so one connection is enough.
        let Some(first) = self.first.ready() else {
            let _ = self.only.set(Only::Second);
            return Ok(connection);
        };
        if self.only.set(Only::First).is_ok() {
            second.retire();
        }
        Ok(first)
    }
}
