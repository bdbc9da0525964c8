use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{HOST, ORIGIN},
};
use http_body::Body;
use http_body_util::{Either, Full};
use tokio::time::Instant;
use tower::{BoxError, Service, ServiceExt};

use super::{
    body::{self, HttpAuthBody, PassedBody, Unread},
    guard::{SESSION_ID, Sender, Session},
    layer::Shared,
    message, metadata,
    refused::{Refused, RequestFacts},
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
            let (request, mut sender, facts) = match shared.admit(request).await {
                Ok(admitted) => admitted,
                Err(refused) => {
                    shared.report(&verb, &refused, since).await;
                    return Ok(refused.into_response().map(HttpAuthBody::own));
                }
            };
            if let Session::NotOwn = sender.session {
                shared.report(&verb, &Refused::not_own(facts), since).await;
            }
            if let Some(id) = sender.take_evicted() {
                close(inner.clone(), id, &request);
            }
            let response = inner.call(request).await?;
            match shared.follow(&verb, &mut sender, &response) {
                Ok(held) => Ok(response.map(|body| {
                    let until = (verb == Method::GET).then(|| sender.expiry()).flatten();
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

/// Closes a session in the background, as its owner would.
fn close<S, B, R>(inner: S, id: Arc<str>, request: &Request<PassedBody<B>>)
where
    S: Service<Request<PassedBody<B>>, Response = Response<R>> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
{
    let Ok(id) = HeaderValue::from_str(&id) else {
        return;
    };
    let mut delete = Request::new(Either::Left(Full::default()));
    *delete.method_mut() = Method::DELETE;
    *delete.uri_mut() = request.uri().clone();
    // The inner service may check where a request comes from.
    for name in [HOST, ORIGIN] {
        if let Some(value) = request.headers().get(&name) {
            delete.headers_mut().insert(name, value.clone());
        }
    }
    delete.headers_mut().insert(SESSION_ID, id);
    let deleted = inner.oneshot(delete);
    tokio::spawn(async move { drop(deleted.await) });
}

impl Sender {
    /// Takes the session that has lost its place to the one that the request opens.
    fn take_evicted(&mut self) -> Option<Arc<str>> {
        self.reservation.as_mut()?.evicted.take()
    }

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
    ) -> Result<(Request<PassedBody<B>>, Sender, RequestFacts), Box<Refused>>
    where
        B: Body<Data = Bytes>,
    {
        let (mut parts, body) = request.into_parts();
        let mut sender = match self.identify(&mut parts).await {
            Ok(sender) => sender,
            Err(mut refused) => {
                message::discard(&parts);
                refused.is_last = !body::read_away(body).await;
                return Err(refused);
            }
        };
        if parts.method != Method::POST {
            let facts = sender.facts();
            return Ok((
                Request::from_parts(parts, Either::Right(body)),
                sender,
                facts,
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
                let mut refused = Refused::bad(status, code, reason, sender.facts());
                refused.is_last = true;
                return Err(refused);
            }
        };
        let facts = self.decide(&parts, &body, &mut sender)?;
        let body = Either::Left(Full::new(body));
        Ok((Request::from_parts(parts, body), sender, facts))
    }

    /// Learns from a response which sessions exist. Returns the guard of the request's own session.
    fn follow<R>(
        &self,
        verb: &Method,
        sender: &mut Sender,
        response: &Response<R>,
    ) -> Result<Option<Arc<()>>, Box<Refused>> {
        if let Session::Own { id, held } = &sender.session {
            let gone = response.status() == StatusCode::NOT_FOUND
                || (*verb == Method::DELETE && response.status().is_success());
            if gone {
                self.sessions.remove(id);
                return Ok(None);
            }
            return Ok(Some(held.clone()));
        }
        let Some(opened) = response.headers().get(SESSION_ID) else {
            return Ok(None);
        };
        // A session that cannot be noted has no owner, so its id must not reach the client.
        let reservation = sender.reservation.take();
        let noted = opened
            .to_str()
            .is_ok_and(|id| self.sessions.add(id, &sender.audience, reservation).is_ok());
        if noted {
            Ok(None)
        } else {
            Err(Refused::no_room(sender.facts()))
        }
    }
}
