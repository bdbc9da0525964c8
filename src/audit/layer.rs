use tower::Layer;

use super::{Audit, AuditHandle, AuditLog};

/// Records every call of a stack and its result.
///
/// It can be placed anywhere in a stack. Inside a layer that sets the
/// [`Principal`](crate::Principal), its records contain the principal. Outside such a layer, they
/// also cover the calls that the layer refused, as far as the refusal shows, but without the
/// principal. To get both, give the audit to [`AuthLayer`](crate::auth::AuthLayer) instead.
#[derive(Clone, Debug)]
pub struct AuditLayer {
    audit: AuditLog,
}

impl AuditLayer {
    /// Creates a layer that writes to this audit.
    pub fn new(audit: AuditLog) -> Self {
        Self { audit }
    }

    /// Returns the handle that reads the audit.
    pub fn handle(&self) -> AuditHandle {
        self.audit.handle()
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audit<S>;

    fn layer(&self, inner: S) -> Audit<S> {
        Audit::new(self.audit.clone(), inner)
    }
}
