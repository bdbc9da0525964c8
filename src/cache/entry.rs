//! An answer that is kept.

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
    rules::{Group, Kind, said},
    status::report,
};
use crate::{Audience, McpResponse, cache_status::CacheStatus, subscriptions::has_part};

/// What an entry takes beside its key and its result's content: the entry itself, its place in the map and in the
/// order of use, and what allocators round up.
const OVERHEAD: usize = 768;

/// Whom and what an answer concerns: what invalidations go by.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub stack: u32,
    pub kind: Kind,
    /// The tool's or prompt's name, or the resource's URI.
    pub target: Arc<str>,
    pub audience: Audience,
    pub key: Key,
}

/// Which answers are to go.
#[derive(Clone, Debug)]
pub(super) enum Concerned<'a> {
    All,
    Group {
        stack: u32,
        group: Group,
    },
    /// The same in every stack.
    Groups(Group),
    Resource {
        stack: Option<u32>,
        uri: &'a str,
    },
    Tool(&'a str),
    Audience(&'a Audience),
    /// What this audience, or everybody, is answered to one message.
    Request {
        message: &'a [u8],
        audience: &'a Audience,
    },
}

impl Concerned<'_> {
    pub fn includes(&self, subject: &Subject) -> bool {
        match self {
            Self::All => true,
            Self::Group { stack, group } => {
                subject.stack == *stack && subject.kind.group() == *group
            }
            Self::Groups(group) => subject.kind.group() == *group,
            Self::Resource { stack, uri } => {
                stack.is_none_or(|stack| stack == subject.stack)
                    && matches!(subject.kind, Kind::ReadResource | Kind::GetSkill)
                    && has_part(&subject.target, uri)
            }
            Self::Tool(glob) => {
                subject.kind == Kind::CallTool && crate::glob::matches(glob, &subject.target)
            }
            Self::Audience(audience) => subject.audience == **audience,
            Self::Request { message, audience } => {
                (subject.audience == **audience || subject.audience == Audience::everybody())
                    && subject.key.is_of(message)
            }
        }
    }
}

/// An answer that is kept.
#[derive(Debug)]
pub(super) struct Entry {
    pub subject: Subject,
    /// Of two answers to one request, the one with the higher number was asked for later.
    pub fetch: u64,
    pub result: ServerResult,
    pub extensions: Extensions,
    /// When the answer came.
    pub stored: Instant,
    /// How long it is fresh from then on.
    pub fresh_for: Duration,
    pub size: usize,
    /// The version of the tools' hints under which the tool was last found to be safe.
    pub checked: AtomicU64,
}

impl Entry {
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    /// The answer for one more caller.
    pub fn response(&self, status: CacheStatus, reported: bool) -> McpResponse {
        let mut response = McpResponse::new(self.result.clone());
        response.extensions = self.extensions.clone();
        response.cache_status = Some(status);
        if let (Some(ttl), _) = said(&mut response.result) {
            let age = match status {
                CacheStatus::Hit { age, .. } | CacheStatus::Stale { age } => age,
                // What others wait for may come from the shared store.
                CacheStatus::Shared | CacheStatus::Miss => self.age(Instant::now()),
            };
            *ttl = ttl.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        }
        if reported {
            report(status, &mut response.result);
        }
        response
    }

    /// How this answers a request now, if it is fresh.
    pub fn status(&self, now: Instant) -> Option<CacheStatus> {
        let age = self.age(now);
        let ttl = self.fresh_for.checked_sub(age)?;
        (!ttl.is_zero()).then_some(CacheStatus::Hit { age, ttl })
    }
}

/// What an answer takes in memory, by the length of its JSON: `None` if its content is over `limit` bytes.
pub(super) fn size_of(
    key: &Key,
    target: &str,
    result: &ServerResult,
    limit: usize,
) -> Option<usize> {
    let content = json_length(result, limit)?;
    Some(content + key.bytes.len() + target.len() + OVERHEAD)
}

/// How long a value's JSON is, if it is not over `limit`. Nothing is written anywhere.
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
