use std::time::{Duration, SystemTime};

use rmcp::model::RequestId;
use serde::{Serialize, Serializer};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Decision, Ended, Principal, util::text::cut};

/// Limit of a name, a subject, an issuer or a reason in a record, in bytes. Longer text is cut and
/// followed by its original length.
pub(super) const MAX_TEXT: usize = 256;
/// Limit of a method, an upstream's name or a request id, in bytes.
pub(super) const MAX_SHORT: usize = 128;

/// The audit record of one call, or of one HTTP request that was refused.
///
/// Text that a caller chose is bounded. Limit: 256 bytes for a name, a subject, an issuer and a
/// reason; 128 bytes for a method and a request id. Longer text is cut and followed by its original
/// length. No field contains a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// The time at which the request arrived, in UTC (RFC 3339).
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// The caller's id for the request, as JSON: a number or a string. `None` for an HTTP request
    /// that was refused before its body was read.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "request_id")]
    pub request_id: Option<RequestId>,
    /// The calling principal, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<AuditPrincipal>,
    /// The JSON-RPC method. For an HTTP request that was refused before the method was known,
    /// `http:` and the HTTP method.
    pub method: String,
    /// The target of the request: the name of a tool or prompt, or the URI of a resource. It is
    /// also recorded if the request was refused because its params do not fit its method, as far as
    /// it can be read. For a call of a registry's `call_tool`, it is the tool that is called in the
    /// end, under its outward name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The upstream or gateway member that the call reached, if it has a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The decision on the request.
    pub decision: Decision,
    /// The reason, if the request was not allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The result of the call.
    pub ended: Ended,
    /// The JSON-RPC error code, if the call ended with one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The HTTP status of an HTTP request that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The duration of the call; written in microseconds.
    #[serde(rename = "duration_us", serialize_with = "micros")]
    pub duration: Duration,
    /// The SHA-256 hash of the arguments as canonical JSON (RFC 8785): `sha256:` and 64 hexadecimal
    /// digits. Equal arguments have equal hashes. The hash hides arguments only if they cannot be
    /// guessed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub argument_hash: Option<String>,
    /// The arguments, redacted and bounded, if the operator asked for them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
}

/// A principal in a record: its issuer and subject, without its scopes and claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditPrincipal {
    /// The issuer that vouches for the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The subject.
    pub subject: String,
}

impl AuditPrincipal {
    pub(super) fn of(principal: &Principal) -> Self {
        Self {
            issuer: principal.issuer().map(|issuer| cut(issuer, MAX_TEXT)),
            subject: cut(principal.subject(), MAX_TEXT),
        }
    }
}

/// Formats the time as RFC 3339, in UTC. Returns an empty string for a time after the year 9999.
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
    fn times_are_rfc_3339() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_785_196_800_250);
        assert_eq!(utc(time), "2026-07-28T00:00:00.25Z");
    }
}
