use std::borrow::Cow;

/// A configuration that cannot work: an option of a layer's builder, and the reason.
///
/// A builder returns it from `build`, before any request is served. It converts into
/// [`Error`](crate::Error), as a refusal by the layer.
///
/// ```
/// use rmcp_layers::ConfigError;
///
/// let error = ConfigError::new("cache", "time_to_live", "it is zero; give at least 1 ms");
/// assert_eq!(error.to_string(), "cache: `time_to_live`: it is zero; give at least 1 ms");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{layer}: `{option}`: {reason}")]
pub struct ConfigError {
    layer: &'static str,
    option: Cow<'static, str>,
    reason: Cow<'static, str>,
}

impl ConfigError {
    /// Creates the error of an option. The reason says what is wrong with the value, and what to
    /// do.
    pub fn new(
        layer: &'static str,
        option: impl Into<Cow<'static, str>>,
        reason: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            layer,
            option: option.into(),
            reason: reason.into(),
        }
    }

    /// Returns the name of the layer or end, such as `cache` or `upstream`.
    pub fn layer(&self) -> &'static str {
        self.layer
    }

    /// Returns the option, by the name of the builder's method. An entry in an option has its name
    /// or index added, such as `member[2]`.
    pub fn option(&self) -> &str {
        &self.option
    }

    /// Returns the reason, with the remedy.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<ConfigError> for crate::Error {
    fn from(error: ConfigError) -> Self {
        crate::Refusal::new(error.layer, format!("`{}`: {}", error.option, error.reason))
            .with_code(crate::code::FORBIDDEN)
            .with_source(error)
            .into()
    }
}
