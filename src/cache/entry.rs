//! Cache entries.

use std::{
    io,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rmcp::model::{Extensions, ServerResult};
use serde::Serialize;
use tokio::time::Instant;

use super::{
    key::Key,
    rules::{Group, cache_hints},
    status::report,
};
use crate::{
    Audience, CacheStatus, CallReport, Lossless, McpResponse,
    listen::resources::has_part,
    protocol::{methods::Method, results::TTL},
    wire::Place,
};

/// Bytes of an entry beside its key and the content of its result: the entry itself, its place in
/// the map and in the order of use, and allocator rounding.
const OVERHEAD: usize = 768;

/// The request and the audience of a response. Invalidations are matched against it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub stack: u32,
    pub method: Method,
    /// The name of the tool or prompt, or the URI of the resource.
    pub target: Arc<str>,
    pub audience: Audience,
    pub key: Key,
}

/// Selects the entries to invalidate.
#[derive(Clone, Debug)]
pub(super) enum Selection<'a> {
    All,
    Group {
        stack: u32,
        group: Group,
    },
    /// The group in every stack.
    Groups(Group),
    Resource {
        stack: Option<u32>,
        uri: &'a str,
    },
    Tool(&'a str),
    Audience(&'a Audience),
    /// The responses to one message for this audience, and the public ones.
    Request {
        message: &'a [u8],
        audience: &'a Audience,
    },
}

impl Selection<'_> {
    pub(super) fn contains(&self, subject: &Subject) -> bool {
        match self {
            Self::All => true,
            Self::Group { stack, group } => {
                subject.stack == *stack && Group::of(subject.method) == Some(*group)
            }
            Self::Groups(group) => Group::of(subject.method) == Some(*group),
            Self::Resource { stack, uri } => {
                stack.is_none_or(|stack| stack == subject.stack)
                    && matches!(subject.method, Method::ReadResource | Method::GetSkill)
                    && has_part(&subject.target, uri)
            }
            Self::Tool(glob) => {
                subject.method == Method::CallTool
                    && crate::util::glob::matches(glob, &subject.target)
            }
            Self::Audience(audience) => subject.audience == **audience,
            Self::Request { message, audience } => {
                (subject.audience == **audience || subject.audience == Audience::everybody())
                    && subject.key.is_of(message)
            }
        }
    }
}

/// A cache entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub subject: Subject,
    /// Sequence number of the fetch. Of two responses to one request, the higher number was
    /// requested later.
    pub fetch: u64,
    pub result: Lossless<ServerResult>,
    /// The place of `ttlMs` in the result's text.
    pub ttl_at: Option<Place>,
    pub extensions: Extensions,
    pub report: CallReport,
    /// Time at which the response arrived.
    pub stored: Instant,
    /// Time for which the entry is fresh, counted from `stored`.
    pub fresh_for: Duration,
    pub size: usize,
    /// The version of the tool hints under which the tool was last found to be safe.
    pub checked: AtomicU64,
}

impl Entry {
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    /// Returns the cached response for one more caller.
    pub(super) fn response(&self, status: CacheStatus, reported: bool) -> McpResponse {
        let mut response = McpResponse::lossless(self.result.clone());
        response.extensions = self.extensions.clone();
        response.report = self.report;
        response.report.cache_status = Some(status);
        self.lower_ttl(&mut response.result, status);
        if reported {
            report(status, &mut response.result);
        }
        response
    }

    /// Takes the age of the entry off the result's `ttlMs`.
    fn lower_ttl(&self, result: &mut Lossless<ServerResult>, status: CacheStatus) {
        let Some(ttl) = cache_hints(result.as_read_mut()).0.map(|ttl| *ttl) else {
            return;
        };
        let age = match status {
            CacheStatus::Hit { age, .. } | CacheStatus::Stale { age } => age,
            // A follower may receive an entry from the shared store, which already has an age.
            CacheStatus::Shared | CacheStatus::Miss => self.age(Instant::now()),
        };
        let left = ttl.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        if left != ttl {
            result.set_at(self.ttl_at.as_ref(), &left.to_string(), |result| {
                if let (Some(ttl), _) = cache_hints(result) {
                    *ttl = left;
                }
            });
        }
    }

    /// Returns the status of a hit at this time, or `None` if the entry has expired.
    pub(super) fn status(&self, now: Instant) -> Option<CacheStatus> {
        let age = self.age(now);
        let ttl = self.fresh_for.checked_sub(age)?;
        (!ttl.is_zero()).then_some(CacheStatus::Hit { age, ttl })
    }
}

/// Returns a result as an entry keeps it, with the place of its `ttlMs`. Its text is a copy, because
/// a part of a larger message would keep the whole message.
pub(super) fn to_keep(result: &Lossless<ServerResult>) -> (Lossless<ServerResult>, Option<Place>) {
    let mut result = result.clone();
    result.apply_changes();
    result.copy_text();
    let ttl_at = match cache_hints(result.as_read_mut()).0 {
        Some(_) => result.place_of(TTL),
        None => None,
    };
    (result, ttl_at)
}

/// Returns the bytes that a response takes in memory, by the length of its JSON. The text that it
/// came from counts as well. Returns `None` if its content is over `limit` bytes.
pub(super) fn size_of(
    key: &Key,
    target: &str,
    result: &Lossless<ServerResult>,
    limit: usize,
) -> Option<usize> {
    let content = match result.source() {
        // The typed value takes about as much as its text.
        Some(source) => {
            let length = source.text().len();
            2 * Some(length).filter(|length| *length <= limit)?
        }
        None => json_length(&**result, limit)?,
    };
    Some(content + key.bytes.len() + target.len() + OVERHEAD)
}

/// Returns the length of a value's JSON, or `None` if it is over `limit`. The JSON is only counted,
/// not stored.
fn json_length(value: &impl Serialize, limit: usize) -> Option<usize> {
    struct Count {
        length: usize,
        limit: usize,
    }
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.length += bytes.len();
            if self.length > self.limit {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count { length: 0, limit };
    serde_json::to_writer(&mut count, value).ok()?;
    Some(count.length)
}
