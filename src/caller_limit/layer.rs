use std::sync::Arc;

use tower::Layer;

use super::{
    CallerLimitHandle,
    service::{CallerLimit, Callers},
};

/// Limits the number of calls that each caller has in flight, so that one caller cannot use a
/// stack's whole capacity.
///
/// A caller is a [principal](crate::Principal), in any session. Without a principal, a caller is a
/// session. A call above the limit is refused at once with
/// [`code::UNAVAILABLE`](crate::code::UNAVAILABLE) (-31503); it is not queued. A call ends when its
/// future ends or is dropped. Notifications are not counted.
///
/// # Configuration
///
/// `max_in_flight` is the maximum number of calls in flight for each caller. Limit: at least 1.
///
/// # Ordering
///
/// Put it inside the authentication layer, which sets the principal. Put it inside
/// [`ExceptListensLayer`](crate::ExceptListensLayer), because a listen stays open as long as its
/// subscription. A common limit for all callers stands further out and is several times as large.
/// With tower's `load_shed`, it also refuses calls above the limit at once:
///
/// ```
/// use rmcp_layers::{CallerLimitLayer, ExceptListensLayer, Handler, McpServer};
/// use tower::ServiceBuilder;
///
/// #[derive(Clone)]
/// struct Files;
/// impl rmcp::ServerHandler for Files {}
///
/// let common = ServiceBuilder::new().load_shed().concurrency_limit(1_024);
/// let stack = ServiceBuilder::new()
///     .layer(ExceptListensLayer::new(common))
///     // The auth layer, if there is one.
///     .layer(ExceptListensLayer::new(CallerLimitLayer::new(128)))
///     .service(Handler::new(Files));
/// let server = McpServer::new(stack);
/// ```
///
/// # Limits
///
/// The layer has one entry for each caller with a call in flight. An HTTP request without a session
/// (MCP 2026-07-28) and without a principal counts as a separate caller. Only a common limit
/// applies to such requests.
#[derive(Clone, Debug)]
pub struct CallerLimitLayer {
    callers: Arc<Callers>,
}

impl CallerLimitLayer {
    /// Creates a layer with this limit for each caller. 0 counts as 1. All services of the layer
    /// share the counts.
    pub fn new(max_in_flight: usize) -> Self {
        Self {
            callers: Arc::new(Callers::new(max_in_flight.max(1))),
        }
    }

    /// Returns a handle that reads this layer while it serves.
    pub fn handle(&self) -> CallerLimitHandle {
        CallerLimitHandle {
            callers: self.callers.clone(),
        }
    }
}

impl<S> Layer<S> for CallerLimitLayer {
    type Service = CallerLimit<S>;

    fn layer(&self, inner: S) -> CallerLimit<S> {
        CallerLimit::new(self.callers.clone(), inner)
    }
}
