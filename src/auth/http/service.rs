use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{Either, Full};
use tokio::time::Instant;
use tower::{BoxError, Service};

use super::{
    body::{self, HttpAuthBody, PassedBody, Unread},
    guard::{Known, SESSION_ID, Session},
    layer::Shared,
    metadata,
    refused::{About, Refused},
};

/// The service of an [`HttpAuthLayer`](super::HttpAuthLayer).
#[derive(Clone)]
pub struct HttpAuth<S> {
    shared: Arc<Shared>,
    inner: S,
}

impl<S> HttpAuth<S> {
    pub(super) fn new(shared: Arc<Shared>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S> fmt::Debug for HttpAuth<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAuth").finish_non_exhaustive()
    }
}

impl<S, B, R> Service<Request<B>> for HttpAuth<S>
where
    S: Service<Request<PassedBody<B>>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send,
    R::Error: Into<BoxError>,
{
    type Response = Response<HttpAuthBody<R>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The instance that `poll_ready` made ready must be the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let shared = self.shared.clone();
        Box::pin(async move {
            let since = Instant::now();
            if let Some(resource) = &shared.resource
                && resource.is_at(request.uri().path())
            {
                let answer = metadata::answer(request.method(), &shared.document);
                return Ok(answer.map(HttpAuthBody::own));
            }
            let verb = request.method().clone();
            let (request, mut known, about) = match shared.admit(request).await {
                Ok(admitted) => admitted,
                Err(refused) => {
                    shared.report(&verb, &refused, since).await;
                    return Ok(refused.into_response().map(HttpAuthBody::own));
                }
            };
            if let Session::NotOwn = known.session {
                shared.report(&verb, &Refused::not_own(about), since).await;
            }
            let response = inner.call(request).await?;
            match shared.follow(&verb, &mut known, &response) {
                Ok(held) => Ok(response.map(|body| {
                    let until = (verb == Method::GET).then(|| known.expiry()).flatten();
                    HttpAuthBody::inner(body, held, until)
                })),
                Err(refused) => {
                    shared.report(&verb, &refused, since).await;
                    Ok(refused.into_response().map(HttpAuthBody::own))
                }
            }
        })
    }
}

impl Known {
    /// Returns the timer that ends a long-lived stream when the token expires.
    fn expiry(&self) -> Option<tokio::time::Sleep> {
        let left = self.verified.expires_at?.duration_since(SystemTime::now());
        Some(tokio::time::sleep(left.unwrap_or_default()))
    }
}

impl Shared {
    /// Decides whether a request goes on, and in which form.
    async fn admit<B>(
        &self,
        request: Request<B>,
    ) -> Result<(Request<PassedBody<B>>, Known, About), Box<Refused>>
    where
        B: Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let mut known = match self.identify(&mut parts).await {
            Ok(known) => known,
            Err(mut refused) => {
                refused.is_last = !body::read_away(body).await;
                return Err(refused);
            }
        };
        if parts.method != Method::POST {
            let about = known.about();
            return Ok((
                Request::from_parts(parts, Either::Right(body)),
                known,
                about,
            ));
        }
        let body = match body::read(body, self.max_body).await {
            Ok(body) => body,
            Err(unread) => {
                let (status, reason) = match unread {
                    Unread::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
                    Unread::Broken => (StatusCode::BAD_REQUEST, "the body broke off"),
                };
                let code = rmcp::model::ErrorCode::INVALID_REQUEST;
                let mut refused = Refused::bad(status, code, reason, known.about());
                refused.is_last = true;
                return Err(refused);
            }
        };
        let about = self.decide(&parts, &body, &mut known)?;
        let body = Either::Left(Full::new(body));
        Ok((Request::from_parts(parts, body), known, about))
    }

    /// Learns from a response which sessions exist. Returns the guard of the request's own session.
    fn follow<R>(
        &self,
        verb: &Method,
        known: &mut Known,
        response: &Response<R>,
    ) -> Result<Option<Arc<()>>, Box<Refused>> {
        if let Session::Own { id, held } = &known.session {
            let gone = response.status() == StatusCode::NOT_FOUND
                || (*verb == Method::DELETE && response.status().is_success());
            if gone {
                self.sessions.ended(id);
                return Ok(None);
            }
            return Ok(Some(held.clone()));
        }
        let Some(opened) = response.headers().get(SESSION_ID) else {
            return Ok(None);
        };
        // A session that cannot be noted has no owner, so its id must not reach the client.
        let room = known.room.take();
        let noted = opened
            .to_str()
            .is_ok_and(|id| self.sessions.opened(id, &known.who, room).is_ok());
        if noted {
            Ok(None)
        } else {
            Err(Refused::no_room(known.about()))
        }
    }
}
