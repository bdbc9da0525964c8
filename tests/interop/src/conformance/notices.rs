//! Tools whose point is what they send while they run, and the listeners they send it to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::ErrorData;
use rmcp::model::*;
use rmcp::service::SubscriptionSink;
use serde_json::json;

use super::{Call, Everything, said};

/// The suite wants its notifications apart from each other, so that one read cannot swallow all.
const APART: Duration = Duration::from_millis(50);

/// The open `subscriptions/listen` requests of all callers.
#[derive(Clone, Default)]
pub struct Listeners(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    changes: Changes,
    sinks: HashMap<u64, SubscriptionSink>,
}

/// Keeps a listener registered; dropping it, on any way out of the request, removes it.
pub struct Registered {
    listeners: Listeners,
    key: u64,
}

/// How often tools and prompts have changed.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Changes {
    tools: u64,
    prompts: u64,
}

#[derive(Clone, Copy)]
enum Changed {
    Tools,
    Prompts,
}

impl Listeners {
    pub fn changes(&self) -> Changes {
        self.open().changes
    }

    /// Tells a listener of what has changed between its acknowledgment, which rmcp sends before it runs the
    /// listen, and now.
    pub async fn catch_up(&self, sink: &SubscriptionSink, since: Changes) {
        let now = self.changes();
        // As below, who did not ask is not told.
        if now.tools != since.tools {
            let _ = sink.notify_tool_list_changed().await;
        }
        if now.prompts != since.prompts {
            let _ = sink.notify_prompt_list_changed().await;
        }
    }

    pub fn add(&self, sink: SubscriptionSink) -> Registered {
        let mut open = self.open();
        let key = open.next;
        open.next += 1;
        open.sinks.insert(key, sink);
        Registered {
            listeners: self.clone(),
            key,
        }
    }

    async fn tell(&self, changed: Changed) {
        let sinks: Vec<_> = {
            let mut open = self.open();
            match changed {
                Changed::Tools => open.changes.tools += 1,
                Changed::Prompts => open.changes.prompts += 1,
            }
            open.sinks.values().cloned().collect()
        };
        for sink in sinks {
            // A sink refuses what its caller did not ask for, and one whose caller has left: both
            // are as they should be.
            let _ = match changed {
                Changed::Tools => sink.notify_tool_list_changed().await,
                Changed::Prompts => sink.notify_prompt_list_changed().await,
            };
        }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.listeners.open().sinks.remove(&self.key);
    }
}

impl Everything {
    pub(super) async fn notify(
        &self,
        call: &Call<'_>,
    ) -> Option<Result<CallToolResult, ErrorData>> {
        match call.name {
            "test_tool_with_logging" => {
                for line in ["started", "processing data", "completed"] {
                    let subject = if line == "processing data" {
                        "Tool"
                    } else {
                        "Tool execution"
                    };
                    self.log(call, format!("{subject} {line}")).await;
                    tokio::time::sleep(APART).await;
                }
            }
            "test_logging_tool" => self.log(call, "asked to log".to_owned()).await,
            "test_tool_with_progress" => report_progress(call).await,
            "test_reconnection" => tokio::time::sleep(2 * APART).await,
            "test_trigger_tool_change" => self.change(call, Changed::Tools).await,
            "test_trigger_prompt_change" => self.change(call, Changed::Prompts).await,
            _ => return None,
        }
        Some(Ok(said(format!("{} is done", call.name))))
    }

    /// Logs at `info`, to those who want it: since 2026-07-28 a request that names a level, before
    /// it a session that has not set a higher one.
    async fn log(&self, call: &Call<'_>, line: String) {
        let least = match is_stateless(call) {
            true => call.context.meta.log_level(),
            false => Some(self.log_level().unwrap_or(LoggingLevel::Debug)),
        };
        if !matches!(least, Some(LoggingLevel::Debug | LoggingLevel::Info)) {
            return;
        }
        let line = LoggingMessageNotificationParam::new(LoggingLevel::Info, json!(line));
        let line = line.with_logger("conformance");
        // A caller that has gone away cannot be told anything.
        let _ = call.context.peer.notify_logging_message(line).await;
    }

    async fn change(&self, call: &Call<'_>, changed: Changed) {
        self.listeners.tell(changed).await;
        if is_stateless(call) {
            return;
        }
        // A legacy session listens by being open.
        let _ = match changed {
            Changed::Tools => call.context.peer.notify_tool_list_changed().await,
            Changed::Prompts => call.context.peer.notify_prompt_list_changed().await,
        };
    }

    fn log_level(&self) -> Option<LoggingLevel> {
        *self
            .session
            .log_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_log_level(&self, level: LoggingLevel) {
        let mut kept = self
            .session
            .log_level
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(level);
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, std::collections::HashSet<String>> {
        self.session
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

async fn report_progress(call: &Call<'_>) {
    for step in [0.0, 50.0, 100.0] {
        if let Some(token) = call.context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, step)
                .with_total(100.0)
                .with_message(format!("{step} of 100"));
            let _ = call.context.peer.notify_progress(progress).await;
        }
        tokio::time::sleep(APART).await;
    }
}

fn is_stateless(call: &Call<'_>) -> bool {
    call.context
        .protocol_version()
        .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}
