//! Refusals that are about the session: the server has forgotten it.

use http::StatusCode;
use rmcp::{model::ErrorData, transport::streamable_http_client::StreamableHttpError};

use super::{
    exchange::quoted,
    failure::{Failure, HttpError},
};

/// Returns `true` if a refusal is about the session. The server has done nothing then.
///
/// The protocol says 404 (MCP 2025-11-25, basic/transports, session management). Many servers
/// answer with another status, or with an error in a response of any status, and state the reason
/// in words. `error` is the server's error, and whether it names the request. An error that names
/// it comes from code that has read the request.
pub(super) fn forgets(status: StatusCode, error: Option<(&ErrorData, bool)>, text: &str) -> bool {
    use rmcp::model::ErrorCode;
    if let Some((error, _)) = error
        && matches!(
            error.code,
            ErrorCode::METHOD_NOT_FOUND | ErrorCode::INVALID_PARAMS
        )
    {
        return false;
    }
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        return true;
    }
    let refuses = status.is_client_error()
        && !matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYLOAD_TOO_LARGE
        );
    match error {
        Some((error, named)) => (refuses || !named) && is_about_session(&error.message),
        None => refuses && is_about_session(text),
    }
}

/// Returns `true` for texts about a missing or unknown session. They cover the official SDKs and
/// widely used servers: "No valid session ID provided", "Session not found", "Missing session ID",
/// "Invalid or expired session ID", "Server not initialized".
fn is_about_session(said: &str) -> bool {
    const LACKING: [&str; 14] = [
        "closed",
        "does not exist",
        "expired",
        "invalid",
        "missing",
        "no longer",
        "no such",
        "no valid",
        "not exist",
        "not found",
        "not valid",
        "required",
        "terminated",
        "unknown",
    ];
    let said = quoted(said).to_ascii_lowercase();
    let lacks = |words: &[&str]| words.iter().any(|word| said.contains(word));
    (said.contains("session") && lacks(&LACKING))
        || lacks(&["server not initialized", "server is not initialized"])
}

pub(super) fn forgotten(status: StatusCode, error: Option<ErrorData>, text: &str) -> HttpError {
    let said = error.as_ref().map_or(text, |error| &error.message);
    StreamableHttpError::Client(Failure::ForgottenSession {
        status: status.as_u16(),
        said: quoted(said).trim_end().to_owned(),
        error: error.map(Box::new),
    })
}
