//! The reasons why an exchange with a server failed.

use rmcp::{model::ErrorData, transport::streamable_http_client::StreamableHttpError};

/// The failures that rmcp has no error for.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Http(reqwest::Error),
    /// The server forgot the session, and has done nothing.
    #[error("the server does not know the session (HTTP {status}){}", shown(.said))]
    ForgottenSession {
        status: u16,
        /// The server's own error, if it gave one.
        error: Option<Box<ErrorData>>,
        said: String,
    },
    #[error(
        "the server accepted the request (HTTP 202 or 204), but no stream is open for the answer"
    )]
    NoStream,
}

pub(super) type HttpError = StreamableHttpError<Failure>;
pub(super) type HttpResult<T> = Result<T, HttpError>;

/// Removes the URL, which may hold credentials.
impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        Self::Http(error.without_url())
    }
}

pub(super) fn http(error: reqwest::Error) -> HttpError {
    StreamableHttpError::Client(error.into())
}

fn shown(said: &str) -> String {
    match said {
        "" => String::new(),
        said => format!(": {said}"),
    }
}
