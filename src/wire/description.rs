//! The description that a server gives of itself, from one handshake to the other.
//!
//! `server/discover` (since 2026-07-28) and `initialize` (before) describe a server in results of
//! two shapes. A description goes through a stack in the shape of `server/discover`, with all of
//! its members, also those that rmcp's types do not have.

use rmcp::model::{InitializeResult, MetaObject, ProtocolVersion, ServerResult};
use serde::Serialize;
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio_util::bytes::Bytes;

use super::{
    answers::{Expected, ReadResult},
    apply::apply,
    members::{self, Members},
};
use crate::{caller::Era, protocol::methods::Method};

const VERSIONS: &str = "supportedVersions";
const VERSION: &str = "protocolVersion";
const CAPABILITIES: &str = "capabilities";
const SERVER_INFO: &str = "serverInfo";
const META: &str = "_meta";
/// The member of `_meta` that has the server's name and version since 2026-07-28.
const SERVER_INFO_META: &str = "io.modelcontextprotocol/serverInfo";
/// The members that only a result of `server/discover` has.
const OF_DISCOVER: &[&str] = &[VERSIONS, "resultType", "ttlMs", "cacheScope"];

/// The text of the result that a server's handshake has ended with.
#[derive(Clone, Debug)]
pub(crate) struct HandshakeText {
    method: Method,
    text: Bytes,
}

/// The members of an object that is written.
type Written<'a> = Vec<(&'a str, &'a RawValue)>;

impl HandshakeText {
    /// Returns `None` if a result is not that of a handshake.
    pub(crate) fn new(expected: Expected, text: Bytes) -> Option<Self> {
        let method = expected.method()?;
        let is_handshake = matches!(method, Method::Initialize | Method::Discover);
        is_handshake.then_some(Self { method, text })
    }

    /// Returns the description in the shape of `server/discover`, with these revisions.
    pub(crate) fn described(&self, versions: &[ProtocolVersion]) -> Option<Bytes> {
        let came: Members<'_> = serde_json::from_slice(&self.text).ok()?;
        let versions = to_raw_value(versions).ok()?;
        let is_discover = self.method == Method::Discover;
        let meta = match is_discover {
            true => None,
            false => meta_with(&came, came.get(SERVER_INFO)),
        };
        // `initialize` has other members in the places of two of these. They stay in place, so that
        // they are found there again.
        let (in_place_of_versions, in_place_of_meta) = match is_discover {
            true => (VERSIONS, META),
            false => (VERSION, SERVER_INFO),
        };
        let mut members: Written<'_> = Vec::new();
        if came.get(in_place_of_versions).is_none() {
            members.push((VERSIONS, &versions));
        }
        for (name, value) in &came.0 {
            match &**name {
                name if name == in_place_of_versions => members.push((VERSIONS, &versions)),
                name if name == in_place_of_meta && !is_discover => {
                    members.extend(meta.as_deref().map(|meta| (META, meta)));
                }
                VERSION | SERVER_INFO | VERSIONS | META if !is_discover => {}
                // A value that is null is absent.
                CAPABILITIES | "instructions" | META if value.get() == "null" => {}
                name => members.push((name, value)),
            }
        }
        if !is_discover && came.get(SERVER_INFO).is_none() {
            members.extend(meta.as_deref().map(|meta| (META, meta)));
        }
        written(members)
    }
}

/// Returns the text of a result of `initialize` for a caller: the members of a description, and
/// what `result` says in place of it.
pub(crate) fn initialized(description: &Bytes, result: &InitializeResult) -> Option<Bytes> {
    let came: Members<'_> = serde_json::from_slice(description).ok()?;
    let version = to_raw_value(&result.protocol_version).ok()?;
    let own_info = to_raw_value(&result.server_info).ok()?;
    let meta = came.get(META).and_then(Members::of);
    let info = meta.as_ref().and_then(|meta| meta.get(SERVER_INFO_META));
    let in_place_of_info = match info {
        Some(_) => META,
        None => CAPABILITIES,
    };
    let info = info.unwrap_or(&own_info);
    let rest = meta.map(|mut meta| {
        meta.0.retain(|(name, _)| name != SERVER_INFO_META);
        meta
    });
    let rest = rest
        .filter(|meta| !meta.0.is_empty())
        .and_then(|meta| raw(&meta));
    let mut members: Written<'_> = Vec::new();
    if came.get(VERSIONS).is_none() {
        members.push((VERSION, &version));
    }
    for (name, value) in &came.0 {
        match &**name {
            VERSIONS => members.push((VERSION, &version)),
            VERSION | SERVER_INFO | META => {}
            name if OF_DISCOVER.contains(&name) => {}
            name => members.push((name, value)),
        }
        if name == in_place_of_info {
            members.push((SERVER_INFO, info));
        }
    }
    members.extend(rest.as_deref().map(|rest| (META, rest)));
    let came = written(members)?;
    let reading = ReadResult {
        expected: Expected::result_of(Method::Initialize),
        era: Era::Legacy,
    };
    let read = json(&reading.read(&came).ok()?)?;
    let now = json(&ServerResult::InitializeResult(result.clone()))?;
    let text: &RawValue = serde_json::from_slice(&came).ok()?;
    apply(text, &read, &now).ok().map(Bytes::from)
}

/// Returns the `_meta` of a description without the server's name and version, which have a place
/// of their own in the result of `initialize`.
pub(crate) fn meta_without_info(meta: Option<&MetaObject>) -> Option<MetaObject> {
    let mut meta = meta?.clone();
    meta.0.shift_remove(SERVER_INFO_META);
    (!meta.0.is_empty()).then_some(meta)
}

/// Returns the `_meta` of a result, with the server's name and version.
fn meta_with(came: &Members<'_>, info: Option<&RawValue>) -> Option<Box<RawValue>> {
    let own = came.get(META).and_then(Members::of).unwrap_or_default();
    let has_own = own.get(SERVER_INFO_META).is_some();
    let mut members = own;
    if let Some(info) = info.filter(|_| !has_own) {
        members.0.push((SERVER_INFO_META.into(), info));
    }
    (!members.0.is_empty()).then(|| raw(&members)).flatten()
}

fn raw(members: &Members<'_>) -> Option<Box<RawValue>> {
    let text = written(members.0.iter().map(|(name, value)| (&**name, *value)))?;
    RawValue::from_string(String::from_utf8(text.into()).ok()?).ok()
}

fn written<'a>(members: impl IntoIterator<Item = (&'a str, &'a RawValue)>) -> Option<Bytes> {
    let mut out = Vec::new();
    members::write(&mut out, members.into_iter()).ok()?;
    Some(out.into())
}

fn json(value: &impl Serialize) -> Option<Value> {
    serde_json::to_value(value).ok()
}
