//! Who is calling, what they may do, and a record of it.

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
mod source;
mod tasks;
mod verifier;

pub use api_keys::ApiKeys;
pub use bearer::{bearer_token, no_token_in_query};
#[cfg(feature = "auth-client")]
pub use client::{Introspection, IntrospectionBuilder, TokenExchange};
pub use credential::{Credential, CredentialLayer, Credentials, WithCredential};
pub use error::{AuthError, AuthErrorKind};
pub use jsonwebtoken::Algorithm;
pub use jwt::{Jwks, JwtVerifier, JwtVerifierBuilder};
pub use layer::{AuthHandle, AuthLayer, AuthLayerBuilder};
pub use policy::{Decision, Denial, Item, Policy};
pub use rules::{Required, Rules, RulesBuilder};
pub use scopes::Scopes;
pub use service::Auth;
pub use source::TOKEN_META_KEY;
pub use verifier::{AnyOf, Authenticated, Verified, Verifier};
