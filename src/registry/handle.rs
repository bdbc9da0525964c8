use std::{fmt, sync::Arc};

use rmcp::model::ErrorData;
use semver::Version;

use super::{
    RegisteredTool, RegistryError,
    health::HealthReport,
    pin::{Fingerprint, Quarantined},
    state::Shared,
};

/// Steers a registry while it serves: from any clone, on any thread, while calls run.
///
/// Each change is told to the callers that listen for changes of the list of tools
/// (`notifications/tools/list_changed`), several within a short time as one. A call that has begun ends with
/// the version of the tool it began with.
#[derive(Clone)]
pub struct RegistryHandle {
    pub(super) shared: Arc<Shared>,
}

/// One version of a registered tool, as it is at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ToolStatus {
    /// The tool's name.
    pub name: String,
    /// Its version, if it has one.
    pub version: Option<Version>,
    /// Whether `tools/list` shows this version.
    pub listed: bool,
    /// Why it is deprecated, or what instead, if it is.
    pub deprecated: Option<Arc<str>>,
    /// How it is.
    pub health: HealthReport,
}

impl RegistryHandle {
    /// Adds a tool, or another version of one. An inner tool of the same name is hidden while it is there.
    ///
    /// # Errors
    ///
    /// There is that version of the tool already, the name is the search's, or the registry is full.
    pub fn register(&self, tool: RegisteredTool) -> Result<(), RegistryError> {
        self.shared.register(tool, false).map(|_| ())
    }

    /// Puts a tool in the place of the one with its name and version, which is given back, or adds it. Its
    /// health begins anew, and it is not deprecated.
    ///
    /// # Errors
    ///
    /// The name is the search's, or the registry is full.
    pub fn replace(&self, tool: RegisteredTool) -> Result<Option<RegisteredTool>, RegistryError> {
        self.shared.register(tool, true)
    }

    /// Removes a tool in all its versions, or one version (`name@2.1.0`). Returns how many versions went.
    ///
    /// # Errors
    ///
    /// There is no such tool.
    pub fn unregister(&self, name: &str) -> Result<usize, RegistryError> {
        self.shared.unregister(name)
    }

    /// Marks one version of a tool (`name@1.0.0`; by its name alone, the listed one) as deprecated. It can
    /// still be called; results say so in their `_meta`
    /// ([`DEPRECATED_META_KEY`](super::DEPRECATED_META_KEY)), and if it is the listed version, its
    /// description does. The note says what to use instead.
    ///
    /// # Errors
    ///
    /// There is no such tool.
    pub fn deprecate(&self, name: &str, note: impl Into<Arc<str>>) -> Result<(), RegistryError> {
        self.shared.deprecate(name, Some(note.into()))
    }

    /// Takes a [`deprecate`](Self::deprecate) back.
    ///
    /// # Errors
    ///
    /// There is no such tool.
    pub fn undeprecate(&self, name: &str) -> Result<(), RegistryError> {
        self.shared.deprecate(name, None)
    }

    /// All registered tools in all versions, by name, the preferred version first.
    pub fn tools(&self) -> Vec<ToolStatus> {
        self.shared.statuses()
    }

    /// How an inner tool is, by the health rules of the layer. `None` if none covers it, or nothing speaks
    /// against it.
    pub fn inner_health(&self, name: &str) -> Option<HealthReport> {
        self.shared.inner_health(name)
    }

    /// The inner tools whose definitions changed after they were first seen, by name. Empty unless the layer
    /// [pins](super::RegistryLayerBuilder::pin_inner_tools) them.
    pub fn quarantined(&self) -> Vec<Quarantined> {
        let pins = self.shared.pins.as_ref();
        pins.map_or_else(Vec::new, |pins| pins.quarantine())
    }

    /// Accepts a quarantined tool's definition as it is now: it is listed and called again.
    ///
    /// # Errors
    ///
    /// No such tool is in quarantine.
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

    /// The fingerprints of the inner tools' accepted definitions, by name: what to
    /// [begin with](super::RegistryLayerBuilder::pins) after a restart.
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

/// A version was asked for that there is not.
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
