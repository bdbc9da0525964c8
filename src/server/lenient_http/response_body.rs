use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use http_body::{Body, Frame, SizeHint};
use memchr::{memchr, memmem};
use pin_project_lite::pin_project;
use rmcp::model::RequestId;

use super::replays::Replays;
use crate::{
    protocol::json_text::NULL_PARAMS,
    wire::{self, WrittenAnswer, as_sent, received::AnswerText},
};

pin_project! {
    /// The body of a response. The answers in it leave as the stack gave them.
    ///
    /// Requires the feature `http-server`.
    pub struct AnswerBody<B: Body> {
        #[pin]
        body: Option<B>,
        // The answer, or what was read of the body.
        own: Option<Bytes>,
        failure: Option<B::Error>,
        events: Option<Events>,
    }
}

impl<B: Body> AnswerBody<B> {
    /// Creates a body of these bytes.
    pub(super) fn own(bytes: Bytes) -> Self {
        Self {
            body: None,
            own: Some(bytes).filter(|bytes| !bytes.is_empty()),
            failure: None,
            events: None,
        }
    }

    /// Creates a body that breaks off.
    pub(super) fn broken(error: B::Error) -> Self {
        Self {
            body: None,
            own: None,
            failure: Some(error),
            events: None,
        }
    }

    pub(super) fn inner(body: B, events: Option<Events>) -> Self {
        Self {
            body: Some(body),
            own: None,
            failure: None,
            events,
        }
    }
}

impl<B: Body> fmt::Debug for AnswerBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

impl<B: Body<Data = Bytes>> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(bytes) = this.own.take() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if let Some(error) = this.failure.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(body) = this.body.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(body.poll_frame(cx));
        let Some(events) = this.events else {
            return Poll::Ready(frame);
        };
        // rmcp writes each event in one piece.
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|data| events.map(data)))))
    }

    fn is_end_stream(&self) -> bool {
        let is_over = self.body.as_ref().is_none_or(Body::is_end_stream);
        self.own.is_none() && self.failure.is_none() && is_over
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.own, &self.body, &self.events) {
            (Some(own), _, _) => SizeHint::with_exact(own.len() as u64),
            (None, Some(body), None) => body.size_hint(),
            (None, Some(_), Some(_)) => SizeHint::default(),
            (None, None, _) => SizeHint::with_exact(0),
        }
    }
}

/// The events of a stream.
pub(super) struct Events {
    /// The request of the stream and the text of its answer, until it is answered.
    pub(super) request: Option<(RequestId, AnswerText)>,
    pub(super) session: Option<HeaderValue>,
    pub(super) replays: Arc<Replays>,
}

/// The start of an event with an answer, or with a request of the server.
const EVENT: &[u8] = b"data: ";

impl Events {
    /// Returns an event as it leaves.
    fn map(&mut self, event: Bytes) -> Bytes {
        let changed = self.answer(&event).or_else(|| whole_progress(&event));
        changed.unwrap_or_else(|| without_null_params(event))
    }

    /// Returns the event of an answer, if it is not to leave as rmcp wrote it.
    fn answer(&mut self, event: &Bytes) -> Option<Bytes> {
        let message = event.strip_prefix(EVENT)?;
        let (message, end) = message.split_at(memchr(b'\n', message)?);
        let answer = WrittenAnswer::of(message)?;
        let own = self.request.take_if(|(own, _)| *own == answer.id);
        let text = match (own, &self.session) {
            (Some((id, text)), Some(session)) if is_stored(end) => {
                self.replays.keep(session, &id, text.clone());
                text
            }
            (Some((_, text)), _) => text,
            (None, session) => self.replays.get(session.as_ref()?, &answer.id)?,
        };
        let answer = answer.with(text.get())?;
        let mut event = BytesMut::with_capacity(EVENT.len() + answer.len() + end.len());
        event.extend_from_slice(EVENT);
        wire::put_on_line(&mut event, &answer);
        event.extend_from_slice(end);
        Some(event.freeze())
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        if let (Some((id, text)), Some(session)) = (self.request.take(), &self.session) {
            self.replays.keep(session, &id, text);
        }
    }
}

/// The start of an event with progress.
const PROGRESS: &[u8] = br#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":"#;

/// Returns the event of progress with the parts that rmcp's type has no place for.
fn whole_progress(event: &Bytes) -> Option<Bytes> {
    if !event.starts_with(PROGRESS) {
        return None;
    }
    let (message, end) = event.split_at(memchr(b'\n', event)?);
    let params = as_sent::whole_in_meta(message.strip_prefix(EVENT)?)?;
    let mut whole = BytesMut::from(PROGRESS);
    wire::put_on_line(&mut whole, params.get().as_bytes());
    whole.extend_from_slice(b"}");
    whole.extend_from_slice(end);
    Some(whole.freeze())
}

/// Returns `true` if an event store has the event. rmcp's own ids are `<index>/<stream>`; such an
/// event is not replayed once its stream has brought the answer.
fn is_stored(end: &[u8]) -> bool {
    let id = end.strip_prefix(b"\nid: ");
    id.and_then(|id| id.split(|byte| *byte == b'\n').next())
        .is_some_and(|id| !id.iter().all(|byte| byte.is_ascii_digit() || *byte == b'/'))
}

/// Removes a `"params":null` from the message of an event. It is at the end of the message, and the
/// message at the end of its line.
fn without_null_params(event: Bytes) -> Bytes {
    let mut ends = memmem::find_iter(&event, NULL_PARAMS);
    let Some(at) = ends.find(|at| event.get(at + NULL_PARAMS.len()) == Some(&b'\n')) else {
        return event;
    };
    let mut shorter = BytesMut::from(&event[..at]);
    shorter.extend_from_slice(b"}");
    shorter.extend_from_slice(&event[at + NULL_PARAMS.len()..]);
    shorter.freeze()
}
