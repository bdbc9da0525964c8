use std::sync::{Arc, Mutex};

use rmcp::model::Extensions;

use super::OngoingCall;
use crate::util::lock;

/// A call that rmcp is to go on with, in the extensions of its request.
///
/// The call's own context does not have it. Otherwise the call would keep itself alive if rmcp
/// refused the request.
#[derive(Clone, Debug)]
pub(crate) struct HandedOver(Arc<Mutex<Option<Box<OngoingCall>>>>);

impl HandedOver {
    pub(crate) fn new(ongoing: Box<OngoingCall>) -> Self {
        Self(Arc::new(Mutex::new(Some(ongoing))))
    }

    /// Takes the call that the transport has begun for a request with these extensions.
    pub(crate) fn take(extensions: &Extensions) -> Option<Box<OngoingCall>> {
        let handed_over = extensions.get::<Self>().or_else(|| {
            let head = extensions.get::<http::request::Parts>()?;
            head.extensions.get::<Self>()
        })?;
        lock(&handed_over.0).take()
    }
}
