use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use rmcp::model::RequestId;

use crate::wire;

/// The body type of rmcp's service.
type RmcpBody = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// The body of a response of a [`HttpService`](super::HttpService).
///
/// Requires the feature `http-server`.
pub struct HttpServiceBody(Content);

enum Content {
    Rmcp(RmcpBody),
    /// The pieces that are left.
    Answer {
        pieces: [Bytes; 3],
        next: usize,
    },
}

/// The length of a result from which on it is not copied.
const COPIED: usize = 16 * 1024;

/// The start of an event.
const EVENT: &[u8] = b"data: ";

impl HttpServiceBody {
    pub(super) fn rmcp(body: RmcpBody) -> Self {
        Self(Content::Rmcp(body))
    }

    pub(super) fn empty() -> Self {
        Self::of([Bytes::new(), Bytes::new(), Bytes::new()])
    }

    /// Creates the body of an answer with this result, as an event or as JSON.
    pub(super) fn answer(id: &RequestId, result: Bytes, is_event: bool) -> Self {
        let (start, end): (_, &[u8]) = match is_event {
            true => (EVENT, b"}\n\n"),
            false => (&b""[..], b"}"),
        };
        let is_one_line = memchr::memchr2(b'\n', b'\r', &result).is_none();
        let is_copied = result.len() < COPIED || !is_one_line;
        let room = if is_copied { result.len() } else { 0 };
        let mut head = BytesMut::with_capacity(start.len() + room + 64);
        head.put_slice(start);
        wire::put_answer_start(&mut head, id);
        if !is_copied {
            return Self::of([head.freeze(), result, Bytes::copy_from_slice(end)]);
        }
        match is_event && !is_one_line {
            true => wire::put_on_line(&mut head, &result),
            false => head.put_slice(&result),
        }
        head.put_slice(end);
        Self::of([head.freeze(), Bytes::new(), Bytes::new()])
    }

    fn of(pieces: [Bytes; 3]) -> Self {
        Self(Content::Answer { pieces, next: 0 })
    }

    /// Returns the length of an answer.
    pub(super) fn len(&self) -> Option<usize> {
        match &self.0 {
            Content::Rmcp(_) => None,
            Content::Answer { pieces, next } => Some(pieces[*next..].iter().map(Bytes::len).sum()),
        }
    }
}

impl fmt::Debug for HttpServiceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServiceBody").finish_non_exhaustive()
    }
}

impl Body for HttpServiceBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Content::Rmcp(body) => Pin::new(body).poll_frame(context),
            Content::Answer { pieces, next } => {
                while let Some(piece) = pieces.get_mut(*next) {
                    *next += 1;
                    if !piece.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(std::mem::take(piece)))));
                    }
                }
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Rmcp(body) => body.is_end_stream(),
            Content::Answer { .. } => self.len() == Some(0),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Rmcp(body) => body.size_hint(),
            Content::Answer { .. } => SizeHint::with_exact(self.len().unwrap_or(0) as u64),
        }
    }
}

pin_project! {
    /// The body of a request for rmcp.
    #[project = RequestBodyProjection]
    pub(super) enum RequestBody<B: Body> {
        Unread {
            #[pin]
            body: B,
        },
        Read {
            data: Option<Bytes>,
            failure: Option<B::Error>,
        },
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            RequestBodyProjection::Unread { body } => body.poll_frame(context),
            RequestBodyProjection::Read { data, failure } => {
                let data = data.take().filter(|data| !data.is_empty());
                let frame = data.map(|data| Ok(Frame::data(data)));
                Poll::Ready(frame.or_else(|| failure.take().map(Err)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Unread { body } => body.is_end_stream(),
            Self::Read { data, failure } => data.is_none() && failure.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Unread { body } => body.size_hint(),
            Self::Read { .. } => SizeHint::default(),
        }
    }
}
