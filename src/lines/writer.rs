use std::{
    io,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::Mutex as AsyncMutex,
};

use super::begun;
use crate::{util::lock, wire};

/// The capacity of a buffer that is kept after a long line.
const KEEP: usize = 64 * 1024;

/// The writer of lines. Its clones are the same writer.
///
/// A line takes its position in the order at once. Lines that wait while others are written leave
/// in one piece.
pub(crate) struct LineWriter<W>(Arc<Shared<W>>);

struct Shared<W> {
    queue: Mutex<Queue>,
    output: AsyncMutex<Output<W>>,
}

/// The lines that wait.
#[derive(Default)]
struct Queue {
    text: Vec<u8>,
    /// The number of lines so far. It is the number of the last one.
    count: u64,
}

struct Output<W> {
    /// `None` once it is closed.
    writer: Option<W>,
    /// The lines that are being written, from `at` on.
    text: Vec<u8>,
    at: usize,
    /// The number of the last line in the text.
    last: u64,
    /// The number of the last line that is written.
    written: u64,
    failed: Option<Failure>,
}

/// The failure of a writer.
#[derive(Clone, Copy)]
enum Failure {
    System(i32),
    Other(io::ErrorKind),
}

impl<W> Clone for LineWriter<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: AsyncWrite + Unpin + Send + 'static> LineWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(Arc::new(Shared {
            queue: Mutex::default(),
            output: AsyncMutex::new(Output {
                writer: Some(writer),
                text: Vec::new(),
                at: 0,
                last: 0,
                written: 0,
                failed: None,
            }),
        }))
    }

    /// Writes a message as a line. If the future is dropped, the line leaves with the next one.
    pub(crate) fn write<M: AsRef<[u8]>>(
        &self,
        message: serde_json::Result<M>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let number = message.map(|message| self.push(message.as_ref()));
        let shared = self.0.clone();
        begun(async move { shared.write_to(number?).await })
    }

    /// Adds a line to the queue, and returns its number.
    pub(super) fn push(&self, message: &[u8]) -> u64 {
        let mut queue = lock(&self.0.queue);
        queue.text.reserve(message.len() + 1);
        wire::put_on_line(&mut queue.text, message);
        queue.text.push(b'\n');
        queue.count += 1;
        queue.count
    }

    /// Writes the lines of the queue, up to this one at least.
    pub(super) async fn write_to(&self, number: u64) -> io::Result<()> {
        self.0.write_to(number).await
    }

    /// Closes the writer after the lines that are being written.
    pub(super) async fn close(&self) {
        self.0.output.lock().await.writer.take();
    }
}

impl<W: AsyncWrite + Unpin> Shared<W> {
    async fn write_to(&self, number: u64) -> io::Result<()> {
        let mut output = self.output.lock().await;
        while output.written < number {
            output.take_lines(&self.queue);
            output.write().await?;
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Unpin> Output<W> {
    /// Takes the lines of the queue, once those before are written.
    fn take_lines(&mut self, queue: &Mutex<Queue>) {
        if self.at < self.text.len() {
            return;
        }
        self.at = 0;
        self.text.clear();
        self.text.shrink_to(KEEP);
        let mut queue = lock(queue);
        std::mem::swap(&mut self.text, &mut queue.text);
        self.last = queue.count;
    }

    /// Writes the lines. Dropped and started again, it loses nothing.
    async fn write(&mut self) -> io::Result<()> {
        if let Some(failed) = self.failed {
            return Err(failed.into());
        }
        let writer = self.writer.as_mut().ok_or_else(super::closed)?;
        let written = async {
            while self.at < self.text.len() {
                match writer.write(&self.text[self.at..]).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    count => self.at += count,
                }
            }
            writer.flush().await
        };
        match written.await {
            Ok(()) => self.written = self.last,
            Err(error) => {
                self.failed = Some(Failure::of(&error));
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(code) => Self::System(code),
            None => Self::Other(error.kind()),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::System(code) => Self::from_raw_os_error(code),
            Failure::Other(kind) => kind.into(),
        }
    }
}
