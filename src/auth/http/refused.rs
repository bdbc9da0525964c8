use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
};
use rmcp::model::{ErrorCode, ErrorData, JsonRpcError, RequestId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::message::Message;
use crate::{
    Error, Principal,
    auth::{AuthError, AuthErrorKind},
    code,
    wire::ids,
};

/// Default of `Retry-After`.
const RETRY: Duration = Duration::from_secs(5);

/// The body of a refusal.
#[derive(Serialize)]
struct Body<'a> {
    jsonrpc: &'static str,
    id: Option<Box<RawValue>>,
    error: &'a ErrorData,
}

/// A refused request, and the facts for its audit record.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) reason: Cow<'static, str>,
    pub(super) facts: RequestFacts,
    error: ErrorData,
    challenge: Option<String>,
    retry_after: Option<Duration>,
    /// The request was not read to its end, so the connection has to be closed.
    pub(super) is_last: bool,
}

/// The known facts of a request.
#[derive(Debug, Default)]
pub(super) struct RequestFacts {
    pub(super) principal: Option<Principal>,
    pub(super) method: Option<String>,
    pub(super) name: Option<String>,
    pub(super) id: Option<RequestId>,
}

impl RequestFacts {
    pub(super) fn set_message(&mut self, message: &Message) {
        self.method = message.method.clone();
        self.name = message.target.clone();
        self.id = message.id.clone();
    }
}

impl Refused {
    /// Builds a refusal as in RFC 6750, section 3.
    pub(super) fn by(error: AuthError, challenge: String, facts: RequestFacts) -> Box<Self> {
        let unavailable = error.kind() == AuthErrorKind::Unavailable;
        Box::new(Self {
            status: error.status(),
            reason: error.reason().to_owned().into(),
            facts,
            challenge: (!unavailable).then_some(challenge),
            retry_after: unavailable.then(|| error.retry_after().unwrap_or(RETRY)),
            error: Error::from(error).into(),
            is_last: false,
        })
    }

    /// Builds the refusal of a body that cannot be decided on.
    pub(super) fn bad(
        status: StatusCode,
        code: ErrorCode,
        reason: &'static str,
        facts: RequestFacts,
    ) -> Box<Self> {
        Box::new(Self {
            status,
            reason: reason.into(),
            facts,
            error: ErrorData::new(code, reason, None),
            challenge: None,
            retry_after: None,
            is_last: false,
        })
    }

    /// Builds the refusal of a body that is not a message.
    pub(super) fn unreadable(refused: JsonRpcError, mut facts: RequestFacts) -> Box<Self> {
        facts.id = refused.id;
        let error = refused.error;
        Box::new(Self {
            status: StatusCode::BAD_REQUEST,
            reason: error.message.clone(),
            facts,
            error,
            challenge: None,
            retry_after: None,
            is_last: false,
        })
    }

    /// Builds the refusal of a session above the limit.
    pub(super) fn no_room(facts: RequestFacts) -> Box<Self> {
        let reason = "there is no room for another session";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let mut refused = Self::bad(status, code::UNAVAILABLE, reason, facts);
        refused.retry_after = Some(RETRY);
        refused
    }

    /// Builds the audit record for a session that is not the caller's own. The caller itself gets
    /// the inner service's response to an unknown session.
    pub(super) fn not_own(facts: RequestFacts) -> Box<Self> {
        let reason = "the session belongs to another principal, or does not exist";
        Self::bad(
            StatusCode::NOT_FOUND,
            ErrorCode::INVALID_REQUEST,
            reason,
            facts,
        )
    }

    pub(super) fn code(&self) -> ErrorCode {
        self.error.code
    }

    pub(super) fn into_response(self) -> Response<Bytes> {
        // An unknown id is null (JSON-RPC 2.0, section 5). Revision 2026-07-28 would omit it.
        // Clients that accept an omitted id also accept null, but some accept null only.
        let id = self.facts.id.as_ref().map(ids::json);
        let error = Body {
            jsonrpc: "2.0",
            id: id.and_then(|id| RawValue::from_string(id).ok()),
            error: &self.error,
        };
        let mut response = Response::new(serde_json::to_vec(&error).unwrap_or_default().into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self
            .challenge
            .and_then(|text| HeaderValue::try_from(text).ok())
        {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(after) = self.retry_after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self.is_last {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
