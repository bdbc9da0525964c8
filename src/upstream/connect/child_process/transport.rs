//! A child process, as a transport.

use std::{io, sync::Arc};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    process::{ChildStdin, ChildStdout},
    time::{Duration, Instant, timeout, timeout_at},
};
use tokio_util::bytes::Bytes;

use super::process::{LAST_WORDS, Process};
use crate::{
    lines::LineWriter,
    upstream::{
        connect::{direct_lines::LineOutput, lines::ClientLines},
        end::End,
    },
    wire,
};

/// The time a child may take to end once its standard input is closed.
pub(super) const INPUT_CLOSED: Duration = Duration::from_secs(1);

/// The time a child may take to end after `SIGTERM`.
pub(super) const TERMINATED: Duration = Duration::from_secs(1);

/// The time a killed child is waited for: the operating system may still be at work for it.
pub(super) const REAP: Duration = Duration::from_millis(500);

/// A child process, as a transport.
///
/// rmcp's own transport does not see that a child has ended while a process that the child started
/// holds its output. It also leaves the killing of a dropped child to a task, which never runs when
/// the program is ending.
pub(super) struct Child {
    pub(super) lines: ClientLines<ChildStdout, ChildStdin>,
    pub(super) input: ChildInput,
    pub(super) process: Arc<Process>,
    pub(super) end: End,
    /// The time until which output is still read, once the child has ended.
    pub(super) last_words: Option<Instant>,
}

/// The input of a child.
#[derive(Clone)]
pub(super) struct ChildInput {
    pub(super) lines: LineWriter<ChildStdin>,
    pub(super) end: End,
}

impl LineOutput for ChildInput {
    fn write(
        &self,
        message: serde_json::Result<Bytes>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let writing = self.lines.write(message);
        let end = self.end.clone();
        async move {
            let written = tokio::select! {
                biased;
                written = writing => written,
                // A child that reads nothing does not delay its own end.
                () = end.closing() => return Err(io::ErrorKind::NotConnected.into()),
            };
            if written.is_err() {
                // The child's exit says more than the closed input.
                let _ = timeout(LAST_WORDS, end.known()).await;
            }
            written
        }
    }
}

impl Transport<RoleClient> for Child {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.input.write(wire::to_server(item))
    }

    /// This future is cancel-safe: dropped and started again, it loses nothing.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.next().await;
        if message.is_none() {
            note_end(&self.process, &self.end, LAST_WORDS).await;
        }
        message
    }

    /// Closes in the order of MCP 2025-11-25, basic/lifecycle, shutdown.
    async fn close(&mut self) -> io::Result<()> {
        self.end.start_closing();
        let terminate_at = Instant::now() + INPUT_CLOSED;
        let _ = timeout_at(terminate_at, self.lines.close()).await;
        let mut ended = timeout_at(terminate_at, self.process.exit()).await.is_ok();
        if !ended {
            self.process.terminate();
            ended = self.process.exits_within(TERMINATED).await;
        }
        self.process.kill();
        if ended || self.process.exits_within(REAP).await {
            self.process.say_last_words().await;
            self.process.forget();
        }
        Ok(())
    }
}

impl Child {
    /// Returns the next message. Returns `None` at the end of the child or of its output.
    async fn next(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let until = match self.last_words {
            Some(until) => until,
            None => {
                tokio::select! {
                    biased;
                    message = self.lines.receive() => return message,
                    _ = self.process.exit() => {}
                }
                *self.last_words.insert(Instant::now() + LAST_WORDS)
            }
        };
        timeout_at(until, self.lines.receive()).await.ok().flatten()
    }
}

/// Records how a child ended by itself, if it does so within the limit.
pub(super) async fn note_end(process: &Process, end: &End, limit: Duration) {
    if end.get().is_some() || end.is_closing() {
        return;
    }
    if let Some(ended) = process.ended_by_itself(limit).await {
        tracing::debug!(how = %ended.how, "a child process ended");
        end.set(ended);
    }
}
