use std::{
    fmt,
    task::{Context, Poll},
};

use futures::future::BoxFuture;
use tower::{Layer, Service};

use super::{members::member::Member, names::style::Style, service::Gateway};
use crate::{ConfigError, Error, McpRequest, McpResponse, Stack};

/// Puts a name in front of the items that one stack exposes: `query` becomes `db__query`,
/// `file:///a` becomes `db+file:///a`, and `ui://chart/view.html` becomes
/// `ui://db/chart/view.html`.
///
/// It is a [`Gateway`] with this stack as its only member, so the documentation of [`Gateway`]
/// applies.
///
/// ```
/// use rmcp_layers::{Upstream, gateway::NamespaceLayer};
/// use tower::ServiceBuilder;
/// # struct Database;
/// # impl rmcp::ServerHandler for Database {}
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let stack = ServiceBuilder::new()
///     .layer(NamespaceLayer::new("db")?)
///     .service(Upstream::in_process(Database));
/// # let _ = stack;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct NamespaceLayer {
    name: String,
}

impl NamespaceLayer {
    /// Creates a layer that puts `name` in front.
    ///
    /// # Errors
    ///
    /// Fails if `name` cannot be a member's name; see [`Member::new`].
    pub fn new(name: impl Into<String>) -> Result<Self, ConfigError> {
        let name = name.into();
        let style = Style::default();
        let checked = style.check_member(&name);
        checked.map_err(|reason| ConfigError::new("namespace", "name", reason))?;
        Ok(Self { name })
    }
}

impl<S: Stack> Layer<S> for NamespaceLayer {
    type Service = Namespace;

    fn layer(&self, stack: S) -> Namespace {
        let gateway = Gateway::empty();
        // The name has been checked, and there is no other member.
        let _ = gateway
            .shared
            .insert_member(Member::new(self.name.clone(), stack), false);
        Namespace { gateway }
    }
}

/// A stack under a name; see [`NamespaceLayer`].
#[derive(Clone)]
pub struct Namespace {
    gateway: Gateway,
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.gateway).finish()
    }
}

impl Service<McpRequest> for Namespace {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.gateway.poll_ready(cx)
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        self.gateway.call(request)
    }
}
