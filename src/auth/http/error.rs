/// An error of the HTTP companion's configuration.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpAuthError {
    /// An option has an invalid value.
    #[error("auth over HTTP: `{option}`: {reason}")]
    InvalidOption {
        /// The name of the option.
        option: &'static str,
        /// The reason.
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
