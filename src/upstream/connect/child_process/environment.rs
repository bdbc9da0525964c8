use std::{ffi::OsString, fmt};

use tokio::process::Command;

/// The variables that every child inherits: those of the official Python and TypeScript SDKs.
#[cfg(not(windows))]
const INHERITED: &[&str] = &["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];
/// The variables that every child inherits: those of the official Python and TypeScript SDKs.
#[cfg(windows)]
const INHERITED: &[&str] = &[
    "APPDATA",
    "HOMEDRIVE",
    "HOMEPATH",
    "LOCALAPPDATA",
    "PATH",
    "PATHEXT",
    "PROCESSOR_ARCHITECTURE",
    "PROGRAMFILES",
    "SYSTEMDRIVE",
    "SYSTEMROOT",
    "TEMP",
    "USERNAME",
    "USERPROFILE",
];

/// The environment variables of a child.
#[derive(Clone, Default)]
pub(super) struct Environment {
    /// Variables inherited in addition to [`INHERITED`].
    pub(super) inherited: Vec<OsString>,
    pub(super) inherits_all: bool,
    /// Variables that are never inherited.
    pub(super) withheld: Vec<OsString>,
    /// Variables set for the child, whatever it inherits.
    pub(super) set: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Gives the command these variables, and no others. Inherited values are read at this time.
    pub(super) fn apply(&self, command: &mut Command) {
        if !self.inherits_all {
            command.env_clear();
            for name in INHERITED {
                // Some shells export functions as variables. They are code, and no server needs
                // them.
                if let Some(value) = std::env::var_os(name)
                    && !value.as_encoded_bytes().starts_with(b"()")
                {
                    command.env(name, value);
                }
            }
            for name in &self.inherited {
                if let Some(value) = std::env::var_os(name) {
                    command.env(name, value);
                }
            }
        }
        for name in &self.withheld {
            command.env_remove(name);
        }
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
    }
}

/// Shows the names of the variables without their values.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.set.iter().map(|(name, _)| name).collect();
        f.debug_struct("Environment")
            .field("inherited", &self.inherited)
            .field("inherits_all", &self.inherits_all)
            .field("withheld", &self.withheld)
            .field("set", &set)
            .finish()
    }
}
