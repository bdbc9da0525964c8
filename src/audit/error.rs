use std::{io, path::PathBuf};

use crate::ConfigError;

/// An error of an audit log: it cannot be opened, or its chain is not intact.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// An option has an invalid value.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be opened or read, or the thread of a sink cannot be started.
    #[error("audit: {}: {source}", path.display())]
    Io {
        /// The path of the file; for a thread, the name of its sink.
        path: PathBuf,
        /// The underlying error.
        source: io::Error,
    },
    /// A line of the log was changed, or a line before it is missing.
    #[error("audit: {}: line {line}: {reason}", path.display())]
    Broken {
        /// The path of the file.
        path: PathBuf,
        /// The first invalid line, counted from 1.
        line: u64,
        /// The reason.
        reason: &'static str,
    },
}

impl AuditError {
    pub(super) fn option(
        option: &'static str,
        reason: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        ConfigError::new("audit", option, reason).into()
    }

    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
