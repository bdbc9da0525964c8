//! A lean caller over the standard input and output of a child process.

use std::{
    cell::Cell,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
};

use super::{
    Turn, median_us,
    message::{Call, INITIALIZED, Revision, Tool, find, initialize},
    repeated, within,
};

/// The time that a child may take to end when its input has ended.
const LEAVE: Duration = Duration::from_secs(5);

/// A caller of one tool of a child process.
pub struct PipeCaller {
    child: Child,
    input: ChildStdin,
    output: Lines,
    call: Call,
}

impl PipeCaller {
    /// Starts the process, and shakes hands if the revision does.
    pub async fn start(mut command: Command, tool: &Tool, revision: Revision) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the process starts");
        let mut input = child.stdin.take().expect("its standard input");
        let stdout = child.stdout.take().expect("its standard output");
        let mut output = Lines {
            stdout: BufReader::with_capacity(64 * 1024, stdout),
            line: Vec::new(),
        };
        if revision.has_handshake() {
            within(Duration::ZERO, async {
                let request = initialize(revision) + "\n";
                input.write_all(request.as_bytes()).await.expect("a pipe");
                output.next().await;
                let notification = format!("{INITIALIZED}\n");
                let written = input.write_all(notification.as_bytes()).await;
                written.expect("a pipe");
            })
            .await;
        }
        let call = Call::new(tool, revision).before(b"\n");
        Self {
            child,
            input,
            output,
            call,
        }
    }

    /// Returns the id of the process.
    pub fn process(&self) -> u32 {
        self.child.id().expect("the process runs")
    }

    async fn call(&mut self) {
        let request = self.call.next();
        self.input.write_all(request).await.expect("a pipe");
        let id = self.call.answered(self.output.next().await);
        assert_eq!(id, self.call.id());
    }

    /// Calls one after the other for `time`. Returns the median time of a call in microseconds.
    pub async fn alone(&mut self, time: Duration) -> f64 {
        let calls = repeated(time, async || self.call().await);
        median_us(&mut within(time, calls).await)
    }

    /// Keeps `calls` calls in flight for `time`, each written by itself.
    pub async fn together(&mut self, calls: usize, time: Duration) -> Turn {
        let started = Instant::now();
        let first = self.call.id() + 1;
        let checks = self.call.clone();
        let (free, sent) = (Semaphore::new(calls), Cell::new(0));
        let ended = Cell::new(false);
        let write = async {
            while started.elapsed() < time {
                let place = free.acquire().await.expect("an open semaphore");
                place.forget();
                let written = self.input.write_all(self.call.next()).await;
                written.expect("a pipe");
                sent.set(sent.get() + 1);
            }
            // The last request is in flight, so that its answer ends the turn.
            ended.set(true);
        };
        let read = async {
            let mut answered = Vec::new();
            let mut count = 0;
            while !ended.get() || count < sent.get() {
                let id = checks.answered(self.output.next().await);
                let at = (id - first) as usize;
                answered.resize(answered.len().max(at + 1), false);
                assert!(!answered[at], "request {id} was answered twice");
                answered[at] = true;
                count += 1;
                free.add_permits(1);
            }
        };
        within(time, async { tokio::join!(write, read) }).await;
        Turn {
            calls: sent.get(),
            time: started.elapsed(),
        }
    }

    /// Closes the input, and waits until the process has ended. One that does not end is killed.
    pub async fn leave(mut self) {
        drop(self.input);
        if tokio::time::timeout(LEAVE, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
    }
}

struct Lines {
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Lines {
    /// Returns the next answer. Notifications are skipped.
    async fn next(&mut self) -> &[u8] {
        loop {
            self.line.clear();
            let read = self.stdout.read_until(b'\n', &mut self.line).await;
            assert_ne!(read.expect("a pipe"), 0, "the process ended");
            let start = &self.line[..self.line.len().min(64)];
            if find(start, br#""method":"#).is_none() {
                return &self.line;
            }
        }
    }
}
