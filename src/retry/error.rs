/// A configuration that cannot work: which option, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{option}: {reason}")]
pub struct InvalidOption {
    option: &'static str,
    reason: String,
}

impl InvalidOption {
    pub(super) fn new(option: &'static str, reason: impl Into<String>) -> Self {
        Self {
            option,
            reason: reason.into(),
        }
    }

    /// The option, by the name of the builder's method.
    pub fn option(&self) -> &'static str {
        self.option
    }
}
