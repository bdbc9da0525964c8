//! One HTTP exchange with a server: a request and its response.
//!
//! rmcp's own client drops the status, `Retry-After` and an unreadable `id` before answers are
//! matched to requests. Its reader of event streams is also stricter than the standard.

use std::{borrow::Cow, collections::HashMap};

use futures::{StreamExt, stream};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Response;
use rmcp::{
    model::{ErrorData, JsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        common::{
            client_side_sse::BoxedSseResponse,
            http_header::{
                EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
            },
        },
        streamable_http_client::{
            HttpStatusError, StreamableHttpError, StreamableHttpResponseLimits,
        },
    },
};
use sse_stream::Sse;
use tokio_util::bytes::{Bytes, BytesMut};

use super::{
    answer::{self, Answer, Awaited, ResponseMessage, response_message},
    event_stream::{TooLong, events},
    failure::{HttpError, HttpResult, http},
    forgotten_session::{forgets, forgotten},
    post_order::Unanswered,
    response_head::{
        Media, content_type, header, media_type, refuse_unauthorized, retry_after, status_error,
    },
};
use crate::{
    lines::LineError,
    protocol::{json_text, methods::Method},
    util::text::lossy,
    wire::answers::batch_in,
};

/// Limit of the text that is quoted from a response that holds no message.
const QUOTED: usize = 256;

/// The media types of the response to a posted message.
pub(super) const ACCEPTED: &str = "text/event-stream, application/json";

/// The response to a posted message.
pub(super) enum Reply {
    /// The server has taken the message, and the response has no answer.
    Accepted,
    Answer(Answer),
    /// A message of the server on the response to one that is not a request.
    Aside(Box<ServerJsonRpcMessage>),
    Events(BoxedSseResponse),
}

/// A reply, and the session that the server has begun with it.
pub(super) type Replied = (Reply, Option<String>);

/// The address of a request, and its credentials.
pub(super) struct Address<'a> {
    pub(super) client: &'a reqwest::Client,
    pub(super) uri: &'a str,
    pub(super) session: Option<&'a str>,
    pub(super) auth: Option<String>,
    pub(super) headers: HashMap<HeaderName, HeaderValue>,
}

impl Address<'_> {
    fn request(mut self, method: reqwest::Method) -> reqwest::RequestBuilder {
        let mut request = self.client.request(method, self.uri);
        if let Some(token) = self.auth {
            // The credential of a call takes precedence over a header of the endpoint.
            self.headers.remove(&AUTHORIZATION);
            request = request.bearer_auth(token);
        }
        if let Some(session) = self.session {
            request = request.header(HEADER_SESSION_ID, session);
        }
        request.headers(self.headers.into_iter().collect())
    }

    /// Posts the text of a message. `own` is the request, if the message is one. A request that is
    /// `unanswered` arrives even if the future is dropped.
    pub(super) async fn post(
        self,
        message: Bytes,
        own: Option<&Awaited>,
        unanswered: Option<&Unanswered>,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<Replied> {
        let posted = Posted {
            own,
            in_session: self.session.is_some(),
            limits,
        };
        let request = self.request(reqwest::Method::POST);
        let request = request
            .header(ACCEPT, ACCEPTED)
            .header(CONTENT_TYPE, JSON_MIME_TYPE)
            .body(message);
        posted.send(request.send(), unanswered).await
    }

    /// Opens a stream, or resumes one after an event.
    pub(super) async fn get(
        self,
        last_event_id: Option<String>,
        max_event: usize,
    ) -> HttpResult<BoxedSseResponse> {
        let mut request = self.request(reqwest::Method::GET);
        request = request.header(ACCEPT, EVENT_STREAM_MIME_TYPE);
        if let Some(last) = last_event_id {
            request = request.header(HEADER_LAST_EVENT_ID, last);
        }
        let response = request.send().await.map_err(http)?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return Err(StreamableHttpError::ServerDoesNotSupportSse);
        }
        refuse_unauthorized(&response)?;
        if let Some(error) = status_error(&response) {
            return Err(error.into());
        }
        let response = response.error_for_status().map_err(http)?;
        if media_type(&response) != Some(Media::Events) {
            return Err(StreamableHttpError::UnexpectedContentType(content_type(
                &response,
            )));
        }
        Ok(events(response, max_event))
    }

    /// Ends the session.
    pub(super) async fn delete(self) -> HttpResult<()> {
        let request = self.request(reqwest::Method::DELETE);
        let response = request.send().await.map_err(http)?;
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            tracing::debug!("the server's sessions cannot be ended");
            return Ok(());
        }
        response.error_for_status().map(drop).map_err(http)
    }
}

/// A POST on its way.
pub(super) trait Sending:
    Future<Output = reqwest::Result<Response>> + Send + 'static
{
}

impl<F: Future<Output = reqwest::Result<Response>> + Send + 'static> Sending for F {}

/// A message that is posted.
pub(super) struct Posted<'a> {
    /// The request, if the message is one.
    pub(super) own: Option<&'a Awaited>,
    pub(super) in_session: bool,
    pub(super) limits: StreamableHttpResponseLimits,
}

impl Posted<'_> {
    /// Sends the message, and reads the response. A request that is `unanswered` arrives even if
    /// the future is dropped.
    pub(super) async fn send(
        self,
        sending: impl Sending,
        unanswered: Option<&Unanswered>,
    ) -> HttpResult<Replied> {
        let response = match (self.own, unanswered) {
            (Some(own), Some(unanswered)) => unanswered.send(own.id.clone(), sending).await,
            _ => sending.await,
        };
        self.read(response.map_err(http)?).await
    }

    async fn read(self, mut response: Response) -> HttpResult<Replied> {
        refuse_unauthorized(&response)?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok((Reply::Accepted, None));
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let error = HttpStatusError::new(status.as_u16(), retry_after(&response));
            return Err(error.into());
        }
        let session = header(response.headers(), HEADER_SESSION_ID);
        if !status.is_success() {
            return Ok((Box::pin(self.refused(response)).await?, session));
        }
        let reply = match media_type(&response) {
            Some(Media::Events) => Reply::Events(events(response, self.limits.max_sse_event_size)),
            Some(Media::Json) => {
                let body = whole_body(&mut response, self.limits.max_json_response_size);
                let body = body.await;
                self.answered(status, retry_after(&response), body)?
            }
            // Such a POST expects no answer.
            None if self.own.is_none() => Reply::Accepted,
            None => {
                return Err(StreamableHttpError::UnexpectedContentType(content_type(
                    &response,
                )));
            }
        };
        Ok((reply, session))
    }

    /// Reads the body of a response with success. It is JSON.
    fn answered(
        self,
        status: StatusCode,
        after: Option<String>,
        body: HttpResult<Bytes>,
    ) -> HttpResult<Reply> {
        let text = match body {
            Ok(body) => text_in(body),
            Err(StreamableHttpError::ResponseBodyTooLarge { max_size }) if self.own.is_some() => {
                let why = TooLong { max: max_size };
                return Ok(Reply::Answer(Err(answer::unreadable(why))));
            }
            Err(error) => return Err(error),
        };
        if let Some(messages) = batch_in(&text) {
            return Ok(Reply::Events(events_of(messages)));
        }
        let Some(own) = self.own else {
            return Ok(match answer::message_in(&text) {
                Some(aside @ (JsonRpcMessage::Notification(_) | JsonRpcMessage::Request(_))) => {
                    Reply::Aside(Box::new(aside))
                }
                _ => Reply::Accepted,
            });
        };
        let answer = match response_message(&text, own) {
            ResponseMessage::Answer {
                answer: Err(error),
                named,
            } if self.in_session && forgets(status, Some((&error, named)), "") => {
                return Err(forgotten(status, Some(error), ""));
            }
            ResponseMessage::Answer { mut answer, .. } => {
                if let Err(error) = &mut answer {
                    answer::keep_retry_after(error, after.as_deref());
                }
                answer
            }
            ResponseMessage::OtherAnswer => Err(answer::other_request()),
            ResponseMessage::Unreadable(why @ LineError::NoJson { .. }) if !text.is_empty() => {
                Err(answer::unreadable(why))
            }
            ResponseMessage::Unreadable(_) | ResponseMessage::Other(_) | ResponseMessage::None => {
                let quoted = quoted_in(&text);
                let said = format!("the JSON body is not an answer: {quoted}");
                return Err(StreamableHttpError::UnexpectedServerResponse(said.into()));
            }
        };
        Ok(Reply::Answer(answer))
    }

    /// Reads a response with a failure status. An error in it is about this message, whatever its
    /// `id` says.
    async fn refused(self, mut response: Response) -> HttpResult<Reply> {
        let status = response.status();
        let failed = status_error(&response);
        let after = retry_after(&response);
        // A proxy or the server's guard says so in its own words.
        let is_guard = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let text = match media_type(&response) {
            Some(Media::Events) if !is_guard => self.first_answer(response).await,
            Some(Media::Json) if !is_guard => {
                match whole_body(&mut response, self.limits.max_json_response_size).await {
                    Ok(body) => self.answer_in(text_in(body)),
                    Err(error) => return Err(failed.map_or(error, HttpError::from)),
                }
            }
            // An HTML text does not help a caller of a gateway whose server has broken down.
            None if failed.is_some() => Bytes::new(),
            _ => text_in(first_of(response, self.limits.max_error_response_size).await),
        };
        let error = match self.own.map(|own| response_message(&text, own)) {
            Some(ResponseMessage::OtherAnswer) => {
                return Ok(Reply::Answer(Err(answer::other_request())));
            }
            Some(ResponseMessage::Answer {
                answer: Err(error),
                named,
            }) if !is_guard => Some((error, named)),
            None if status != StatusCode::NOT_FOUND && answer::message_in(&text).is_some() => {
                return Ok(Reply::Accepted);
            }
            _ => None,
        };
        let text = String::from_utf8_lossy(&text);
        let about = error.as_ref().map(|(error, named)| (error, *named));
        if self.in_session && forgets(status, about, &text) {
            return Err(forgotten(status, error.map(|(error, _)| error), &text));
        }
        let error = error.map(|(error, _)| error);
        if let Some(mut error) = error.or_else(|| self.declined_discover(status, &text)) {
            answer::keep_retry_after(&mut error, after.as_deref());
            return Ok(Reply::Answer(Err(error)));
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let said = format!("HTTP {status}: {}", quoted(&text));
        Err(StreamableHttpError::UnexpectedServerResponse(said.into()))
    }

    /// Returns the first answer on a stream of a response with a failure status.
    async fn first_answer(&self, response: Response) -> Bytes {
        let mut events = events(response, self.limits.max_sse_event_size);
        while let Some(Ok(mut event)) = events.next().await {
            if let Some(text) = answer::take_text(&mut event)
                && self.is_answer(&text)
            {
                return text;
            }
        }
        Bytes::new()
    }

    /// Returns the answer in a batch. Returns any other text as it is.
    fn answer_in(&self, text: Bytes) -> Bytes {
        let messages = batch_in(&text).into_iter().flatten();
        let mut answers = messages.filter(|message| self.is_answer(message));
        answers.next().unwrap_or(text)
    }

    fn is_answer(&self, text: &Bytes) -> bool {
        self.own.is_some_and(|own| {
            matches!(
                response_message(text, own),
                ResponseMessage::Answer { .. } | ResponseMessage::OtherAnswer
            )
        })
    }

    /// Returns the error, if a server of an earlier revision refused `server/discover`, in whatever
    /// words. A client goes on with `initialize` then (MCP 2026-07-28, basic/lifecycle).
    fn declined_discover(&self, status: StatusCode, text: &str) -> Option<ErrorData> {
        let method = self.own.and_then(|own| own.expected.method());
        let is_guard = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let declined = method == Some(Method::Discover)
            && !self.in_session
            && status.is_client_error()
            && !is_guard;
        declined.then(|| {
            let why = format!(
                "server/discover was refused with HTTP {status}: {}",
                quoted(text)
            );
            ErrorData::invalid_request(why, None)
        })
    }
}

/// Returns the messages of a batch as events.
fn events_of(messages: Vec<Bytes>) -> BoxedSseResponse {
    let events = messages.into_iter().map(|message| {
        let mut event = Sse::default();
        answer::put_back(&mut event, message);
        Ok(event)
    });
    stream::iter(events).boxed()
}

/// Reads a body of at most `max` bytes.
async fn whole_body(response: &mut Response, max: usize) -> HttpResult<Bytes> {
    let too_large = || StreamableHttpError::ResponseBodyTooLarge { max_size: max };
    let length = response.content_length();
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    let first = response.chunk().await.map_err(http)?.unwrap_or_default();
    if first.len() > max {
        return Err(too_large());
    }
    // Most bodies come in one piece. The end after it comes later, when the connection is idle.
    if length == Some(first.len() as u64) {
        return Ok(first);
    }
    let Some(mut chunk) = response.chunk().await.map_err(http)? else {
        return Ok(first);
    };
    let capacity = length.and_then(|length| usize::try_from(length).ok());
    let mut body = BytesMut::with_capacity(capacity.unwrap_or(first.len()));
    body.extend_from_slice(&first);
    loop {
        if chunk.len() > max - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
        chunk = match response.chunk().await.map_err(http)? {
            Some(chunk) => chunk,
            None => return Ok(body.freeze()),
        };
    }
}

/// Reads at most the first `max` bytes of a body.
async fn first_of(mut response: Response, max: usize) -> Bytes {
    let mut body = BytesMut::new();
    while body.len() < max
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let count = chunk.len().min(max - body.len());
        body.extend_from_slice(&chunk[..count]);
    }
    body.freeze()
}

/// Returns the text of a body, with U+FFFD in the place of what is no text.
fn text_in(body: Bytes) -> Bytes {
    let body = match body.starts_with(b"\xef\xbb\xbf") {
        true => body.slice(3..),
        false => body,
    };
    let text = lossy(&body);
    match (json_text::without_lone_surrogates(&text), text) {
        (Some(text), _) | (None, Cow::Owned(text)) => text.into(),
        (None, Cow::Borrowed(_)) => body,
    }
}

fn quoted_in(text: &[u8]) -> String {
    quoted(&String::from_utf8_lossy(text)).to_owned()
}

pub(super) fn quoted(text: &str) -> &str {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
