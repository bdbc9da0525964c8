//! Authentication and authorization.
//!
//! Requires the feature `auth`.
//!
//! [`AuthLayer`] guards any stack. It identifies the caller of a request by the request's token,
//! refuses requests that the caller's principal may not make, and filters responses accordingly.
//! Requests without a token are refused. A target that no rule matches needs the scope `admin`:
//!
//! ```
//! use rmcp_layers::{
//!     Handler, McpServer, Principal,
//!     auth::{ApiKeys, AuthLayer, Rules, Scopes, TOKEN_META_KEY},
//! };
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # use rmcp_layers::McpRequest;
//! # use tower::ServiceExt;
//! # #[derive(Clone)]
//! # struct Files;
//! # impl ServerHandler for Files {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! let rules = Rules::builder()
//!     .tool("files__write", Scopes::all_of(["files:read", "files:write"]))
//!     .tool("files__*", "files:read")
//!     .build()?;
//! // Or a `JwtVerifier`, an `Introspection`, or your own `Verifier`.
//! let keys = ApiKeys::new()
//!     .key("k-3f9a5c1e77d04b2a", Principal::new("reader").with_scopes(["files:read"]))?;
//! let stack = ServiceBuilder::new()
//!     .layer(AuthLayer::builder(keys).rules(rules).build()?)
//!     .service(Handler::new(Files));
//! # let ask = |name: &'static str| {
//! #     let request = McpRequest::call_tool(name).meta(TOKEN_META_KEY, "k-3f9a5c1e77d04b2a").build();
//! #     stack.clone().oneshot(request)
//! # };
//! # assert!(ask("files__read").await.is_ok());
//! # assert_eq!(ask("files__write").await.unwrap_err().to_string(), "-32602: Unknown tool: files__write({\"name\":\"files__write\"})");
//! # assert!(stack.clone().oneshot(McpRequest::list_tools()).await.is_err());
//! let server = McpServer::new(stack);
//! # let _ = (server, TOKEN_META_KEY);
//! # Ok(())
//! # }
//! ```
//!
//! # Authentication
//!
//! A [`Verifier`] determines the principal that a token speaks for:
//!
//! | Verifier | Tokens |
//! |---|---|
//! | [`JwtVerifier`] (feature `jwt`) | signed tokens, verified with secrets, PEM keys, and JWK sets that are kept up to date; with feature `auth-client` also at a URL |
//! | `Introspection` (feature `auth-client`) | opaque tokens, verified by a request to an authorization server (RFC 7662) |
//! | [`ApiKeys`] | API keys from a table |
//! | [`AnyOf`] | tokens of several verifiers, tried in turn |
//!
//! Inner layers find the [`Principal`](crate::Principal) in the request's context.
//!
//! # Token sources
//!
//! The token is read from the `Authorization` header of the HTTP request, and from
//! [`TOKEN_META_KEY`] in the request's `_meta`. The builder can add an environment variable, for a
//! whole session over stdio, and a function. If a request has several tokens, they have to be
//! equal, otherwise it is refused. A request with a token in its URL is refused as well.
//!
//! The token is removed before the request goes on, so no inner layer and no upstream sees it. To
//! send a credential to an upstream, use a [`CredentialLayer`].
//!
//! # Authorization
//!
//! [`Rules`] define the scopes that a tool, a prompt, a resource or a method needs. A [`Policy`]
//! can add any other condition. Both guard calls and filter lists, so that a caller sees what it
//! can use. A forbidden item is treated as if it did not exist, unless the rules [say
//! otherwise](RulesBuilder::reveal_forbidden):
//!
//! - A call with a forbidden name gets the same error as a call with an unknown name, before any
//!   inner layer is asked. An inner stack's own error for an unknown name is replaced by that
//!   error, including any suggestions of similar names. Such errors are recognized by their form;
//!   an error in an unusual form passes unchanged.
//! - Forbidden items are removed from lists; the order and the cursor stay. Change notifications
//!   for a forbidden resource do not reach the caller. A listen ends when its token expires.
//! - Response times are not hidden: a forbidden name is refused sooner than an inner layer can
//!   refuse an unknown one.
//! - Inner layers that mention or call other items ask the rules about them, by their outward names
//!   ([`Visibility`](crate::Visibility)). A registry's search finds, and its `call_tool` calls,
//!   only what the caller may use, and a gateway suggests only such names. This works behind any
//!   prefix, within this process.
//! - A search in a server behind an `Upstream` finds what that server allows. For the `call_tool`
//!   of such a server, the rules are applied to the called tool only if `call_tool` has no prefix.
//!   Other tools that call tools are not recognized.
//!
//! # Errors
//!
//! A refused caller gets an [`AuthError`] as JSON-RPC code -31401 or -31403, or -31503 if its token
//! cannot be verified at the moment. Over HTTP, [`http`] sends the status and the challenge that
//! clients understand. The error does not disclose how close a token came to being valid. The
//! reason is in the log (`tracing`, at debug), and is stated with the
//! [`Decision`](crate::Decision) for outer layers, such as an audit layer.
//!
//! # Ordering
//!
//! Place this layer outermost, so that no work is done for unauthenticated callers. Only an audit
//! layer belongs outside of it, and records what this layer decides. A cache or a
//! single flight outside of it is safe, because each response is
//! [marked](crate::McpResponse::mark_private) as its principal's, but for the same reason has no
//! effect.
//!
//! # Limits
//!
//! - Remembered tokens: 10,000 for each verifier (the least recently used is evicted).
//! - Kept upstream credentials: 10,000 (the least recently used is evicted).
//! - Tasks: 10,000. Above it, the principal with the most tasks loses one, which is then unknown.
//! - Concurrent introspections: 64. Further tokens are refused with a time to retry.
//! - Tokens that wait until a key set may be fetched again: 1,000. Further ones are refused with a
//!   time to retry.
//! - Fetches of a key set: one at a time.

mod api_keys;
mod bearer;
#[cfg(any(feature = "auth-client", feature = "jwt"))]
mod claims;
#[cfg(feature = "auth-client")]
mod client;
mod credential;
mod error;
mod handle;
mod hide;
pub mod http;
#[cfg(feature = "jwt")]
mod jwt;
mod layer;
mod policy;
mod rules;
mod scopes;
mod service;
mod task_owners;
#[cfg(any(feature = "auth-client", feature = "jwt"))]
#[cfg_attr(
    not(feature = "jwt"),
    expect(dead_code, reason = "only keys of a JWK set are removed")
)]
mod token_cache;
mod token_source;
mod verifier;
mod visibility;

pub use crate::Item;
pub use api_keys::ApiKeys;
pub use bearer::{bearer_token, no_token_in_query};
#[cfg(feature = "auth-client")]
pub use client::{Introspection, IntrospectionBuilder, TokenExchange};
pub use credential::{BearerToken, Credential, CredentialLayer, Credentials};
pub use error::{AuthError, AuthErrorKind};
pub use handle::{AuthHandle, AuthStats};
#[cfg(feature = "jwt")]
pub use jsonwebtoken::Algorithm;
#[cfg(feature = "jwt")]
pub use jwt::{Jwks, JwtVerifier, JwtVerifierBuilder};
pub use layer::{AuthLayer, AuthLayerBuilder};
pub use policy::{Denial, Policy, PolicyDecision};
pub use rules::{Required, Rules, RulesBuilder};
pub use scopes::Scopes;
pub use service::Auth;
pub use token_source::TOKEN_META_KEY;
pub use verifier::{AnyOf, Authenticated, Verified, Verifier};
