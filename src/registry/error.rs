use semver::Version;

/// Why a registry did not take a tool, or a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The name breaks the specification's rules for tool names (MCP 2026-07-28, Tools, "Tool Names").
    #[error("the tool name {name:?} is not valid: {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// A schema does not compile, refers to something outside itself, or is too large.
    #[error("the {role} schema of the tool {tool} is not valid: {reason}")]
    InvalidSchema {
        /// The tool's name.
        tool: String,
        /// `input` or `output`.
        role: &'static str,
        /// What is wrong with it, and where.
        reason: String,
    },
    /// The version is not one of Semantic Versioning 2.0.
    #[error("{version:?}, the version of the tool {tool}, is not a semantic version: {reason}")]
    InvalidVersion {
        /// The tool's name.
        tool: String,
        /// The version.
        version: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing was said about what the tool does when it is called.
    #[error("the tool {tool} has no handler")]
    NoHandler {
        /// The tool's name.
        tool: String,
    },
    /// There is such a tool already, in this version.
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
    /// The name belongs to the registry's own search.
    #[error("the name {tool} belongs to the registry's search")]
    Reserved {
        /// The name.
        tool: String,
    },
    /// There is no such tool.
    #[error("no tool {tool} is registered")]
    Unknown {
        /// The name, as it was asked for.
        tool: String,
    },
    /// The registry holds as many tools as it may.
    #[error("the registry is full: it holds {max} tools")]
    Full {
        /// The bound.
        max: usize,
    },
    /// A setting that cannot work.
    #[error("the setting {option} cannot be: {reason}")]
    InvalidOption {
        /// The setting.
        option: &'static str,
        /// Why not.
        reason: String,
    },
}

fn at(version: Option<&Version>) -> String {
    version
        .map(|version| format!("@{version}"))
        .unwrap_or_default()
}
