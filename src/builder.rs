use tower::{ServiceBuilder, layer::util::Stack};

use crate::{Error, ExceptListensLayer, FromFnLayer, McpRequest, McpResponse, Next, from_fn};

mod sealed {
    pub trait Sealed<L> {}

    impl<L> Sealed<L> for tower::ServiceBuilder<L> {}
}

/// Adds a method for each layer of this crate to tower's [`ServiceBuilder`].
///
/// Each method but [`wrap_fn`](Self::wrap_fn) and [`except_listens`](Self::except_listens) takes
/// the finished layer, so that its handle can be taken and its configuration checked before. As
/// with all methods of a `ServiceBuilder`, the first layer is the outermost. The [crate's
/// documentation](crate#order-of-layers) recommends an order.
///
/// # Example
///
/// ```
/// use rmcp_layers::{
///     McpClient, ServiceBuilderExt, Upstream,
///     cache::CacheLayer,
///     retry::{RetryLayer, breaker::CircuitBreakerLayer},
/// };
/// use tower::ServiceBuilder;
/// # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
/// # struct Weather;
/// # impl ServerHandler for Weather {
/// #     async fn call_tool(
/// #         &self,
/// #         _request: CallToolRequestParams,
/// #         _context: RequestContext<RoleServer>,
/// #     ) -> Result<CallToolResponse, ErrorData> {
/// #         Ok(CallToolResult::success(vec![ContentBlock::text("sunny")]).into())
/// #     }
/// # }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), rmcp_layers::Error> {
/// let cache = CacheLayer::builder().cache_tool("forecast").build()?;
/// let cached = cache.handle();
/// let stack = ServiceBuilder::new()
///     .cache(cache)
///     .retry_calls(RetryLayer::new())
///     .circuit_breaker(CircuitBreakerLayer::new())
///     .service(Upstream::in_process(Weather));
///
/// let client = McpClient::new(stack);
/// client.call_tool("forecast").argument("city", "Oslo").await?;
/// client.call_tool("forecast").argument("city", "Oslo").await?;
/// assert_eq!(cached.stats().hits, 1);
/// # Ok(())
/// # }
/// ```
pub trait ServiceBuilderExt<L>: sealed::Sealed<L> + Sized {
    /// Puts a layer, or a whole `ServiceBuilder`, around every request except
    /// `subscriptions/listen`.
    ///
    /// For layers that count requests or limit how long they take; see [`ExceptListensLayer`].
    ///
    /// ```
    /// use rmcp_layers::{Handler, McpServer, ServiceBuilderExt};
    /// use tower::ServiceBuilder;
    /// # #[derive(Clone)]
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// let stack = ServiceBuilder::new()
    ///     .except_listens(ServiceBuilder::new().load_shed().concurrency_limit(256))
    ///     .service(Handler::new(Files));
    /// let server = McpServer::new(stack);
    /// ```
    fn except_listens<E>(self, layer: E) -> ServiceBuilder<Stack<ExceptListensLayer<E>, L>>;

    /// Adds an async function that acts before and after a request; see [`from_fn()`].
    ///
    /// ```
    /// use rmcp_layers::{Handler, McpServer, ServiceBuilderExt};
    /// use tower::ServiceBuilder;
    /// # #[derive(Clone)]
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// let stack = ServiceBuilder::new()
    ///     .wrap_fn(|request, next| async move {
    ///         let method = request.method().to_owned();
    ///         let answer = next.run(request).await;
    ///         eprintln!("{method}: {}", if answer.is_ok() { "ok" } else { "failed" });
    ///         answer
    ///     })
    ///     .service(Handler::new(Files));
    /// let server = McpServer::new(stack);
    /// ```
    fn wrap_fn<F, Fut>(self, function: F) -> ServiceBuilder<Stack<FromFnLayer<F>, L>>
    where
        F: Fn(McpRequest, Next) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<McpResponse, Error>> + Send + 'static;

    /// Authenticates callers and checks what they may do; see [`auth`](crate::auth).
    ///
    /// Requires the feature `auth`.
    ///
    /// ```
    /// use rmcp_layers::{
    ///     Handler, McpServer, Principal, ServiceBuilderExt,
    ///     auth::{ApiKeys, AuthLayer, Rules},
    /// };
    /// use tower::ServiceBuilder;
    /// # #[derive(Clone)]
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let reader = Principal::new("reader").with_scopes(["files:read"]);
    /// let keys = ApiKeys::new().key("k-3f9a5c1e77d04b2a", reader)?;
    /// let rules = Rules::builder().tool("read_*", "files:read").build()?;
    /// let stack = ServiceBuilder::new()
    ///     .auth(AuthLayer::builder(keys).rules(rules).build()?)
    ///     .service(Handler::new(Files));
    /// let server = McpServer::new(stack);
    /// # let _ = server;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "auth")]
    fn auth(
        self,
        layer: crate::auth::AuthLayer,
    ) -> ServiceBuilder<Stack<crate::auth::AuthLayer, L>>;

    /// Writes a record of each call; see [`audit`](crate::audit).
    ///
    /// Requires the feature `audit`.
    ///
    /// ```
    /// use rmcp_layers::{ServiceBuilderExt, Upstream, audit::AuditLog};
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let audit = AuditLog::builder().memory(1_000).build()?;
    /// let stack = ServiceBuilder::new()
    ///     .audit(audit.layer())
    ///     .service(Upstream::in_process(Files));
    /// # let _ = stack;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "audit")]
    fn audit(
        self,
        layer: crate::audit::AuditLayer,
    ) -> ServiceBuilder<Stack<crate::audit::AuditLayer, L>>;

    /// Sends a credential with each call to an upstream over HTTP; see
    /// [`CredentialLayer`](crate::auth::CredentialLayer).
    ///
    /// Requires the feature `auth`.
    ///
    /// ```
    /// use rmcp_layers::{
    ///     ServiceBuilderExt, Upstream,
    ///     auth::{CredentialLayer, Credentials},
    /// };
    /// use tower::ServiceBuilder;
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let credentials = Credentials::fixed("token-for-this-server")?;
    /// let stack = ServiceBuilder::new()
    ///     .credential(CredentialLayer::new(credentials))
    ///     .service(Upstream::http("http://127.0.0.1:8000/mcp")?);
    /// # let _ = stack;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "auth")]
    fn credential(
        self,
        layer: crate::auth::CredentialLayer,
    ) -> ServiceBuilder<Stack<crate::auth::CredentialLayer, L>>;

    /// Charges a context window for results, and cuts them to their share; see
    /// [`budget`](crate::budget).
    ///
    /// Requires the feature `budget`.
    ///
    /// ```
    /// use rmcp_layers::{
    ///     ServiceBuilderExt, Upstream,
    ///     budget::{BudgetLayer, ContextBudget},
    /// };
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let layer = BudgetLayer::builder(ContextBudget::new(128_000)).build()?;
    /// let budget = layer.handle();
    /// let stack = ServiceBuilder::new()
    ///     .budget(layer)
    ///     .service(Upstream::in_process(Files));
    /// assert_eq!(budget.stats().charged_tokens, 0);
    /// # let _ = stack;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "budget")]
    fn budget(
        self,
        layer: crate::budget::BudgetLayer,
    ) -> ServiceBuilder<Stack<crate::budget::BudgetLayer, L>>;

    /// Adds tools that hand tasks and plans to other agents; see [`delegate`](crate::delegate).
    ///
    /// Requires the feature `delegate`.
    ///
    /// ```
    /// use rmcp_layers::{
    ///     McpServer, ServiceBuilderExt, Upstream,
    ///     delegate::{DelegateLayer, Orchestrator},
    /// };
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// # fn main() -> Result<(), rmcp_layers::ConfigError> {
    /// let orchestrator = Orchestrator::builder().build()?;
    /// let stack = ServiceBuilder::new()
    ///     .delegate(DelegateLayer::new(orchestrator))
    ///     .service(Upstream::in_process(Files));
    /// let server = McpServer::new(stack);
    /// # let _ = server;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "delegate")]
    fn delegate(
        self,
        layer: crate::delegate::DelegateLayer,
    ) -> ServiceBuilder<Stack<crate::delegate::DelegateLayer, L>>;

    /// Answers from memory; see [`cache`](crate::cache).
    ///
    /// Requires the feature `cache`. The trait's example shows it.
    #[cfg(feature = "cache")]
    fn cache(
        self,
        layer: crate::cache::CacheLayer,
    ) -> ServiceBuilder<Stack<crate::cache::CacheLayer, L>>;

    /// Records every request in spans, histograms and a summary; see [`metrics`](crate::metrics).
    ///
    /// Requires the feature `metrics`.
    ///
    /// ```
    /// use rmcp_layers::{ServiceBuilderExt, Upstream, metrics::MetricsLayer};
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// let layer = MetricsLayer::new();
    /// let metrics = layer.handle();
    /// let stack = ServiceBuilder::new().metrics(layer).service(Upstream::in_process(Files));
    /// assert_eq!(metrics.summary().all.total.calls, 0);
    /// # let _ = stack;
    /// ```
    #[cfg(feature = "metrics")]
    fn metrics(
        self,
        layer: crate::metrics::MetricsLayer,
    ) -> ServiceBuilder<Stack<crate::metrics::MetricsLayer, L>>;

    /// Puts a name before the names of a stack's tools, prompts and resources; see
    /// [`NamespaceLayer`](crate::gateway::NamespaceLayer).
    ///
    /// Requires the feature `gateway`.
    ///
    /// ```
    /// use rmcp_layers::{ServiceBuilderExt, Upstream, gateway::NamespaceLayer};
    /// use tower::ServiceBuilder;
    /// # struct Database;
    /// # impl rmcp::ServerHandler for Database {}
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let stack = ServiceBuilder::new()
    ///     .namespace(NamespaceLayer::new("db")?)
    ///     .service(Upstream::in_process(Database));
    /// # let _ = stack;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "gateway")]
    fn namespace(
        self,
        layer: crate::gateway::NamespaceLayer,
    ) -> ServiceBuilder<Stack<crate::gateway::NamespaceLayer, L>>;

    /// Makes progress lawful and light, and ends calls that are silent for too long; see
    /// [`progress`](crate::progress).
    ///
    /// Requires the feature `progress`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rmcp_layers::{ServiceBuilderExt, Upstream, progress::ProgressLayer};
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// # fn main() -> Result<(), rmcp_layers::Error> {
    /// let layer = ProgressLayer::builder().idle_timeout(Duration::from_secs(60)).build()?;
    /// let stack = ServiceBuilder::new().progress(layer).service(Upstream::in_process(Files));
    /// # let _ = stack;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "progress")]
    fn progress(
        self,
        layer: crate::progress::ProgressLayer,
    ) -> ServiceBuilder<Stack<crate::progress::ProgressLayer, L>>;

    /// Adds tools while the server runs, and judges the health of all tools; see
    /// [`registry`](crate::registry).
    ///
    /// Requires the feature `registry`.
    ///
    /// ```
    /// use rmcp_layers::{ServiceBuilderExt, Upstream, registry::RegistryLayer};
    /// use tower::ServiceBuilder;
    /// # struct Files;
    /// # impl rmcp::ServerHandler for Files {}
    ///
    /// let layer = RegistryLayer::new();
    /// let tools = layer.handle();
    /// let stack = ServiceBuilder::new()
    ///     .registry(layer)
    ///     .service(Upstream::in_process(Files));
    /// assert!(tools.tools().is_empty());
    /// # let _ = stack;
    /// ```
    #[cfg(feature = "registry")]
    fn registry(
        self,
        layer: crate::registry::RegistryLayer,
    ) -> ServiceBuilder<Stack<crate::registry::RegistryLayer, L>>;

    /// Repeats failed calls that are safe to repeat; see [`retry`](crate::retry).
    ///
    /// Requires the feature `retry`. The trait's example shows it. The name leaves `retry` to
    /// tower's own layer, which knows nothing of what is safe to repeat.
    #[cfg(feature = "retry")]
    fn retry_calls(
        self,
        layer: crate::retry::RetryLayer,
    ) -> ServiceBuilder<Stack<crate::retry::RetryLayer, L>>;

    /// Refuses calls of what has failed too often; see [`retry::breaker`](crate::retry::breaker).
    ///
    /// Requires the feature `retry`. The trait's example shows it.
    #[cfg(feature = "retry")]
    fn circuit_breaker(
        self,
        layer: crate::retry::breaker::CircuitBreakerLayer,
    ) -> ServiceBuilder<Stack<crate::retry::breaker::CircuitBreakerLayer, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn except_listens<E>(self, layer: E) -> ServiceBuilder<Stack<ExceptListensLayer<E>, L>> {
        self.layer(ExceptListensLayer::new(layer))
    }

    fn wrap_fn<F, Fut>(self, function: F) -> ServiceBuilder<Stack<FromFnLayer<F>, L>>
    where
        F: Fn(McpRequest, Next) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<McpResponse, Error>> + Send + 'static,
    {
        self.layer(from_fn(function))
    }

    #[cfg(feature = "auth")]
    fn auth(
        self,
        layer: crate::auth::AuthLayer,
    ) -> ServiceBuilder<Stack<crate::auth::AuthLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "audit")]
    fn audit(
        self,
        layer: crate::audit::AuditLayer,
    ) -> ServiceBuilder<Stack<crate::audit::AuditLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "auth")]
    fn credential(
        self,
        layer: crate::auth::CredentialLayer,
    ) -> ServiceBuilder<Stack<crate::auth::CredentialLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "budget")]
    fn budget(
        self,
        layer: crate::budget::BudgetLayer,
    ) -> ServiceBuilder<Stack<crate::budget::BudgetLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "delegate")]
    fn delegate(
        self,
        layer: crate::delegate::DelegateLayer,
    ) -> ServiceBuilder<Stack<crate::delegate::DelegateLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "cache")]
    fn cache(
        self,
        layer: crate::cache::CacheLayer,
    ) -> ServiceBuilder<Stack<crate::cache::CacheLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "metrics")]
    fn metrics(
        self,
        layer: crate::metrics::MetricsLayer,
    ) -> ServiceBuilder<Stack<crate::metrics::MetricsLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "gateway")]
    fn namespace(
        self,
        layer: crate::gateway::NamespaceLayer,
    ) -> ServiceBuilder<Stack<crate::gateway::NamespaceLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "progress")]
    fn progress(
        self,
        layer: crate::progress::ProgressLayer,
    ) -> ServiceBuilder<Stack<crate::progress::ProgressLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "registry")]
    fn registry(
        self,
        layer: crate::registry::RegistryLayer,
    ) -> ServiceBuilder<Stack<crate::registry::RegistryLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "retry")]
    fn retry_calls(
        self,
        layer: crate::retry::RetryLayer,
    ) -> ServiceBuilder<Stack<crate::retry::RetryLayer, L>> {
        self.layer(layer)
    }

    #[cfg(feature = "retry")]
    fn circuit_breaker(
        self,
        layer: crate::retry::breaker::CircuitBreakerLayer,
    ) -> ServiceBuilder<Stack<crate::retry::breaker::CircuitBreakerLayer, L>> {
        self.layer(layer)
    }
}
