//! Who is calling, what they may do, and a record of it.
//!
//! [`AuthLayer`] guards any stack. It finds out whose a request is by the token that comes with it, lets through only
//! what that principal may do, and takes off what comes back what the principal may not know of. Nobody is let in
//! without a token, and what no rule names needs the scope `admin`:
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
//! # Who
//!
//! A [`Verifier`] says whom a token speaks for:
//!
//! | | |
//! |---|---|
//! | [`JwtVerifier`] | signed tokens, by secrets, PEM keys, and JWK sets that are kept up to date |
//! | `Introspection` (feature `auth-client`) | opaque tokens, about which an authorization server is asked (RFC 7662) |
//! | [`ApiKeys`] | a table of keys |
//! | [`AnyOf`] | several of these in turn |
//!
//! Layers further in find the [`Principal`](crate::Principal) in the request's context.
//!
//! # Where the token is
//!
//! In the `Authorization` header of the HTTP request, or under [`TOKEN_META_KEY`] of the request's `_meta`; where the
//! builder says so, in an environment variable for a whole session over stdio, or wherever a function finds it. All
//! that are there have to be the same, or the request is refused; so is one with a token in its URL. The token is
//! taken off before the request goes on: no layer and no upstream further in sees it. What an upstream is shown is the
//! [`CredentialLayer`]'s affair.
//!
//! # What
//!
//! [`Rules`] say which scopes a tool, a prompt, a resource or a method needs; a [`Policy`] decides on anything more.
//! Both guard calls and filter lists, so that what is shown is what can be used. What a caller may not use is to it as
//! if it were not there, unless the rules [say otherwise](RulesBuilder::reveal_forbidden):
//!
//! - A forbidden name is answered by the same error as one that nothing has, before anything further in is asked. An
//!   inner stack's own words for an unknown name are replaced by that error, together with the names that it says
//!   come near. They are known by their form, and those of a server that says it quite differently pass.
//! - A list loses what is forbidden; its order and its cursor stay. Change notifications that name a forbidden
//!   resource do not reach the caller. A listen ends when its token does.
//! - How long an answer takes is not hidden: what is forbidden is refused sooner than what is unknown further in.
//! - What names other things further in asks the rules about them, by the names that they have here
//!   ([`Sight`](crate::Sight)): a registry's search finds what its caller may know of, its `call_tool` calls what it
//!   may call, and a gateway says which names come near an unknown one. So it is behind any prefix, for what is in
//!   this process. A search in a server that is reached by an `Upstream` finds what that server lets it; of its
//!   `call_tool` the rules know the tool that it calls if it has no prefix, and no other tool that calls tools.
//!
//! # What a caller hears
//!
//! An [`AuthError`], as JSON-RPC code -31401 or -31403; over HTTP, [`http`] makes of it the status and the challenge
//! that clients understand. Nothing in it says how close a token came to being good. Why it was not is in the log
//! (`tracing`, at debug) and in the [`audit`] record.
//!
//! # In which order
//!
//! Outermost, so that nothing is done for nobody. A cache or a single flight outside of it is safe, because each
//! answer is [marked](crate::McpResponse::mark_private) as its principal's, and of no use for the same reason.
//!
//! # Bounds
//!
//! 10,000 remembered tokens for each verifier, 10,000 credentials of upstreams: at each bound what was used least
//! recently goes first. 10,000 tasks: beyond, whoever has the most loses one, which is nobody's then. 64 tokens that
//! are asked about at once, 1,000 that wait until a key set may be fetched again, one fetch of a set at a time: who
//! comes beyond is told to come again.

mod api_keys;
pub mod audit;
mod bearer;
mod claims;
#[cfg(feature = "auth-client")]
mod client;
mod conceal;
mod credential;
mod error;
mod filter;
pub mod http;
mod jwt;
mod layer;
mod memory;
mod policy;
mod rules;
mod scopes;
mod service;
mod sight;
mod source;
mod tasks;
mod verifier;

pub use crate::Item;
pub use api_keys::ApiKeys;
pub use bearer::{bearer_token, no_token_in_query};
#[cfg(feature = "auth-client")]
pub use client::{Introspection, IntrospectionBuilder, TokenExchange};
pub use credential::{Credential, CredentialLayer, Credentials, WithCredential};
pub use error::{AuthError, AuthErrorKind};
pub use jsonwebtoken::Algorithm;
pub use jwt::{Jwks, JwtVerifier, JwtVerifierBuilder};
pub use layer::{AuthHandle, AuthLayer, AuthLayerBuilder};
pub use policy::{Decision, Denial, Policy};
pub use rules::{Required, Rules, RulesBuilder};
pub use scopes::Scopes;
pub use service::Auth;
pub use source::TOKEN_META_KEY;
pub use verifier::{AnyOf, Authenticated, Verified, Verifier};
