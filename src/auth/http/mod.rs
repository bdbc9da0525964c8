//! The HTTP companion: the same guard in front of rmcp's streamable HTTP service.
//!
//! What a caller hears over HTTP (a challenge, a status) is said before there is an MCP message. So this stands in
//! front of `StreamableHttpService`, asks the same [`Verifier`](crate::auth::Verifier) as
//! [`AuthLayer`](crate::auth::AuthLayer) in the stack behind it, and tells it who is calling, so that a token is
//! verified once. Nothing checks that it is the same: whom this lets in, the layer behind it believes.
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//!
//! use bytes::Bytes;
//! use futures::{FutureExt, future::BoxFuture};
//! use http::{Request, Response, StatusCode, header};
//! use http_body_util::Full;
//! use rmcp_layers::{Principal, auth::{AuthError, Verified, Verifier}};
//! use rmcp_layers::auth::http::{HttpAuthLayer, ProtectedResource};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! struct Door;
//! # impl Verifier for Door {
//! #     fn verify<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Verified, AuthError>> {
//! #         async move {
//! #             match token {
//! #                 "sesame" => Ok(Verified::new(Principal::new("ali"))),
//! #                 _ => Err(AuthError::invalid("not the word")),
//! #             }
//! #         }
//! #         .boxed()
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let guard = HttpAuthLayer::builder(Door)
//!     .resource(
//!         ProtectedResource::new("https://mcp.example/mcp")?
//!             .authorization_server("https://issuer.example"),
//!     )
//!     .build()?;
//!
//! // In place of rmcp's service. With axum: `Router::new().route_service("/mcp", mcp).layer(guard)`.
//! let mcp = service_fn(|request: Request<_>| async move {
//!     assert!(request.headers().get(header::AUTHORIZATION).is_none());
//!     Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
//! });
//! let guarded = ServiceBuilder::new().layer(guard).service(mcp);
//!
//! let request = Request::get("/mcp").body(Full::new(Bytes::new()))?;
//! let refused = guarded.clone().oneshot(request).await?;
//! assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
//! assert_eq!(
//!     refused.headers()[header::WWW_AUTHENTICATE],
//!     r#"Bearer resource_metadata="https://mcp.example/.well-known/oauth-protected-resource/mcp""#
//! );
//!
//! let request = Request::get("/mcp")
//!     .header(header::AUTHORIZATION, "Bearer sesame")
//!     .body(Full::new(Bytes::new()))?;
//! assert_eq!(guarded.oneshot(request).await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! It guards whatever it is put around. Around a whole router it also serves the resource's metadata, which is
//! public; a route that is to be public otherwise stands outside of it. What needs to see a browser's preflight
//! requests, as a CORS layer does, stands outside of it too.
//!
//! # What is answered
//!
//! | a request | status | says besides |
//! |---|---|---|
//! | `GET /.well-known/oauth-protected-resource`, also with the resource's path after it | 200 | the metadata (RFC 9728) |
//! | without a token | 401 | `WWW-Authenticate` with `resource_metadata`, and the scopes to ask for at first |
//! | with a token that is not good, or not any more | 401 | the same, with `error="invalid_token"` and no detail |
//! | with several `Authorization` headers, or a token in its query string | 400 | `error="invalid_request"` |
//! | whose token nobody can verify now | 503 | `Retry-After` |
//! | for which scopes are missing, where the rules reveal it | 403 | `error="insufficient_scope"`, and all scopes that it needs (RFC 6750, section 3.1); the body names those that are missing |
//! | whose `Mcp-Method` or `Mcp-Name` is not what its body says | 400 | JSON-RPC error -32020 (MCP 2026-07-28, Streamable HTTP, "Server Validation") |
//! | whose body has a member twice that decides | 400 | JSON-RPC error -32600 |
//! | with a body of more than 4 MiB | 413 | |
//! | in a session that is not the caller's own | as in one that nobody has: rmcp's 404 | |
//! | that would open one session too many | 503 | `Retry-After` |
//! | any other | the inner service's | |
//!
//! A refusal's body is a JSON-RPC error, with the code that [`AuthLayer`](crate::auth::AuthLayer) would give it.
//! Each is on record, with an [`audit`](HttpAuthLayerBuilder::audit).
//!
//! # What may be known of what is forbidden
//!
//! A 403 tells a caller that there is something it may not use, and what it would need: a client can ask its user
//! for more (step-up). The same answer tells an attacker which names there are. One cannot have both, so the rules
//! say it: with [`reveal_forbidden`](crate::auth::RulesBuilder::reveal_forbidden) a request that lacks a scope is
//! answered with 403, all scopes at once, of a batch all that its messages lack. Without it, which is the default,
//! a request for a name that the caller cannot see on a list goes on to [`AuthLayer`](crate::auth::AuthLayer), which
//! answers as if nothing had that name; one that lacks a scope for the method alone is answered with 403 all the
//! same, because it tells of no name. Here nothing is filtered, and what a [`Policy`](crate::auth::Policy) says
//! beyond rules is not asked: do not leave `AuthLayer` out.
//!
//! # Sessions
//!
//! A session id (revisions before 2026-07-28) is no credential: it serves who opened it, with any token of the same
//! issuer and subject, and is unknown to all others. Which sessions there are is learned from the answers to
//! `initialize`; what is not known here is not let through, so the sessions of another process, or of before a
//! restart, are unknown: where several processes serve, one client's requests go to one of them (sticky routing by
//! `Mcp-Session-Id`). That is so also where they share rmcp's `session_store`, which brings back what a session was
//! but not who opened it. Revision 2026-07-28 has no sessions, and any process serves any request. At the
//! [bounds](HttpAuthLayerBuilder::max_sessions) no session is opened. A stream that a `GET` opened ends when the
//! token does with which it was opened. `Last-Event-ID` is heard of in the caller's own sessions alone.

mod body;
mod error;
mod guard;
mod layer;
mod message;
mod metadata;
mod mirror;
mod refused;
mod service;
mod sessions;

pub use body::{HttpAuthBody, PassedBody};
pub use error::HttpAuthError;
pub use layer::{HttpAuthLayer, HttpAuthLayerBuilder};
pub use metadata::ProtectedResource;
pub use service::HttpAuth;
