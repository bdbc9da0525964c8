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
use tokio_util::bytes::Bytes;

use super::answer::put_back;
use crate::{
    protocol::json_text::without_lone_surrogates, util::text::lossy, wire::answers::batch_in,
};

/// The byte order mark. A text may begin with it, and it is not part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The capacity of a buffer that is kept after a long line.
const KEEP: usize = 64 * 1024;

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
                Ok(Some(chunk)) => match self.parser.feed(&chunk) {
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
    line: Vec<u8>,
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
            line: Vec::new(),
            is_first_line: true,
            after_return: false,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (part, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.has_room(part.len())?;
            if self.line.is_empty() {
                self.take(part);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(part);
                self.take_long(line);
            }
            let is_return = bytes[end] == b'\r';
            self.after_return = is_return && rest.is_empty();
            bytes = match rest.strip_prefix(b"\n") {
                Some(after) if is_return => after,
                _ => rest,
            };
        }
        self.has_room(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn has_room(&self, more: usize) -> Result<(), TooLong> {
        let length = self.length.saturating_add(self.line.len());
        if length.saturating_add(more) > self.max {
            return Err(TooLong { max: self.max });
        }
        Ok(())
    }

    /// Takes a line that came in several pieces. The data of an event with a single line of it is
    /// not copied.
    fn take_long(&mut self, mut line: Vec<u8>) {
        let has_data = || {
            self.event
                .as_ref()
                .is_some_and(|event| event.data.is_some())
        };
        if std::mem::take(&mut self.is_first_line) && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        if !line.starts_with(b"data:") || has_data() {
            self.take(&line);
            line.clear();
            line.shrink_to(KEEP);
            self.line = line;
            return;
        }
        self.length = self.length.saturating_add(line.len() + 1);
        let name = if line.starts_with(b"data: ") { 6 } else { 5 };
        line.drain(..name);
        line.shrink_to_fit();
        let text = String::from_utf8(line);
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
            if let Some(event) = event {
                self.complete.extend(single_messages(event));
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

/// Returns an event for each message of a batch, the last with the `id`: the stream is resumed after
/// the whole batch. Returns any other event as it is.
fn single_messages(mut event: Sse) -> Vec<Sse> {
    let data = event
        .data
        .take_if(|data| data.trim_start().starts_with('['));
    let Some(text) = data.map(Bytes::from) else {
        return vec![event];
    };
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
