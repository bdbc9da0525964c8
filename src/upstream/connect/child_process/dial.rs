//! The way to start a child process and to connect to it.

use std::sync::Arc;

use futures::future::BoxFuture;
use tokio::time::{Duration, Instant, timeout_at};
use tokio_util::task::TaskTracker;

use super::{
    command::ChildProcess,
    process::Process,
    transport::{Child, ChildInput, INPUT_CLOSED, REAP, TERMINATED, note_end},
};
use crate::{
    Error,
    upstream::{
        connect::{direct_lines::DirectLines, lines::ClientLines},
        connection::{Connection, Handshake, Kind, TransportProfile},
        end::{End, Ended},
        errors,
        reconnect::Dial,
        route::Routes,
    },
};

/// A dialer that starts a child process for each connection.
pub(super) struct ChildProcessDial {
    pub(super) command: Arc<ChildProcess>,
    pub(super) handshake: Handshake,
    /// The children that have not ended yet, or have not been waited for.
    pub(super) children: TaskTracker,
}

impl Dial for ChildProcessDial {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let command = self.command.clone();
        let handshake = self.handshake.clone();
        let token = self.children.token();
        Box::pin(async move {
            let upstream = handshake.upstream.clone();
            let (process, lines) = Process::spawn(&command, token).map_err(|error| {
                let mut what = format!("cannot start `{}`", command.program.to_string_lossy());
                // The operating system has the same error for a missing program.
                if let Some(dir) = command.current_dir.as_ref().filter(|dir| !dir.is_dir()) {
                    what.push_str(&format!(
                        " in `{}`, which is not a directory",
                        dir.display()
                    ));
                }
                errors::of_spawn(&upstream, &what, error)
            })?;
            let process = Arc::new(process);
            let end = End::default();
            let input = ChildInput {
                lines: lines.writer().clone(),
                end: end.clone(),
            };
            let direct = DirectLines::new(input.clone(), &handshake);
            let transport = |routes: Arc<Routes>| Child {
                lines: ClientLines::new(lines, routes),
                input,
                process: process.clone(),
                end: end.clone(),
                last_words: None,
            };
            let profile = TransportProfile {
                end: end.clone(),
                direct: Some(Box::new(direct)),
                ..TransportProfile::of(Kind::Other)
            };
            match Connection::establish_with(transport, handshake, profile).await {
                Ok(connection) => Ok(connection),
                Err(error) if errors::is_refused_handshake(&error) => Err(error),
                // The process is kept until here, so that it is not killed before its own end is
                // known.
                Err(error) => {
                    note_end(&process, &end, ENDING).await;
                    Err(with_end(error, end.get()))
                }
            }
        })
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let children = self.children.clone();
        children.close();
        // A child that connected at this very moment may need all of the time.
        let until = Instant::now() + INPUT_CLOSED + TERMINATED + REAP;
        Box::pin(async move {
            if timeout_at(until, children.wait()).await.is_err() {
                tracing::warn!("a child process that was killed has not ended");
            }
        })
    }
}

/// Adds to a failed attempt to connect how the child ended.
fn with_end(error: Error, ended: Option<&Ended>) -> Error {
    match (error, ended) {
        (Error::Transport(error), Some(ended)) => {
            let message = format!("cannot connect: {}", ended.how);
            ended.explain(error.with_message(message)).into()
        }
        (error, _) => error,
    }
}

/// The time a child whose handshake failed may take to end by itself, so that its status is known.
const ENDING: Duration = Duration::from_millis(500);
