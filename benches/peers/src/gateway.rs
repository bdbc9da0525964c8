//! `examples/gateway` as a process.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::process::Process;

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");

/// The gateway, and its file, which is removed at the end.
pub struct Gateway {
    process: Option<Process>,
    file: PathBuf,
}

impl Gateway {
    /// Builds the example and starts it in front of the server at `url`.
    pub fn start(url: &str) -> Self {
        let program = build();
        let name = format!("rmcp-layers-peers-{}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        let text = format!("[servers.echo]\nurl = \"{url}\"\n");
        std::fs::write(&file, text).expect("a file for the gateway's settings");
        let mut command = Command::new(program);
        command.arg("--config").arg(&file);
        command.args(["--listen", "127.0.0.1:0"]);
        let process = Some(Process::start(&mut command));
        Self { process, file }
    }

    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs until it is dropped")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It does not end with its standard input.
        if let Some(process) = self.process.take() {
            process.kill();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// Builds the example in release mode, and returns where it is.
fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "--example", "gateway"])
        .args(["--message-format", "json-render-diagnostics"])
        .args(["--manifest-path", MANIFEST])
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "the gateway does not build");
    let messages = String::from_utf8_lossy(&built.stdout);
    let executable = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    executable.expect("the program")
}
