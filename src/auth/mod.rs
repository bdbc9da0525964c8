//! Who is calling, what they may do, and a record of it.

pub mod audit;
mod bearer;
mod error;
pub mod http;
mod policy;
mod rules;
mod scopes;
mod verifier;

pub use bearer::{bearer_token, no_token_in_query};
pub use error::{AuthError, AuthErrorKind};
pub use policy::{Decision, Denial, Item, Policy};
pub use rules::{Required, Rules, RulesBuilder};
pub use scopes::Scopes;
pub use verifier::{AnyOf, Authenticated, Verified, Verifier};
