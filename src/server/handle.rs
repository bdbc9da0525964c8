//! Statistics and the shutdown of a server.

use std::{fmt, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{Refusal, in_flight::InFlight};

/// The time for transports to send the last answers, after all calls have ended.
const SEND_WITHIN: Duration = Duration::from_millis(200);

/// Statistics and the shutdown of a server, in all of its connections; see
/// [`McpServer::handle`](crate::McpServer::handle).
///
/// ```
/// use std::time::Duration;
///
/// use rmcp::{ServerHandler, ServiceExt};
/// use rmcp_layers::{Handler, McpServer};
///
/// #[derive(Clone)]
/// struct Files;
/// impl ServerHandler for Files {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = McpServer::new(Handler::new(Files));
/// let handle = server.handle();
/// let (client_io, server_io) = tokio::io::duplex(4096);
/// let token = handle.cancellation_token();
/// let serving = tokio::spawn(server.serve_with_ct(server_io, token));
/// let client = ().serve(client_io).await?;
/// let running = serving.await??;
///
/// // On a signal to stop:
/// let cut_off = handle.drain(Duration::from_secs(5)).await;
/// assert_eq!(cut_off, 0);
/// running.waiting().await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerHandle {
    in_flight: InFlight,
    /// Cancelled when the transports end.
    closed: CancellationToken,
}

/// The requests that a server has in flight; see [`ServerHandle::stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// The number of calls in flight: requests other than listens.
    pub calls: usize,
    /// The number of open `subscriptions/listen` requests of callers.
    pub listens: usize,
}

impl ServerHandle {
    pub(super) fn new(in_flight: InFlight, closed: CancellationToken) -> Self {
        Self { in_flight, closed }
    }

    /// Returns the numbers of requests in flight.
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            calls: self.in_flight.calls(),
            listens: self.in_flight.listens(),
        }
    }

    /// Closes the server for good, once the calls in flight have ended.
    ///
    /// From now on new requests are refused with [`code::UNAVAILABLE`](crate::code::UNAVAILABLE)
    /// (-31503). The calls in flight go on until they end, at most until `limit`. A call that is
    /// cut off is answered with the same error, and its future is dropped. Listens end. After
    /// 200 ms, in which transports send the last answers, the
    /// [token](Self::cancellation_token) is cancelled.
    ///
    /// Returns the number of calls that the limit cut off. If the future is dropped, the server
    /// goes on to refuse new requests.
    pub async fn drain(&self, limit: Duration) -> usize {
        let cut_off = self.in_flight.drain(limit).await;
        tokio::time::sleep(SEND_WITHIN).await;
        self.closed.cancel();
        cut_off
    }

    /// Closes the server for good without waiting for the calls in flight: a
    /// [`drain`](Self::drain) with a limit of zero.
    pub async fn close(&self) {
        self.drain(Duration::ZERO).await;
    }

    /// Returns a token that is cancelled once the server is closed. It ends the transports, of
    /// which this crate knows nothing:
    ///
    /// - Over streamable HTTP, give it to rmcp's
    ///   `StreamableHttpServerConfig::with_cancellation_token`, which ends the streams of sessions.
    /// - Over stdio or a pipe, give it to rmcp's `ServiceExt::serve_with_ct`.
    ///
    /// To cancel the token has no effect on the server or other tokens.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.closed.child_token()
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Returns the refusal of a request to a server that closes.
pub(super) fn closing() -> Refusal {
    Refusal::new("server", "the server is shutting down; try again later")
}
