//! One HTTP exchange with a server: a request and its response.
//!
//! rmcp's own client drops the status, `Retry-After` and an unreadable `id` before answers are
//! matched to requests. Its reader of event streams is also stricter than the standard.

use std::{borrow::Cow, collections::HashMap};

use futures::StreamExt;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use reqwest::Response;
use rmcp::{
    model::{ClientJsonRpcMessage, ClientRequest, ErrorData, JsonRpcMessage, RequestId},
    transport::{
        common::{
            client_side_sse::BoxedSseResponse,
            http_header::{
                EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
            },
        },
        streamable_http_client::{
            AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError,
            StreamableHttpPostResponse, StreamableHttpResponseLimits,
        },
    },
};

use super::{
    answer::{self, ResponseMessage, response_message},
    event_stream::events,
    failure::{HttpError, HttpResult, http},
    forgotten_session::{forgets, forgotten},
};
use crate::{protocol::json_text, wire::answers::Expected};

/// Limit of the text that is quoted from a response that holds no message.
const QUOTED: usize = 256;

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

    /// Posts a message. An answer has the request's own id; the answer of a stream is still to be
    /// read.
    pub(super) async fn post(
        self,
        message: &ClientJsonRpcMessage,
        limits: StreamableHttpResponseLimits,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let posted = Posted {
            message,
            own: expected_answer(message),
            in_session: self.session.is_some(),
            limits,
        };
        let body = json_text::to_vec(message)?;
        let request = self.request(reqwest::Method::POST);
        let request = request
            .header(
                ACCEPT,
                format!("{EVENT_STREAM_MIME_TYPE}, {JSON_MIME_TYPE}"),
            )
            .header(CONTENT_TYPE, JSON_MIME_TYPE)
            .body(body);
        let response = request.send().await.map_err(http)?;
        posted.read(response).await
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

/// The id of a request, and what its answer is to be read as.
pub(super) fn expected_answer(message: &ClientJsonRpcMessage) -> Option<(&RequestId, Expected)> {
    match message {
        JsonRpcMessage::Request(request) => Some((&request.id, Expected::of(&request.request))),
        _ => None,
    }
}

/// A message that was posted.
struct Posted<'a> {
    message: &'a ClientJsonRpcMessage,
    /// The id, and what the answer is to be read as, if one is due.
    own: Option<(&'a RequestId, Expected)>,
    in_session: bool,
    limits: StreamableHttpResponseLimits,
}

impl Posted<'_> {
    async fn read(self, response: Response) -> HttpResult<StreamableHttpPostResponse> {
        refuse_unauthorized(&response)?;
        let status = response.status();
        if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            let error = HttpStatusError::new(status.as_u16(), retry_after(&response));
            return Err(error.into());
        }
        if !status.is_success() {
            return self.refused(response).await;
        }
        let session = header(response.headers(), HEADER_SESSION_ID);
        match media_type(&response) {
            Some(Media::Events) => {
                let events = events(response, self.limits.max_sse_event_size);
                Ok(StreamableHttpPostResponse::Sse(events, session))
            }
            Some(Media::Json) => self.answered(response, session).await,
            // Such a POST expects no answer.
            None if self.own.is_none() => Ok(StreamableHttpPostResponse::Accepted),
            None => Err(StreamableHttpError::UnexpectedContentType(content_type(
                &response,
            ))),
        }
    }

    async fn answered(
        self,
        response: Response,
        session: Option<String>,
    ) -> HttpResult<StreamableHttpPostResponse> {
        let status = response.status();
        let after = retry_after(&response);
        let body = whole_body(response, self.limits.max_json_response_size).await?;
        let text = text_in(&body);
        let Some((own, expected)) = self.own else {
            return Ok(match answer::message_in(&text) {
                Some(aside @ (JsonRpcMessage::Notification(_) | JsonRpcMessage::Request(_))) => {
                    StreamableHttpPostResponse::Json(aside, session)
                }
                _ => StreamableHttpPostResponse::Accepted,
            });
        };
        let message = match response_message(&text, own, expected) {
            Some(ResponseMessage::Answer { mut message, named }) => {
                if let JsonRpcMessage::Error(error) = &message
                    && self.in_session
                    && forgets(status, Some((&error.error, named)), "")
                {
                    return Err(forgotten(status, Some(error.error.clone()), ""));
                }
                answer::keep_retry_after(&mut message, after.as_deref());
                message
            }
            Some(ResponseMessage::OtherAnswer) => {
                JsonRpcMessage::error(answer::other_request(), Some(own.clone()))
            }
            Some(ResponseMessage::Unreadable | ResponseMessage::Other(_)) | None => {
                let quoted = quoted(&text);
                let said = format!("the JSON body is not an answer: {quoted}");
                return Err(StreamableHttpError::UnexpectedServerResponse(said.into()));
            }
        };
        Ok(StreamableHttpPostResponse::Json(message, session))
    }

    /// Reads a response with a failure status. An error in it is about this message, whatever its
    /// `id` says.
    async fn refused(self, response: Response) -> HttpResult<StreamableHttpPostResponse> {
        let status = response.status();
        let failed = status_error(&response);
        let after = retry_after(&response);
        let session = header(response.headers(), HEADER_SESSION_ID);
        // A proxy or the server's guard says so in its own words.
        let is_guard = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let text = match media_type(&response) {
            Some(Media::Events) if !is_guard => self.first_answer(response).await,
            Some(Media::Json) if !is_guard => {
                match whole_body(response, self.limits.max_json_response_size).await {
                    Ok(body) => text_in(&body).into_owned(),
                    Err(error) => return Err(failed.map_or(error, HttpError::from)),
                }
            }
            // An HTML text does not help a caller of a gateway whose server has broken down.
            None if failed.is_some() => String::new(),
            _ => {
                let body = first_of(response, self.limits.max_error_response_size).await;
                text_in(&body).into_owned()
            }
        };
        let found =
            self.own.and_then(
                |(own, expected)| match response_message(&text, own, expected) {
                    Some(ResponseMessage::Answer { message, named }) => match message {
                        JsonRpcMessage::Error(error) => Some(Ok((error.error, named))),
                        _ => None,
                    },
                    Some(ResponseMessage::OtherAnswer) => Some(Err(answer::other_request())),
                    Some(ResponseMessage::Unreadable | ResponseMessage::Other(_)) | None => None,
                },
            );
        let own = self.own.map(|(own, _)| own);
        let error = match (found, own) {
            (Some(Err(stray)), own) => {
                let message = JsonRpcMessage::error(stray, own.cloned());
                return Ok(StreamableHttpPostResponse::Json(message, session));
            }
            (Some(Ok(error)), _) if !is_guard => Some(error),
            (_, None) if answer::message_in(&text).is_some() && status != StatusCode::NOT_FOUND => {
                return Ok(StreamableHttpPostResponse::Accepted);
            }
            _ => None,
        };
        let about = error.as_ref().map(|(error, named)| (error, *named));
        if self.in_session && forgets(status, about, &text) {
            return Err(forgotten(status, error.map(|(error, _)| error), &text));
        }
        let error = error.map(|(error, _)| error);
        if let Some(error) = error.or_else(|| self.declined_discover(status, &text)) {
            let mut message = JsonRpcMessage::error(error, own.cloned());
            answer::keep_retry_after(&mut message, after.as_deref());
            return Ok(StreamableHttpPostResponse::Json(message, session));
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        let said = format!("HTTP {status}: {}", quoted(&text));
        Err(StreamableHttpError::UnexpectedServerResponse(said.into()))
    }

    /// Returns the first answer on a stream of a response with a failure status.
    async fn first_answer(&self, response: Response) -> String {
        let mut events = events(response, self.limits.max_sse_event_size);
        while let Some(Ok(event)) = events.next().await {
            let text = answer::text_of(&event);
            if let Some(text) = text
                && let Some((own, expected)) = self.own
                && matches!(
                    response_message(text, own, expected),
                    Some(ResponseMessage::Answer { .. } | ResponseMessage::OtherAnswer)
                )
            {
                return text.to_owned();
            }
        }
        String::new()
    }

    /// Returns the error, if a server of an earlier revision refused `server/discover`, in whatever
    /// words. A client goes on with `initialize` then (MCP 2026-07-28, basic/lifecycle).
    fn declined_discover(&self, status: StatusCode, text: &str) -> Option<ErrorData> {
        let JsonRpcMessage::Request(request) = self.message else {
            return None;
        };
        let is_guard = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let declined = matches!(request.request, ClientRequest::DiscoverRequest(_))
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

/// Returns an error if a response asks for a token, or for another one.
fn refuse_unauthorized(response: &Response) -> HttpResult<()> {
    let Some(challenge) = response.headers().get(WWW_AUTHENTICATE) else {
        return Ok(());
    };
    let challenge = || {
        let unreadable = |_| {
            let why = "the header `www-authenticate` is not a text";
            StreamableHttpError::UnexpectedServerResponse(why.into())
        };
        challenge.to_str().map(str::to_owned).map_err(unreadable)
    };
    match response.status() {
        StatusCode::UNAUTHORIZED => {
            let error = AuthRequiredError::new(challenge()?);
            Err(StreamableHttpError::AuthRequired(error))
        }
        StatusCode::FORBIDDEN => {
            let challenge = challenge()?;
            let scope = scope_in(&challenge);
            let error = InsufficientScopeError::new(challenge, scope);
            Err(StreamableHttpError::InsufficientScope(error))
        }
        _ => Ok(()),
    }
}

/// Returns the `scope` of a challenge (RFC 6750, section 3).
fn scope_in(challenge: &str) -> Option<String> {
    let at = challenge.to_ascii_lowercase().find("scope=")?;
    let value = challenge.get(at + "scope=".len()..)?;
    let scope = match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([',', ';', ' ']).next(),
    };
    scope.filter(|scope| !scope.is_empty()).map(str::to_owned)
}

fn status_error(response: &Response) -> Option<HttpStatusError> {
    let status = response.status();
    let fails = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    fails.then(|| HttpStatusError::new(status.as_u16(), retry_after(response)))
}

fn retry_after(response: &Response) -> Option<String> {
    header(response.headers(), RETRY_AFTER.as_str())
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

fn content_type(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Events,
}

fn media_type(response: &Response) -> Option<Media> {
    let value = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    let essence = value.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(JSON_MIME_TYPE) {
        Some(Media::Json)
    } else if essence.eq_ignore_ascii_case(EVENT_STREAM_MIME_TYPE) {
        Some(Media::Events)
    } else {
        None
    }
}

/// Reads a body of at most `max` bytes.
async fn whole_body(mut response: Response, max: usize) -> HttpResult<Vec<u8>> {
    let too_large = || StreamableHttpError::ResponseBodyTooLarge { max_size: max };
    if response
        .content_length()
        .is_some_and(|length| length > max as u64)
    {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http)? {
        if chunk.len() > max - body.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Reads at most the first `max` bytes of a body.
async fn first_of(mut response: Response, max: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < max
        && let Ok(Some(chunk)) = response.chunk().await
    {
        let count = chunk.len().min(max - body.len());
        body.extend_from_slice(&chunk[..count]);
    }
    body
}

fn text_in(body: &[u8]) -> Cow<'_, str> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = String::from_utf8_lossy(body);
    match json_text::without_lone_surrogates(&text) {
        Some(text) => Cow::Owned(text),
        None => text,
    }
}

pub(super) fn quoted(text: &str) -> &str {
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}
