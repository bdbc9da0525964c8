//! The credential for an upstream in a single call.

use std::fmt;

/// A bearer token for the upstream, in the extensions of one call's context. It is sent with that
/// call's HTTP request only.
#[derive(Clone)]
pub(crate) struct OutboundCredential(String);

impl OutboundCredential {
    pub(crate) fn bearer(token: String) -> Self {
        Self(token)
    }

    pub(crate) fn into_bearer(self) -> String {
        self.0
    }
}

impl fmt::Debug for OutboundCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OutboundCredential").finish_non_exhaustive()
    }
}
