use semver::Version;

use crate::ConfigError;

/// An invalid tool, or a change that a registry refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name breaks the specification's rules for tool names (MCP 2026-07-28, Tools, "Tool
    /// Names").
    #[error("the tool name {name:?} is not valid: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// The rule that the name breaks.
        reason: String,
    },
    /// A schema does not compile, has a `$ref` to an external document, or is too large.
    #[error("the {role} schema of the tool {tool} is not valid: {reason}")]
    InvalidSchema {
        /// The tool's name.
        tool: String,
        /// `input` or `output`.
        role: &'static str,
        /// The fault in the schema, and its place.
        reason: String,
    },
    /// The version does not follow Semantic Versioning 2.0.
    #[error("{version:?}, the version of the tool {tool}, is not a semantic version: {reason}")]
    InvalidVersion {
        /// The tool's name.
        tool: String,
        /// The version.
        version: String,
        /// The fault in the version.
        reason: String,
    },
    /// The tool has neither a handler nor a service.
    #[error("the tool {tool} has no handler")]
    NoHandler {
        /// The tool's name.
        tool: String,
    },
    /// This version of the tool is registered already.
    #[error(
        "the tool {tool}{} is registered already: replace it, or register another version",
        at(.version.as_ref())
    )]
    Duplicate {
        /// The tool's name.
        tool: String,
        /// The version, if it has one.
        version: Option<Version>,
    },
    /// The name is reserved for the registry's own search.
    #[error("the name {tool} belongs to the registry's search")]
    Reserved {
        /// The name.
        tool: String,
    },
    /// The tool is not registered.
    #[error("no tool {tool} is registered")]
    Unknown {
        /// The name, as the caller gave it.
        tool: String,
    },
    /// The registry is full.
    #[error("the registry is full: it holds {max} tools")]
    Full {
        /// The limit.
        max: usize,
    },
    /// An option that cannot work, such as a health policy.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

fn at(version: Option<&Version>) -> String {
    version
        .map(|version| format!("@{version}"))
        .unwrap_or_default()
}
