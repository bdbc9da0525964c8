//! What `Upstream` promises about the processes it starts. The children are shell scripts, so this
//! is for Unix.

#![cfg(unix)]
#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;
mod ending;
mod environment;
mod failing;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rmcp_layers::{ChildProcess, Lifecycle, Upstream};

/// Answers `initialize`, and leaves the rest to what follows in the script.
const HANDSHAKE: &str = r#"
    read -r line
    id=${line##*\"id\":}
    id=${id%%[!0-9]*}
    about='"capabilities":{},"serverInfo":{"name":"script","version":"0"}'
    echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25",'$about'}}'
"#;

/// A child that runs a script of `sh`.
fn script(text: &str) -> ChildProcess {
    ChildProcess::new("sh").args(["-c", text])
}

/// A child that completes the handshake and then runs a script.
fn server(text: &str) -> ChildProcess {
    script(&format!("{HANDSHAKE}\n{text}"))
}

fn upstream(child: ChildProcess) -> Upstream {
    Upstream::builder()
        .name("script")
        .lifecycle(Lifecycle::Initialize)
        .reconnect_in_background(false)
        .child_process(child)
}

/// A directory of a test's own.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rmcp-layers-child-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The file's text, once it is there.
    async fn read(&self, name: &str) -> String {
        let path = self.join(name);
        common::soon(name, async {
            loop {
                match fs::read_to_string(&path) {
                    Ok(text) if text.ends_with('\n') => return text,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether the process runs. A zombie does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    stat.is_ok_and(|stat| {
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        !after_name.trim_start().starts_with(['Z', 'X'])
    })
}

/// A process that has been killed has a moment to end.
async fn gone(pid: &str) {
    let gone = async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_millis(300), gone).await;
    assert!(gone.is_ok(), "{pid} runs");
}
