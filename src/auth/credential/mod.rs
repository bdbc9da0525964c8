//! Credentials for upstreams.

mod bearer_token;
mod credentials;
mod layer;
mod service;

pub use bearer_token::BearerToken;
pub(super) use credentials::CallerToken;
pub use credentials::Credentials;
pub use layer::CredentialLayer;
pub use service::Credential;
