use std::{fmt, sync::Arc};

use rmcp::model::ErrorData;
use semver::Version;

use super::{
    RegisteredTool, RegistryError,
    health::HealthReport,
    pin::{Fingerprint, Quarantined},
    state::Shared,
};

/// Changes a registry while it serves: from any clone, on any thread, while calls run.
///
/// Callers that listen for changes of the tool list receive `notifications/tools/list_changed`.
/// Several changes within a short time are reported as one. A call in progress ends with the
/// version of the tool that it began with.
#[derive(Clone)]
pub struct RegistryHandle {
    pub(super) shared: Arc<Shared>,
}

/// The current status of one version of a registered tool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolStatus {
    /// The tool's name.
    pub name: String,
    /// The tool's version, if it has one.
    pub version: Option<Version>,
    /// `true` if `tools/list` shows this version.
    pub listed: bool,
    /// The deprecation note, if the version is deprecated.
    pub deprecated: Option<Arc<str>>,
    /// The health.
    pub health: HealthReport,
}

impl RegistryHandle {
    /// Adds a tool, or another version of one. It hides an inner tool of the same name while it is
    /// registered.
    ///
    /// # Errors
    ///
    /// Returns an error if this version of the tool is registered already, the name is reserved for
    /// the search, or the registry is full.
    pub fn register(&self, tool: RegisteredTool) -> Result<(), RegistryError> {
        self.shared.register(tool, false).map(|_| ())
    }

    /// Adds a tool, or replaces the one with the same name and version. Returns the replaced one.
    /// The health of the new tool starts as unknown, and the tool is not deprecated.
    ///
    /// # Errors
    ///
    /// Returns an error if the name is reserved for the search, or the registry is full.
    pub fn replace(&self, tool: RegisteredTool) -> Result<Option<RegisteredTool>, RegistryError> {
        self.shared.register(tool, true)
    }

    /// Removes all versions of a tool (`name`), or one version (`name@2.1.0`). Returns the number
    /// of removed versions.
    ///
    /// # Errors
    ///
    /// Returns an error if the tool is not registered.
    pub fn unregister(&self, name: &str) -> Result<usize, RegistryError> {
        self.shared.unregister(name)
    }

    /// Marks one version of a tool as deprecated: `name@1.0.0`, or `name` for the listed version.
    /// The note says what to use instead.
    ///
    /// Calls still run. Their results have the note in their `_meta`
    /// ([`DEPRECATED_META_KEY`](super::DEPRECATED_META_KEY)). The description of the listed version
    /// has it too.
    ///
    /// # Errors
    ///
    /// Returns an error if the tool is not registered.
    pub fn deprecate(&self, name: &str, note: impl Into<Arc<str>>) -> Result<(), RegistryError> {
        self.shared.deprecate(name, Some(note.into()))
    }

    /// Reverts a [`deprecate`](Self::deprecate).
    ///
    /// # Errors
    ///
    /// Returns an error if the tool is not registered.
    pub fn undeprecate(&self, name: &str) -> Result<(), RegistryError> {
        self.shared.deprecate(name, None)
    }

    /// Returns all versions of all registered tools, by name, the preferred version first.
    pub fn tools(&self) -> Vec<ToolStatus> {
        self.shared.statuses()
    }

    /// Returns the health of an inner tool by the layer's health rules. Returns `None` if no rule
    /// covers the tool, or if an [`each`](super::InnerHealth::each) rule covers it and it has had
    /// no failure.
    pub fn inner_health(&self, name: &str) -> Option<HealthReport> {
        self.shared.inner_health(name)
    }

    /// Returns the inner tools whose definitions changed after they were first seen, by name. Empty
    /// unless the layer [pins](super::RegistryLayerBuilder::pin_inner_tools) them.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let pins = self.shared.pins.as_ref();
        pins.map_or_else(Vec::new, |pins| pins.quarantined_tools())
    }

    /// Accepts the current definition of a quarantined tool, so that the tool is listed and called
    /// again.
    ///
    /// # Errors
    ///
    /// Returns an error if the tool is not in quarantine.
    pub fn approve(&self, name: &str) -> Result<(), RegistryError> {
        let approved = self
            .shared
            .pins
            .as_ref()
            .is_some_and(|pins| pins.approve(name));
        if !approved {
            return Err(RegistryError::Unknown {
                tool: name.to_owned(),
            });
        }
        self.shared.changed();
        Ok(())
    }

    /// Returns the fingerprints of the accepted definitions of inner tools, by name. They are the
    /// [initial pins](super::RegistryLayerBuilder::pins) after a restart.
    pub fn pins(&self) -> Vec<(String, Fingerprint)> {
        let pins = self.shared.pins.as_ref();
        pins.map_or_else(Vec::new, |pins| pins.fingerprints())
    }
}

impl fmt::Debug for RegistryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryHandle").finish_non_exhaustive()
    }
}

/// The requested version of a tool does not exist.
pub(super) struct UnknownTool {
    pub(super) name: String,
    pub(super) pinned: Option<String>,
    pub(super) versions: Vec<Version>,
}

impl From<UnknownTool> for ErrorData {
    fn from(unknown: UnknownTool) -> Self {
        let UnknownTool {
            name,
            pinned,
            versions,
        } = unknown;
        let name = match pinned {
            Some(version) if !name.contains('@') => format!("{name}@{version}"),
            _ => name,
        };
        let versions: Vec<String> = versions.iter().map(ToString::to_string).collect();
        let there = if versions.is_empty() {
            "it has no versions".to_owned()
        } else {
            format!("there are {}", versions.join(", "))
        };
        ErrorData::invalid_params(format!("Unknown tool: {name} ({there})"), None)
    }
}
