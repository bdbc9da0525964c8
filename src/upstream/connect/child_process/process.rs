use std::{
    future::poll_fn,
    io,
    process::{ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use process_wrap::tokio::ChildWrapper;
use tokio::process::{ChildStdin, ChildStdout};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{ChildProcess, stderr::StderrTail};
use crate::{lines::Lines, upstream::end::Ended, util::lock};

/// The time the rest of a child's output is read after its end: a process that it started may hold
/// the output open.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

type Running = (Box<dyn ChildWrapper>, TaskTrackerToken);

/// A process and its group. Both are killed and waited for on drop.
pub(super) struct Process {
    running: Mutex<Option<Running>>,
    stderr: StderrTail,
    /// `true` if the process was sent a signal, so that its end is this process's doing.
    signalled: AtomicBool,
}

impl Process {
    pub(super) fn spawn(
        command: &ChildProcess,
        token: TaskTrackerToken,
    ) -> io::Result<(Self, Lines<ChildStdout, ChildStdin>)> {
        let mut wrap = command.command();
        wrap.command_mut()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Self {
            running: Mutex::new(Some((wrap.spawn()?, token))),
            stderr: StderrTail::default(),
            signalled: AtomicBool::new(false),
        };
        let (stdout, stdin, stderr) = {
            let mut running = process.running();
            let child = running.as_mut().map(|(child, _)| child);
            child
                .and_then(|child| {
                    let stdout = child.stdout().take()?;
                    Some((stdout, child.stdin().take()?, child.stderr().take()?))
                })
                .ok_or_else(|| io::Error::other("it has no standard streams"))?
        };
        process.stderr.follow(stderr, !command.quiet);
        let lines = Lines::from((stdout, stdin)).max_message_bytes(command.max_message_bytes);
        Ok((process, lines))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        lock(&self.running)
    }

    /// Resolves when the process has ended, with its status if that is known. Only one task may
    /// wait at a time.
    pub(super) async fn exit(&self) -> Option<ExitStatus> {
        let waited = poll_fn(|context| match &mut *self.running() {
            // A wait that is dropped and begun again misses nothing.
            Some((child, _)) => child.wait().as_mut().poll(context).map(Some),
            None => None.into(),
        });
        match waited.await? {
            Ok(status) => Some(status),
            Err(error) => {
                tracing::warn!(%error, "a child process cannot be waited for");
                None
            }
        }
    }

    pub(super) async fn exits_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.exit()).await.is_ok()
    }

    /// Returns how the process ended by itself. Returns `None` if it still runs after the limit, or
    /// was told to end.
    pub(super) async fn ended_by_itself(&self, limit: Duration) -> Option<Ended> {
        let status = tokio::time::timeout(limit, self.exit()).await.ok()??;
        if self.signalled.load(Ordering::Acquire) {
            return None;
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.stderr.ended()).await;
        Some(Ended::new(
            format!("the child process ended ({status})"),
            &self.stderr.lines(),
        ))
    }

    /// Waits a little until the process's standard error has been passed on.
    pub(super) async fn say_last_words(&self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.stderr.ended()).await;
    }

    /// Asks the group to end.
    pub(super) fn terminate(&self) {
        #[cfg(unix)]
        if let Some((child, _)) = &*self.running() {
            /// The number of this signal in POSIX.
            const SIGTERM: i32 = 15;
            self.signalled.store(true, Ordering::Release);
            if let Err(error) = child.signal(SIGTERM) {
                tracing::debug!(%error, "a child process cannot be asked to end");
            }
        }
    }

    /// Kills the rest of the group synchronously: a program that is ending runs no more tasks.
    pub(super) fn kill(&self) {
        if let Some((child, _)) = &mut *self.running() {
            self.signalled.store(true, Ordering::Release);
            if let Err(error) = child.start_kill() {
                tracing::trace!(%error, "nothing is left of a child process");
            }
        }
    }

    /// Forgets a process that has ended.
    pub(super) fn forget(&self) {
        self.running().take();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let running = self.running().take();
        if let (Some((mut child, token)), Ok(runtime)) =
            (running, tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = child.wait().await;
                drop(token);
            });
        }
    }
}
