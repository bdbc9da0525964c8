//! The head of a response: its status, and the headers that say more.

use http::{
    HeaderMap, StatusCode,
    header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use reqwest::Response;
use rmcp::transport::{
    common::http_header::{EVENT_STREAM_MIME_TYPE, JSON_MIME_TYPE},
    streamable_http_client::{
        AuthRequiredError, HttpStatusError, InsufficientScopeError, StreamableHttpError,
    },
};

use super::failure::HttpResult;

/// Returns an error if a response asks for a token, or for another one.
pub(super) fn refuse_unauthorized(response: &Response) -> HttpResult<()> {
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

pub(super) fn status_error(response: &Response) -> Option<HttpStatusError> {
    let status = response.status();
    let fails = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
    fails.then(|| HttpStatusError::new(status.as_u16(), retry_after(response)))
}

pub(super) fn retry_after(response: &Response) -> Option<String> {
    header(response.headers(), RETRY_AFTER.as_str())
}

pub(super) fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}

pub(super) fn content_type(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Events,
}

pub(super) fn media_type(response: &Response) -> Option<Media> {
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
