/// Why the HTTP companion cannot be made.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpAuthError {
    /// A setting that cannot work.
    #[error("auth over HTTP: `{option}`: {reason}")]
    InvalidOption {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl HttpAuthError {
    pub(super) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidOption {
            option,
            reason: reason.into(),
        }
    }
}
