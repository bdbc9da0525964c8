use std::{fmt, io};

use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::bytes::{Buf, Bytes, BytesMut};

use super::{
    envelope::{Envelope, Kind},
    start::Start,
};
use crate::protocol::json_text::{BYTE_ORDER_MARK, may_have_surrogates, replace_lone_surrogates};

/// The minimum free space of a read.
const READ: usize = 8 * 1024;
/// The buffer capacity that is kept after a long line.
const KEEP: usize = 64 * 1024;

/// A line that cannot be read.
#[derive(Debug)]
pub(crate) struct UnreadableLine {
    pub(crate) kind: Kind,
    pub(crate) why: LineError,
}

/// The reason why a line cannot be read. It has none of the line's content, because it may be
/// reported to another peer than the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineError {
    TooLong { limit: usize },
    NoJson { line: usize, column: usize },
    NoMessage,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { limit } => {
                write!(f, "it is longer than `max_message_bytes`, {limit} bytes")
            }
            Self::NoJson { line: 1, column } => write!(f, "it is not JSON (column {column})"),
            Self::NoJson { line, column } => {
                write!(f, "it is not JSON (line {line}, column {column})")
            }
            Self::NoMessage => f.write_str("it is JSON, but not an MCP message"),
        }
    }
}

/// Lines of bounded length.
pub(super) struct Reader<R> {
    read: R,
    buffer: BytesMut,
    /// The length of the buffer's prefix that has no end of a line.
    searched: usize,
    max: usize,
    /// The facts of a line that is too long, while the rest of it is discarded.
    skipping: Option<Envelope>,
    /// The text after the last message on its line.
    rest: Bytes,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(read: R, max: usize) -> Self {
        Self {
            read,
            buffer: BytesMut::new(),
            searched: 0,
            max,
            skipping: None,
            rest: Bytes::new(),
        }
    }

    pub(super) fn limit(&mut self, max: usize) {
        self.max = max;
    }

    /// Returns the next message, one for each line that is not blank. Returns `None` at the end; an
    /// unfinished line is not a message.
    pub(super) async fn next<M>(
        &mut self,
        read: &impl Read<M>,
    ) -> io::Result<Option<Result<M, UnreadableLine>>> {
        loop {
            if let Some(message) = self.next_on_line(read) {
                return Ok(Some(message));
            }
            while let Some(line) = self.take_line() {
                if let Some(message) = self.parse(line.freeze(), read) {
                    return Ok(Some(message));
                }
            }
            // If the future is dropped here, nothing is lost: read bytes are in the buffer.
            self.buffer.reserve(READ);
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Returns a line, if the buffer has the end of one. Of a line that is too long, only the last
    /// piece is returned.
    fn take_line(&mut self) -> Option<BytesMut> {
        let end = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        let Some(end) = end else {
            if let Some(envelope) = &mut self.skipping {
                envelope.feed(&self.buffer);
                self.buffer.clear();
            } else if self.buffer.len() > self.max {
                self.skipping = Some(Envelope::of(&self.buffer));
                self.buffer = BytesMut::new();
            }
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end);
        self.buffer.advance(1);
        self.searched = 0;
        if line.len() > KEEP {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
        Some(line)
    }

    fn parse<M>(&mut self, line: Bytes, read: &impl Read<M>) -> Option<Result<M, UnreadableLine>> {
        let limit = self.max;
        if let Some(mut envelope) = self.skipping.take() {
            envelope.feed(&line);
            return Some(Err(UnreadableLine {
                kind: envelope.kind(),
                why: LineError::TooLong { limit },
            }));
        }
        let mark = match line.starts_with(BYTE_ORDER_MARK) {
            true => BYTE_ORDER_MARK.len(),
            false => 0,
        };
        let json = line.slice(mark..);
        if json.trim_ascii().is_empty() {
            return None;
        }
        if json.len() > limit {
            return Some(Err(UnreadableLine::new(
                &line,
                LineError::TooLong { limit },
            )));
        }
        // A part of a message that no type has may be one that only text can hold.
        let json = match may_have_surrogates(&json) {
            true => replace_lone_surrogates(&json).map_or(json, Bytes::from),
            false => json,
        };
        match read(&json) {
            Ok(message) => Some(Ok(message)),
            Err(error) => Some(self.parse_otherwise(line, &error, read)),
        }
    }

    /// Reads a line that is not exactly one message.
    fn parse_otherwise<M>(
        &mut self,
        line: Bytes,
        error: &serde_json::Error,
        read: &impl Read<M>,
    ) -> Result<M, UnreadableLine> {
        let line = match replace_lone_surrogates(&line) {
            Some(replaced) => Bytes::from(replaced),
            None => line,
        };
        match Start::of(&line) {
            Some(start) => self.parse_first(line, start, read),
            None => Err(UnreadableLine::new(&line, error.into())),
        }
    }

    /// Reads the next message on the line of the last one.
    fn next_on_line<M>(&mut self, read: &impl Read<M>) -> Option<Result<M, UnreadableLine>> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.rest);
        let start = Start::of(&rest)?;
        Some(self.parse_first(rest, start, read))
    }

    /// Reads the first of several documents. The rest of the line is read by the next call, so a
    /// line takes time in proportion to its length.
    fn parse_first<M>(
        &mut self,
        mut line: Bytes,
        start: Start,
        read: &impl Read<M>,
    ) -> Result<M, UnreadableLine> {
        line.advance(start.at);
        let end = end_of_document(&line);
        let document = line.split_to(end.unwrap_or(line.len()));
        self.rest = line;
        match read(&document).map_err(|error| LineError::from(&error)) {
            Ok(message) if !start.after_text => Ok(message),
            // A log line may quote any message. If it quotes an answer, the next answer with its id
            // is ignored.
            Ok(message) if matches!(Envelope::of(&document).kind(), Kind::Answer(_)) => Ok(message),
            // As a whole, the line is not JSON from its start.
            Ok(_) => Err(UnreadableLine::noise(LineError::NoJson {
                line: 1,
                column: 1,
            })),
            Err(why) if start.after_text => Err(UnreadableLine::noise(why)),
            Err(why) => Err(UnreadableLine::new(&document, why)),
        }
    }
}

/// Reads a message from its text.
pub(super) trait Read<M>: Fn(&Bytes) -> serde_json::Result<M> {}

impl<M, F: Fn(&Bytes) -> serde_json::Result<M>> Read<M> for F {}

/// Returns the end of the first JSON text in `line`.
fn end_of_document(line: &[u8]) -> Option<usize> {
    let mut documents = serde_json::Deserializer::from_slice(line).into_iter::<IgnoredAny>();
    documents.next()?.ok()?;
    Some(documents.byte_offset())
}

/// Returns `true` if a line is meant as a batch of messages.
fn is_batch(line: &[u8]) -> bool {
    let messages = line.trim_ascii_start().strip_prefix(b"[");
    messages.is_some_and(|messages| {
        messages.trim_ascii_start().starts_with(b"{")
            && memchr::memmem::find(messages, br#""jsonrpc""#).is_some()
    })
}

impl UnreadableLine {
    pub(crate) fn new(line: &[u8], why: LineError) -> Self {
        let kind = match Envelope::of(line).kind() {
            Kind::Noise if is_batch(line) => Kind::Answer(None),
            kind => kind,
        };
        Self { kind, why }
    }

    /// Creates the report on one message of a line.
    pub(crate) fn of(message: &[u8], error: &serde_json::Error) -> Self {
        Self::new(message, error.into())
    }

    fn noise(why: LineError) -> Self {
        Self {
            kind: Kind::Noise,
            why,
        }
    }
}

impl From<&serde_json::Error> for LineError {
    fn from(error: &serde_json::Error) -> Self {
        if error.is_data() {
            return Self::NoMessage;
        }
        Self::NoJson {
            line: error.line(),
            column: error.column(),
        }
    }
}

impl<R> Reader<R> {
    pub(super) fn max(&self) -> usize {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmcp::model::RequestId;
    use serde_json::{Value, json};
    use tokio::io::AsyncWriteExt;

    fn value(line: &Bytes) -> serde_json::Result<Value> {
        serde_json::from_slice(line)
    }

    #[tokio::test]
    async fn a_line_of_any_length_takes_bounded_memory() {
        const LIMIT: usize = 32 * 1024;
        let (mut write, read) = tokio::io::duplex(4096);
        let mut reader = Reader::new(read, LIMIT);
        let writing = tokio::spawn(async move {
            let piece = "[1,2]".repeat(1024);
            write.write_all(b"{\"result\":[").await.unwrap();
            for _ in 0..2_000 {
                write.write_all(piece.as_bytes()).await.unwrap();
            }
            let end = b"],\"jsonrpc\":\"2.0\",\"id\":7}\n{\"id\":8}\n";
            write.write_all(end).await.unwrap();
            write
        });
        let mut most = 0;
        let broken = loop {
            // The future is dropped and restarted, as it is in a `select!` loop.
            let next = reader.next(&value);
            match tokio::time::timeout(std::time::Duration::ZERO, next).await {
                Ok(line) => break line.unwrap().unwrap().unwrap_err(),
                Err(_) => most = most.max(reader.buffer.capacity()),
            }
        };
        assert_eq!(broken.kind, Kind::Answer(Some(RequestId::Number(7))));
        assert_eq!(broken.why, LineError::TooLong { limit: LIMIT });
        assert!(most <= 4 * LIMIT, "{most}");
        let next = reader.next(&value).await.unwrap().unwrap().unwrap();
        assert_eq!(next, json!({ "id": 8 }));
        drop(writing.await.unwrap());
        assert!(reader.next(&value).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_line_may_be_as_long_as_the_limit() {
        let text = b"\xEF\xBB\xBF{\"a\":1}\r\n\n  \r\n{\"a\":12}\n{\"a\":123}\n";
        let mut reader = Reader::new(&text[..], "{\"a\":12}".len());
        for number in [1, 12] {
            let line = reader.next(&value).await.unwrap().unwrap().unwrap();
            assert_eq!(line["a"], number);
        }
        let broken = reader.next(&value).await.unwrap().unwrap().unwrap_err();
        assert_eq!(broken.why, LineError::TooLong { limit: 8 });
        assert!(reader.next(&value).await.unwrap().is_none());
    }
}
