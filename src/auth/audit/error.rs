use std::{io, path::PathBuf};

/// Why an audit log cannot be opened, or does not hold.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// A setting that cannot work.
    #[error("audit: `{option}`: {reason}")]
    InvalidOption {
        /// Which setting.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file, or the thread that writes it, cannot be had.
    #[error("audit: {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A line of the log is not what was written, or one is missing before it.
    #[error("audit: {}: line {line}: {reason}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The first such line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl AuditError {
    pub(super) fn option(option: &'static str, reason: impl Into<String>) -> Self {
        Self::InvalidOption {
            option,
            reason: reason.into(),
        }
    }

    pub(super) fn io(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            path: path.into(),
            source,
        }
    }
}
