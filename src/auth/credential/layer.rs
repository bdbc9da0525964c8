use tower::Layer;

use super::{Credential, Credentials};

/// Sends a separate credential to an upstream over HTTP. Place it directly around the
/// [`Upstream`](crate::Upstream).
///
/// The credential is sent with the HTTP request of that one call, in place of
/// [`HttpEndpoint::bearer`](https://docs.rs/rmcp-layers/latest/rmcp_layers/struct.HttpEndpoint.html#method.bearer),
/// and never with another call's request. Upstreams that are not over HTTP do not get it.
///
/// # Limits
///
/// Requests that do not belong to a call (the handshake, a session's stream and its end) carry the
/// endpoint's own credential. If the credential is the same for all callers,
/// [`Credentials::bearer_source`] sends it with every request, and this layer is not needed.
/// Credentials of a principal or a token cannot be used there, because all callers share the
/// connection:
///
/// - An upstream that requires a credential for its handshake needs a bearer of this server's own.
/// - A server of a revision before 2026-07-28 that binds sessions to the principal that opened them
///   accepts calls of that principal only.
///
/// In both cases, use one upstream for each caller, such as a gateway's member for each caller.
///
/// ```
/// use rmcp_layers::auth::{CredentialLayer, Credentials};
/// use tower::ServiceBuilder;
/// # use rmcp_layers::Upstream;
/// # struct Nothing;
/// # impl rmcp::ServerHandler for Nothing {}
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// # let upstream = Upstream::in_process(Nothing);
/// let stack = ServiceBuilder::new()
///     .layer(CredentialLayer::new(Credentials::fixed("token-of-this-server")?))
///     .service(upstream);
/// # let _ = stack;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct CredentialLayer {
    credentials: Credentials,
}

impl CredentialLayer {
    /// Creates a layer that sends these credentials.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials }
    }
}

impl<S> Layer<S> for CredentialLayer {
    type Service = Credential<S>;

    fn layer(&self, inner: S) -> Credential<S> {
        Credential::new(self.credentials.clone(), inner)
    }
}
