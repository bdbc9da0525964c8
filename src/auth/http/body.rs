use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Either, Full};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, timeout};

use crate::util::http_body::{BodyBuffer, TooLong};

/// The body that is passed to the inner service: the original one, or the bytes read from it.
pub type PassedBody<B> = Either<Full<Bytes>, B>;

/// The reason for which a body was not read to its end.
pub(super) enum Unread {
    TooLarge,
    Broken,
}

/// Reads a body of at most `max` bytes.
pub(super) async fn read<B>(body: B, max: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > max as u64 {
        return Err(Unread::TooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut buffer = BodyBuffer::default();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() {
            let added = buffer.add(data, body.size_hint().lower(), max);
            added.map_err(|TooLong| Unread::TooLarge)?;
        }
    }
    Ok(buffer.into_bytes())
}

/// Limits for reading the body of a request that is refused because of its head: bytes and time.
const REST: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

/// Reads and discards a body. Otherwise the connection is closed, and a client that sends its next
/// request on it gets no answer. Returns `true` if the body ended within the limits.
pub(super) async fn read_away<B>(body: B) -> bool
where
    B: Body<Data = Bytes>,
{
    body.is_end_stream() || matches!(timeout(REST_TIME, read(body, REST)).await, Ok(Ok(_)))
}

pin_project! {
    /// The body of the companion's responses: its own, or that of the inner service.
    #[derive(Debug)]
    pub struct HttpAuthBody<B> {
        #[pin]
        body: Either<Full<Bytes>, B>,
        // Keeps the session in use until the body has been sent.
        held: Option<Arc<()>>,
        // The time at which the caller's token expires.
        until: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> HttpAuthBody<B> {
    pub(super) fn own(bytes: Bytes) -> Self {
        Self {
            body: Either::Left(Full::new(bytes)),
            held: None,
            until: None,
        }
    }

    pub(super) fn inner(body: B, held: Option<Arc<()>>, until: Option<Sleep>) -> Self {
        Self {
            body: Either::Right(body),
            held,
            until: until.map(Box::pin),
        }
    }
}

impl<B> Body for HttpAuthBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<tower::BoxError>,
{
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.project();
        if let Some(until) = this.until
            && until.as_mut().poll(cx).is_ready()
        {
            *this.held = None;
            return Poll::Ready(None);
        }
        let frame = ready!(this.body.poll_frame(cx));
        if frame.is_none() {
            *this.held = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.until {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}
