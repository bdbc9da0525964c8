//! Progress: reports of handlers, and the layer that makes progress lawful and light.

#![expect(
    deprecated,
    reason = "rmcp marks what revision 2026-07-28 took away; older callers and servers use it"
)]

#[path = "../common/mod.rs"]
mod common;

mod layer;
mod reports;
mod timeouts;
mod transports;

use rmcp::model::{ProgressNotificationParam, ServerNotification};
use tokio::sync::mpsc;

/// What was recorded of progress.
fn reported(
    received: &mut mpsc::UnboundedReceiver<ServerNotification>,
) -> Vec<ProgressNotificationParam> {
    let mut reports = Vec::new();
    while let Ok(notification) = received.try_recv() {
        if let ServerNotification::ProgressNotification(progress) = notification {
            reports.push(progress.params);
        }
    }
    reports
}

fn values(reports: &[ProgressNotificationParam]) -> Vec<f64> {
    reports.iter().map(|report| report.progress).collect()
}

fn messages(reports: &[ProgressNotificationParam]) -> Vec<&str> {
    let messages = reports.iter().map(|report| report.message.as_deref());
    messages.map(Option::unwrap_or_default).collect()
}
