use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::ChildStderr,
};
use tokio_util::sync::CancellationToken;

use crate::util::lock;

/// Limit of the standard error that is kept of a child, in bytes.
const MAX_BYTES: usize = 4 * 1024;
/// Limit of the lines that an error quotes.
const MAX_LINES: usize = 20;

/// The end of what a child wrote to its standard error.
#[derive(Clone, Default)]
pub(super) struct StderrTail {
    kept: Arc<Mutex<VecDeque<u8>>>,
    ended: CancellationToken,
}

impl StderrTail {
    /// Reads a child's standard error to its end. Passes it on to this process's standard error if
    /// `forward` is set.
    ///
    /// The output is read as long as it is open, also by processes that the child left behind: a
    /// writer whose pipe has no reader is killed.
    pub(super) fn follow(&self, mut stderr: ChildStderr, forward: bool) {
        let tail = self.clone();
        let ended = self.ended.clone().drop_guard();
        tokio::spawn(async move {
            let _ended = ended;
            let mut out = forward.then(tokio::io::stderr);
            let mut buffer = vec![0; MAX_BYTES];
            loop {
                let read = match stderr.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => &buffer[..read],
                };
                tail.keep(read);
                if let Some(writer) = &mut out
                    && (writer.write_all(read).await.is_err() || writer.flush().await.is_err())
                {
                    out = None;
                }
            }
        });
    }

    fn keep(&self, read: &[u8]) {
        let mut kept = lock(&self.kept);
        let excess = (kept.len() + read.len()).saturating_sub(MAX_BYTES);
        let excess = excess.min(kept.len());
        kept.drain(..excess);
        kept.extend(read);
    }

    /// Resolves at the end of the child's standard error.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Returns the last lines without control characters, which could forge lines of a log or
    /// control a terminal.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut kept = lock(&self.kept);
        let text = String::from_utf8_lossy(kept.make_contiguous());
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(MAX_LINES);
        let plain = |line: &str| {
            line.chars()
                .filter(|character| *character == '\t' || !character.is_control())
                .collect()
        };
        lines[first..].iter().map(|line| plain(line)).collect()
    }
}
