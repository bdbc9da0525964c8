use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{
    lines::{LineError, UnreadableLine},
    util::http_body::{BodyBuffer, TooLong},
    wire::over_http::ReceivedOverHttp,
};

pin_project! {
    /// The body of a request. If it is JSON, it is read as a message once its last piece has come,
    /// and rmcp gets it in one piece.
    ///
    /// Requires the feature `http-server`.
    #[derive(Debug)]
    pub struct LenientBody<B> {
        #[pin]
        body: B,
        state: State,
    }
}

#[derive(Debug)]
enum State {
    /// The body is not a message.
    Other,
    Reading {
        buffer: BodyBuffer,
        max: usize,
        received: ReceivedOverHttp,
    },
    Read(Bytes),
}

impl<B> LenientBody<B> {
    /// Creates a body that is passed on as it is.
    pub(super) fn other(body: B) -> Self {
        Self {
            body,
            state: State::Other,
        }
    }

    /// Creates a body of a message of at most `max` bytes. `announced` is its length in the head of
    /// the request: a body that another layer wraps may not know it.
    pub(super) fn message(body: B, announced: u64, max: usize, received: ReceivedOverHttp) -> Self {
        let state = State::Reading {
            buffer: BodyBuffer::of_length(announced),
            max,
            received,
        };
        Self { body, state }
    }
}

impl<B: Body<Data = Bytes>> Body for LenientBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let read = loop {
            let (buffer, max, received) = match this.state {
                State::Other => return this.body.poll_frame(cx),
                State::Read(rest) => break std::mem::take(rest),
                State::Reading { received, .. } if received.get().is_some() => {
                    return this.body.poll_frame(cx);
                }
                State::Reading {
                    buffer,
                    max,
                    received,
                } => (buffer, *max, received),
            };
            let announced = this.body.size_hint().lower().max(buffer.announced());
            let is_too_long = usize::try_from(announced).map_or(true, |announced| announced > max);
            let read = match is_too_long {
                true => Some(Err(TooLong)),
                false => match ready!(this.body.as_mut().poll_frame(cx)?).map(Frame::into_data) {
                    Some(Ok(data)) => {
                        let left = this.body.size_hint().lower();
                        buffer.add(data, left, max).err().map(Err)
                    }
                    Some(Err(_trailers)) => None,
                    None => Some(Ok(())),
                },
            };
            let Some(read) = read else {
                continue;
            };
            let body = std::mem::take(buffer).into_bytes();
            let passed = match read {
                Ok(()) => received.read(body),
                Err(TooLong) => {
                    let why = LineError::TooLong { limit: max };
                    received.refuse_too_long(UnreadableLine::new(&body, why).refusal());
                    Bytes::new()
                }
            };
            *this.state = State::Read(passed);
        };
        Poll::Ready((!read.is_empty()).then(|| Ok(Frame::data(read))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Other => self.body.is_end_stream(),
            // The message is read at the end.
            State::Reading { .. } => false,
            State::Read(rest) => rest.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Other => self.body.size_hint(),
            State::Reading { received, .. } if received.get().is_some() => self.body.size_hint(),
            State::Reading { .. } => SizeHint::default(),
            State::Read(rest) => SizeHint::with_exact(rest.len() as u64),
        }
    }
}
