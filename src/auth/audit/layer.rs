use tower::Layer;

use super::{Audit, AuditHandle, Audited};

/// Records every call of a stack, and how it ended.
///
/// It stands anywhere. Inside of whoever sets the [`Principal`](crate::Principal) its records say who called;
/// outside of it they also have the calls that were refused there, as far as a refusal shows, but nobody's name.
/// To have both, give the audit to [`AuthLayer`](crate::auth::AuthLayer) instead.
#[derive(Clone, Debug)]
pub struct AuditLayer {
    audit: Audit,
}

impl AuditLayer {
    /// Writes to this audit.
    pub fn new(audit: Audit) -> Self {
        Self { audit }
    }

    /// The handle that reads it.
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
