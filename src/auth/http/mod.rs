//! The HTTP companion: authentication in front of rmcp's streamable HTTP service.
//!
//! Over HTTP, a caller expects refusals as a status and a challenge, before there is an MCP
//! message. [`HttpAuthLayer`] therefore stands in front of `StreamableHttpService`. It asks the
//! same [`Verifier`](crate::auth::Verifier) as [`AuthLayer`](crate::auth::AuthLayer) in the stack
//! behind it, and passes the verified caller on, so that a token is verified once. The two
//! verifiers are not compared: `AuthLayer` trusts every caller that the companion has let in.
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
//! The layer decides by the message that the server reads. Put it inside of a
//! `LenientHttpLayer` (feature `http-server`), which has read the message already and answers what
//! cannot be read; requests with invalid params then go on to the stack, which has them on record.
//! Without that layer, this one reads the body in the same way, and answers with 400 what cannot be
//! read.
//!
//! The layer guards the service it is applied to. Around a whole router it also serves the
//! resource's metadata, which is public. Place other public routes outside of it. A CORS layer has
//! to see a browser's preflight requests, so place it outside as well.
//!
//! # Responses
//!
//! | Request | Status | Also contains |
//! |---|---|---|
//! | `GET /.well-known/oauth-protected-resource`, also with the resource's path after it | 200 | the metadata (RFC 9728) |
//! | without a token | 401 | `WWW-Authenticate` with `resource_metadata`, and the scopes to ask for at first |
//! | with an invalid or expired token | 401 | the same, with `error="invalid_token"` and no detail |
//! | with several `Authorization` headers, or a token in its query string | 400 | `error="invalid_request"` |
//! | with a token that cannot be verified at the moment | 503 | `Retry-After` |
//! | that lacks scopes, if the rules reveal this | 403 | `error="insufficient_scope"`, and all scopes that the request needs (RFC 6750, section 3.1); the body names the missing ones |
//! | with an `Mcp-Method` or `Mcp-Name` that differs from its body | 400 | JSON-RPC error -32020 (MCP 2026-07-28, Streamable HTTP, "Server Validation") |
//! | with a body that is not a message, such as a batch | 400 | JSON-RPC error -32600, or -32700 if it is not JSON |
//! | with params that do not fit the method, or have a member twice | 400 | JSON-RPC error -32602 |
//! | with a body of more than 4 MiB | 413 | |
//! | in a session of another caller | the same as for an unknown session: rmcp's 404 | |
//! | that would open a session above the limit | 503 | `Retry-After` |
//! | any other | that of the inner service | |
//!
//! The body of a refusal is a JSON-RPC error with the code that
//! [`AuthLayer`](crate::auth::AuthLayer) would use. Each refusal is passed to
//! the receiver of [`on_refusal`](HttpAuthLayerBuilder::on_refusal), such as an audit log.
//!
//! # Disclosure of forbidden names
//!
//! A 403 response tells a caller that a forbidden name exists and which scopes it needs. A client
//! can then ask its user for more scopes (step-up). The same response tells an attacker which names
//! exist. The rules decide between the two:
//!
//! - With [`reveal_forbidden`](crate::auth::RulesBuilder::reveal_forbidden), a request that lacks a
//!   scope is answered with 403 and all scopes at once.
//! - Without it (the default), a request for a name that the caller cannot see on a list goes on to
//!   [`AuthLayer`](crate::auth::AuthLayer), which answers as if the name did not exist. A request
//!   that lacks a scope for the method alone is still answered with 403, because that discloses no
//!   name.
//!
//! The companion does not filter lists and does not ask a [`Policy`](crate::auth::Policy). Do not
//! leave `AuthLayer` out.
//!
//! # Sessions
//!
//! A session id (revisions before 2026-07-28) is not a credential. It is valid for the principal
//! that opened the session, with any token of the same issuer and subject, and unknown to all
//! others.
//!
//! Sessions are learned from the answers to `initialize`. An unknown session is not let through, so
//! the sessions of another process, or of the time before a restart, are unknown. If several
//! processes serve one endpoint, route each client to one of them (sticky routing by
//! `Mcp-Session-Id`). This also holds if they share rmcp's `session_store`, which restores a
//! session but not its owner. Revision 2026-07-28 has no sessions, so any process can serve any
//! request.
//!
//! At the [limits](HttpAuthLayerBuilder::max_sessions), no session is opened. A stream that was
//! opened by a `GET` ends when the token of that request expires. `Last-Event-ID` is honored only
//! in the caller's own sessions.

mod body;
mod guard;
mod handle;
mod layer;
mod message;
mod metadata;
mod mirror;
mod refused;
mod service;
mod sessions;

pub use body::{HttpAuthBody, PassedBody};
pub use handle::{HttpAuthHandle, HttpAuthStats};
pub use layer::{HttpAuthLayer, HttpAuthLayerBuilder};
pub use metadata::ProtectedResource;
pub use service::HttpAuth;

/// The name of the layer in errors of its configuration.
const NAME: &str = "http_auth";
