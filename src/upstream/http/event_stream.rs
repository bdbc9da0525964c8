//! Event streams, read as the WHATWG standard says (HTML, section 9.2, server-sent events).
//!
//! rmcp's parser ends a stream at a line that the standard tells readers to ignore. The answer
//! further on is lost with it.

use std::collections::VecDeque;

use futures::{StreamExt, stream};
use rmcp::transport::{
    common::client_side_sse::BoxedSseResponse, streamable_http_client::SseError,
};
use sse_stream::Sse;
use tokio_util::bytes::{Buf, Bytes};

use super::answer::put_back;
use crate::{
    protocol::json_text::without_lone_surrogates, util::text::lossy, wire::answers::batch_in,
};

/// The byte order mark. A text may begin with it, and it is not part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The length from which a piece of a line is not copied until the line is complete.
const KEPT: usize = 4 * 1024;

/// The error for an event that is longer than the limit.
#[derive(Debug, thiserror::Error)]
#[error("it is longer than `max_response_bytes`, {max} bytes")]
pub(super) struct TooLong {
    pub(super) max: usize,
}

/// Returns the reason, if a stream ended at an event that is longer than the limit.
pub(super) fn too_long(error: &SseError) -> Option<&TooLong> {
    match error {
        SseError::Body(error) => error.downcast_ref(),
        _ => None,
    }
}

/// Returns the events of a response, each of at most `max` bytes.
pub(super) fn events(response: reqwest::Response, max: usize) -> BoxedSseResponse {
    let reading = Reading {
        response,
        parser: Parser::new(max),
        failed: None,
        ended: false,
    };
    stream::unfold(reading, |mut reading| async move {
        let event = reading.next().await?;
        Some((event, reading))
    })
    .fuse()
    .boxed()
}

struct Reading {
    response: reqwest::Response,
    parser: Parser,
    failed: Option<SseError>,
    ended: bool,
}

impl Reading {
    async fn next(&mut self) -> Option<Result<Sse, SseError>> {
        loop {
            if let Some(event) = self.parser.complete.pop_front() {
                return Some(Ok(event));
            }
            if self.ended {
                return self.failed.take().map(Err);
            }
            self.failed = match self.response.chunk().await {
                Ok(Some(chunk)) => match self.parser.feed(chunk) {
                    Ok(()) => continue,
                    Err(error) => Some(SseError::Body(Box::new(error))),
                },
                // The standard discards an event that is not complete.
                Ok(None) => None,
                Err(error) => Some(SseError::Body(Box::new(error.without_url()))),
            };
            self.ended = true;
        }
    }
}

/// A line that is not complete. Its long pieces are kept as they came: in one buffer that grows they
/// would be copied again and again.
#[derive(Default)]
struct Line {
    pieces: Vec<Bytes>,
    /// The short pieces after them.
    rest: Vec<u8>,
    length: usize,
}

impl Line {
    fn add(&mut self, piece: Bytes) {
        self.length += piece.len();
        if piece.len() < KEPT {
            return self.rest.extend_from_slice(&piece);
        }
        if !self.rest.is_empty() {
            self.pieces.push(std::mem::take(&mut self.rest).into());
        }
        self.pieces.push(piece);
    }

    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.pieces.iter().map(|piece| &**piece);
        pieces.chain(std::iter::once(&*self.rest))
    }

    /// Returns the first bytes: the byte order mark, the name of data, and a space.
    fn start(&self) -> Vec<u8> {
        let bytes = self.all().flatten().copied();
        bytes
            .take(BYTE_ORDER_MARK.len() + b"data: ".len())
            .collect()
    }

    /// Returns the line without its first bytes.
    fn without(&self, mut first: usize) -> Vec<u8> {
        let mut line = Vec::with_capacity(self.length.saturating_sub(first));
        for piece in self.all() {
            let skipped = first.min(piece.len());
            line.extend_from_slice(&piece[skipped..]);
            first -= skipped;
        }
        line
    }
}

/// Parses bytes, however they are split, into events.
struct Parser {
    /// Limit of an event's length: its lines, and an incomplete one.
    max: usize,
    complete: VecDeque<Sse>,
    /// The incomplete event, if one of its lines is complete.
    event: Option<Sse>,
    /// The length of its lines in bytes.
    length: usize,
    /// The incomplete line.
    line: Line,
    is_first_line: bool,
    /// `true` if the last byte was a carriage return. A line feed after it does not end a second
    /// line.
    after_return: bool,
}

impl Parser {
    fn new(max: usize) -> Self {
        Self {
            max,
            complete: VecDeque::new(),
            event: None,
            length: 0,
            line: Line::default(),
            is_first_line: true,
            after_return: false,
        }
    }

    fn feed(&mut self, mut bytes: Bytes) -> Result<(), TooLong> {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            skip_line_feed(&mut bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', &bytes) {
            self.has_room(end)?;
            if self.line.length == 0 {
                self.take(&bytes[..end]);
            } else {
                self.line.add(bytes.slice(..end));
                let line = std::mem::take(&mut self.line);
                self.take_long(line);
            }
            let is_return = bytes[end] == b'\r';
            bytes.advance(end + 1);
            self.after_return = is_return && bytes.is_empty();
            if is_return {
                skip_line_feed(&mut bytes);
            }
        }
        self.has_room(bytes.len())?;
        self.line.add(bytes);
        Ok(())
    }

    fn has_room(&self, more: usize) -> Result<(), TooLong> {
        let length = self.length.saturating_add(self.line.length);
        if length.saturating_add(more) > self.max {
            return Err(TooLong { max: self.max });
        }
        Ok(())
    }

    /// Takes a line that came in several pieces. The data of an event with a single line of it is
    /// copied once.
    fn take_long(&mut self, line: Line) {
        let has_data = || {
            self.event
                .as_ref()
                .is_some_and(|event| event.data.is_some())
        };
        let start = line.start();
        let start = match self.is_first_line {
            true => start.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&start),
            false => &start,
        };
        let Some(value) = start.strip_prefix(b"data:").filter(|_| !has_data()) else {
            return self.take(&line.without(0));
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        let before = line.start().len() - value.len();
        self.is_first_line = false;
        self.length = self.length.saturating_add(line.length + 1);
        let text = String::from_utf8(line.without(before));
        let text =
            text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        self.event.get_or_insert_default().data = Some(text);
    }

    /// Takes a line without its end.
    fn take(&mut self, mut line: &[u8]) {
        if std::mem::take(&mut self.is_first_line) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.is_empty() {
            self.length = 0;
            let mut event = self.event.take();
            if let Some(data) = event.as_mut().and_then(|event| event.data.as_mut())
                && let Some(text) = without_lone_surrogates(data)
            {
                *data = text;
            }
            let is_batch = |data: &String| data.trim_start().starts_with('[');
            match event {
                Some(event) if event.data.as_ref().is_some_and(is_batch) => {
                    self.complete.extend(single_messages(event));
                }
                event => self.complete.extend(event),
            }
            return;
        }
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if !is_meant(name, value) {
            return;
        }
        self.length = self.length.saturating_add(line.len() + 1);
        let event = self.event.get_or_insert_default();
        let text = lossy(value);
        match (name, &mut event.data) {
            (b"data", Some(data)) => {
                data.push('\n');
                data.push_str(&text);
            }
            (b"data", data) => *data = Some(text.into_owned()),
            (b"event", _) => event.event = Some(text.into_owned()),
            (b"id", _) => event.id = Some(text.into_owned()),
            // A number beyond 64 bits is not a waiting time.
            _ => event.retry = text.parse().ok().or(event.retry),
        }
    }
}

fn skip_line_feed(bytes: &mut Bytes) {
    if bytes.first() == Some(&b'\n') {
        bytes.advance(1);
    }
}

/// Returns an event for each message of a batch, the last with the `id`: the stream is resumed after
/// the whole batch. Returns any other event as it is.
fn single_messages(mut event: Sse) -> Vec<Sse> {
    let text = Bytes::from(event.data.take().unwrap_or_default());
    let Some(messages) = batch_in(&text) else {
        put_back(&mut event, text);
        return vec![event];
    };
    let mut events: Vec<_> = messages
        .into_iter()
        .map(|message| {
            let mut single = Sse {
                event: event.event.clone(),
                ..Sse::default()
            };
            put_back(&mut single, message);
            single
        })
        .collect();
    match events.last_mut() {
        Some(last) => (last.id, last.retry) = (event.id, event.retry),
        None => events.push(event),
    }
    events
}

/// Returns `true` if the standard knows the field and accepts its value. All other fields, comments
/// among them, are ignored.
fn is_meant(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"data" | b"event" => true,
        b"id" => !value.contains(&0),
        b"retry" => !value.is_empty() && value.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}
