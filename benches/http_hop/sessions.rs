//! The memory of idle sessions.

use std::time::Duration;

use crate::common::{
    figure,
    lean::{HttpCaller, Revision, Tool},
    process::{Process, resident},
};

/// Sessions that a process has had before the first measurement, so that what it makes once is not
/// counted.
const BEFORE: usize = 200;
const SESSIONS: usize = 2_000;
/// The time in which what a session's beginning left behind is cleared up.
const SETTLE: Duration = Duration::from_millis(500);

/// Measures processes of its own, whose memory has not been used for calls.
pub async fn measure() {
    let server = Process::start_own(&["serve"]);
    let gateway = Process::start_own(&["gateway", &server.url]);
    // The gateway's sessions share its one connection to the server.
    if let Some(bytes) = bytes(&gateway).await {
        figure("session_bytes", bytes, "bytes");
    }
    if let Some(bytes) = bytes(&server).await {
        figure("rmcp_session_bytes", bytes, "bytes");
    }
}

/// Returns the memory of a session that has made one call and is idle.
async fn bytes(process: &Process) -> Option<f64> {
    let text = "hello".to_owned();
    let tool = Tool { name: "echo", text };
    let url = format!("{}/events", process.url);
    let sessions =
        async |count| HttpCaller::sessions(&url, &tool, Revision::V_2025_06_18, count).await;
    sessions(BEFORE).await;
    tokio::time::sleep(SETTLE).await;
    let before = resident(process.id())?;
    sessions(SESSIONS).await;
    tokio::time::sleep(SETTLE).await;
    Some((resident(process.id())? - before) / SESSIONS as f64)
}
