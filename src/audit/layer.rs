use tower::Layer;

use super::{Audit, AuditHandle, AuditLog};

/// Records every call of a stack and its result.
///
/// It can be placed anywhere in a stack. Inside a layer that sets the
/// [`Principal`](crate::Principal), its records contain the principal. Outside of a layer that
/// refuses calls, they also cover the refused calls, and contain the decision, the principal and
/// the reason that the layer [states](crate::CallContext::state_decision).
///
/// A place in each queue is reserved before the call goes on. If a queue is full and its sink
/// [refuses](super::WhenFull::Refuse) calls, a call is therefore refused before an inner layer has
/// authenticated its caller.
#[derive(Clone, Debug)]
pub struct AuditLayer {
    log: AuditLog,
}

impl AuditLayer {
    /// Creates a layer that writes to this log.
    pub fn new(log: AuditLog) -> Self {
        Self { log }
    }

    /// Returns the handle that reads the log.
    pub fn handle(&self) -> AuditHandle {
        self.log.handle()
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit::new(self.log.clone(), inner)
    }
}
