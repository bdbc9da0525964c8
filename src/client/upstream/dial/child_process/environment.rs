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

/// Which variables a child has.
#[derive(Clone, Default)]
pub(super) struct Environment {
    /// Inherited beside [`INHERITED`].
    pub(super) inherited: Vec<OsString>,
    pub(super) inherits_all: bool,
    /// Never inherited.
    pub(super) withheld: Vec<OsString>,
    /// Set for the child, whatever it inherits.
    pub(super) set: Vec<(OsString, OsString)>,
}

impl Environment {
    /// Gives the command these variables, and no other. What is inherited is read now.
    pub(super) fn apply(&self, command: &mut Command) {
        if !self.inherits_all {
            command.env_clear();
            for name in INHERITED {
                // Some shells pass functions on as variables. They are code, and no server needs
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

/// Names the variables without their values.
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
