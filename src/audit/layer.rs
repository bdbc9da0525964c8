use tower::Layer;

use super::{Audit, AuditHandle, Audited};

/// Records every call of a stack and its result.
///
/// It can be placed anywhere in a stack. Inside a layer that sets the
/// [`Principal`](crate::Principal), its records contain the principal. Outside such a layer, they
/// also cover the calls that the layer refused, as far as the refusal shows, but without the
/// principal. To get both, give the audit to [`AuthLayer`](crate::auth::AuthLayer) instead.
#[derive(Clone, Debug)]
pub struct AuditLayer {
    audit: Audit,
}

impl AuditLayer {
    /// Creates a layer that writes to this audit.
    pub fn new(audit: Audit) -> Self {
        Self { audit }
    }

    /// Returns the handle that reads the audit.
    pub fn handle(&self) -> AuditHandle {
        self.audit.handle()
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited::new(self.audit.clone(), inner)
    }
}
