/// A configuration that cannot work, with the option and the reason.
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

    /// Returns the option, by the name of the builder's method.
    pub fn option(&self) -> &'static str {
        self.option
    }
}
