use std::{
    fmt,
    time::{Duration, SystemTime},
};

use rmcp::model::{NumberOrString, RequestId};
use serde::{Serialize, Serializer};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Outcome, Principal};

/// How long a name, a subject, an issuer or a reason may be in a record, in bytes. What is longer is cut, and
/// says how long it was.
pub(super) const MAX_TEXT: usize = 256;
/// The same for methods, names of upstreams and request ids.
pub(super) const MAX_SHORT: usize = 128;

/// What is on record of one call, or of one HTTP request that was refused.
///
/// Text that a caller chose is bounded: 256 bytes for a name, a subject, an issuer and a reason, 128 for a
/// method and a request id. What is longer is cut and ends with its length. A token is in none of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When the request came, in UTC (RFC 3339).
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The caller's id for the request, as JSON: a number or a string. None for an HTTP request that was
    /// refused before its body was read.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "request_id")]
    pub request_id: Option<RequestId>,
    /// Who was calling, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<Who>,
    /// The JSON-RPC method. For an HTTP request that was refused before it was known, `http:` and the HTTP
    /// method.
    pub method: String,
    /// What the request was about: the tool's or prompt's name, the resource's URI, also of a request that
    /// was refused because its params do not fit its method, where it can be read. Of a call of a registry's
    /// `call_tool`, the tool that it calls, as it is called outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Which upstream or gateway member the call went to, if it got as far, and that has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// What was decided.
    pub decision: Decided,
    /// Why, if it was not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How the call ended.
    pub ended: Ended,
    /// The JSON-RPC code, where it ended with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The HTTP status, of an HTTP request that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// How long it took, in microseconds on record.
    #[serde(rename = "duration_us", serialize_with = "micros")]
    pub duration: Duration,
    /// SHA-256 of the arguments as canonical JSON (RFC 8785): `sha256:` and 64 hexadecimal digits. It tells
    /// whether two calls had the same arguments. It hides them only as far as they cannot be guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument_hash: Option<String>,
    /// The arguments themselves, redacted and bounded, if the operator asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
}

/// A principal on record: issuer and subject, and nothing of its scopes and claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Who {
    /// Who vouches for the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The subject.
    pub subject: String,
}

/// What was decided of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decided {
    /// It went on.
    Allowed,
    /// Its caller is known and may not do this, or its params do not fit its method.
    Denied,
    /// Nobody knows who calls: no token, or one that does not hold.
    Unauthenticated,
    /// It ended before anything was decided.
    Undecided,
}

impl Decided {
    /// The decision's name on record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Unauthenticated => "unauthenticated",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a call on record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ended {
    /// As its [`Outcome`] says. A call that was dropped before it ended was [cancelled](Outcome::Cancelled).
    With(Outcome),
    /// It panicked.
    Panicked,
}

impl Ended {
    /// The name on record: the outcome's, or `panicked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::With(outcome) => outcome.as_str(),
            Self::Panicked => "panicked",
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Ended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Who {
    pub(super) fn of(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer().map(|issuer| cut(issuer, MAX_TEXT)),
            subject: cut(principal.subject(), MAX_TEXT),
        }
    }
}

/// At most `max` bytes of `text`, and then how long it was.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…[{} bytes]", &text[..end], text.len())
}

/// A request id of bounded length.
pub(super) fn bounded_id(id: &RequestId) -> RequestId {
    match id {
        NumberOrString::String(text) if text.len() > MAX_SHORT => {
            NumberOrString::String(cut(text, MAX_SHORT).into())
        }
        other => other.clone(),
    }
}

/// The time as RFC 3339 has it, in UTC. Nothing for a time after the year 9999.
pub(super) fn utc(time: SystemTime) -> String {
    OffsetDateTime::from(time)
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&utc(*time))
}

fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

fn request_id<S: Serializer>(id: &Option<RequestId>, serializer: S) -> Result<S::Ok, S::Error> {
    id.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(cut("short", 8), "short");
        assert_eq!(cut("ééé", 3), "é…[6 bytes]");
        assert!(cut(&"x".repeat(1_000_000), MAX_TEXT).len() < MAX_TEXT + 32);
    }

    #[test]
    fn times_are_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_785_196_800_250);
        assert_eq!(utc(time), "2026-07-28T00:00:00.25Z");
    }
}
