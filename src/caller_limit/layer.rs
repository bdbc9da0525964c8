use std::sync::Arc;

use tower::Layer;

use super::service::{CallerLimit, Callers};

/// Limits how many calls each caller has in flight, so that no caller takes up all the room of a stack.
///
/// A caller is a [principal](crate::Principal), whatever session it comes from; without a principal, a caller
/// is a session. A call above the limit is refused at once with [`code::UNAVAILABLE`](crate::code::UNAVAILABLE)
/// (-31503): nothing waits. Room is given back when the call's future ends or is dropped. Notifications are not
/// counted.
///
/// # Configuration
///
/// `max_in_flight` is how many calls each caller may have in flight. At least 1.
///
/// # Ordering
///
/// Put it inside the layer that authenticates, which says who the principal is, and inside
/// [`ExceptListens`](crate::ExceptListens), because a listen stays open as long as its subscription. A common
/// limit stands further out and is larger by several times. With tower's `load_shed` it refuses too what is
/// above it:
///
/// ```
/// use rmcp_layers::{CallerLimitLayer, ExceptListens, Handler, McpServer};
/// use tower::ServiceBuilder;
///
/// #[derive(Clone)]
/// struct Files;
/// impl rmcp::ServerHandler for Files {}
///
/// let common = ServiceBuilder::new().load_shed().concurrency_limit(1_024);
/// let stack = ServiceBuilder::new()
///     .layer(ExceptListens::new(common))
///     // The auth layer, if there is one.
///     .layer(ExceptListens::new(CallerLimitLayer::new(128)))
///     .service(Handler::new(Files));
/// let server = McpServer::new(stack);
/// ```
///
/// # Limits
///
/// The layer keeps an entry for each caller that has a call in flight, and none for any other. A request that
/// comes over HTTP without a session (MCP 2026-07-28) and without a principal is a caller of its own: only a
/// common limit bounds such requests.
#[derive(Clone, Debug)]
pub struct CallerLimitLayer {
    callers: Arc<Callers>,
}

impl CallerLimitLayer {
    /// Lets each caller have up to `max_in_flight` calls in flight; 0 counts as 1. All services that the layer
    /// makes count together.
    pub fn new(max_in_flight: usize) -> Self {
        Self {
            callers: Arc::new(Callers::new(max_in_flight.max(1))),
        }
    }
}

impl<S> Layer<S> for CallerLimitLayer {
    type Service = CallerLimit<S>;

    fn layer(&self, inner: S) -> CallerLimit<S> {
        CallerLimit::new(self.callers.clone(), inner)
    }
}
