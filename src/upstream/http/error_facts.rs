//! The facts that errors of an HTTP exchange give.

use std::{borrow::Cow, error::Error as StdError, sync::LazyLock, time::Duration};

use rmcp::{
    model::ErrorData,
    transport::streamable_http_client::{
        AuthRequiredError, InsufficientScopeError, StreamableHttpError,
    },
};

use super::failure::{Failure, HttpError};
use crate::{code, upstream::errors::ErrorFacts};

/// Returns the facts that one error in a chain gives. The HTTP client may be one that the operator
/// set.
pub(in crate::upstream) fn facts_of<'a>(error: &'a (dyn StdError + 'static)) -> ErrorFacts<'a> {
    let mut facts = ErrorFacts::default();
    if let Some(error) = error.downcast_ref::<HttpError>() {
        add_exchange(&mut facts, error);
        if let HttpError::Client(failure) = error {
            add_failure(&mut facts, failure);
        }
    } else if let Some(error) = error.downcast_ref::<StreamableHttpError<reqwest::Error>>() {
        add_exchange(&mut facts, error);
        if let StreamableHttpError::Client(http) = error {
            add_client(&mut facts, http);
        }
    } else if error.is::<AuthRequiredError>() {
        (facts.status, facts.not_delivered) = (Some(401), true);
    } else if error.is::<InsufficientScopeError>() {
        (facts.status, facts.not_delivered) = (Some(403), true);
    } else if let Some(error) = error.downcast_ref()
        && let Some(kind) = StandIn::of(error)
    {
        facts.replaces_answer = true;
        facts.other_request = kind == StandIn::OtherRequest;
    }
    facts
}

fn add_exchange<E: StdError + Send + Sync + 'static>(
    facts: &mut ErrorFacts<'_>,
    error: &StreamableHttpError<E>,
) {
    match error {
        StreamableHttpError::HttpStatus(http) => {
            facts.status = Some(http.status);
            facts.retry_after = http.retry_after.as_deref().and_then(retry_after);
            // With "too many requests" the server says that it did not take the request. A 503
            // does not say so: a proxy may send it for a request that it has passed on.
            facts.not_delivered = http.status == 429;
        }
        StreamableHttpError::UnexpectedServerResponse(said) => facts.status = status_in(said),
        StreamableHttpError::SessionExpired => {
            facts.session_forgotten = true;
            (facts.status, facts.not_delivered) = (Some(404), true);
        }
        _ => {}
    }
}

fn add_failure<'a>(facts: &mut ErrorFacts<'a>, failure: &'a Failure) {
    match failure {
        Failure::Http(http) => return add_client(facts, http),
        Failure::ForgottenSession { status, error, .. } => {
            facts.session_forgotten = true;
            facts.session_error = error.as_deref();
            (facts.status, facts.not_delivered) = (Some(*status), true);
        }
        Failure::NoStream => {}
    }
    // rmcp calls it an error of the client.
    facts.text = Some(failure.to_string());
}

fn add_client<'a>(facts: &mut ErrorFacts<'a>, error: &'a reqwest::Error) {
    facts.not_delivered = error.is_connect() || error.is_builder();
    facts.hidden_cause = Some(error);
}

/// Returns the status in rmcp's text for an answer that it has no type for:
/// `HTTP 413 Payload Too Large: …`.
fn status_in(said: &str) -> Option<u16> {
    let status = said.strip_prefix("HTTP ")?.get(..3)?.parse().ok()?;
    (400..600).contains(&status).then_some(status)
}

/// Parses `Retry-After`, a number of seconds or a date (RFC 9110, section 10.2.3). A date is
/// compared with this machine's clock once, and only the time left is kept.
pub(super) fn retry_after(value: &str) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    let left = date.duration_since(std::time::SystemTime::now());
    // The date may have passed while the answer was on its way.
    Some(left.unwrap_or_default())
}

/// The reason why an answer is not passed on as the server gave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StandIn {
    /// The answer is for another request.
    OtherRequest,
    Unreadable,
}

/// The marker of errors that replace an answer. It is random, so that a server cannot know it.
static STAND_IN: LazyLock<String> = LazyLock::new(|| format!("{:032x}", rand::random::<u128>()));

impl StandIn {
    /// Returns an error that replaces an answer on its way through rmcp's client, which knows no
    /// other kind.
    pub(super) fn error(self, message: impl Into<Cow<'static, str>>) -> ErrorData {
        let is_other = serde_json::Value::from(self == Self::OtherRequest);
        let data = serde_json::Map::from_iter([(STAND_IN.clone(), is_other)]);
        ErrorData::new(code::TRANSPORT, message, Some(data.into()))
    }

    fn of(error: &ErrorData) -> Option<Self> {
        let is_other = error.data.as_ref()?.get(STAND_IN.as_str())?.as_bool()?;
        Some(if is_other {
            Self::OtherRequest
        } else {
            Self::Unreadable
        })
    }
}
