//! Admission of responses: the end of a fetch, the callers that may receive its response, and the
//! entry that is inserted.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use rmcp::model::ServerResult;
use tokio::time::Instant;

use super::{
    codec,
    counters::Event,
    entry::{Entry, Subject, size_of, to_keep},
    plan::Plan,
    remote::Generations,
    rules::cache_hints,
    single_flight::{Leader, Phase},
    state::Core,
    status::report,
};
use crate::{
    Audience, CacheStatus, CallContext, Error, McpResponse, Outcome, protocol::methods::Method,
    response::CallResult,
};

impl Core {
    /// Processes the outcome of a fetch.
    pub(super) fn conclude(
        &self,
        lead: Leader,
        plan: &Plan,
        answer: CallResult,
        fetched: &Fetched<'_>,
    ) -> CallResult {
        match answer {
            Ok(response) => Ok(self.complete(lead, plan, response, fetched)),
            Err(error) => {
                let rules = &self.shared.rules;
                let is_shared = rules.share_errors && !error.is_cancelled() && !error.is_timeout();
                lead.end(Phase::Failed(is_shared.then(|| error.clone())));
                match fetched.stale {
                    Some(stale) if self.may_serve_stale(plan, stale, &error) => {
                        Ok(self.serve_stale(stale, Instant::now()))
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// Returns `true` if an expired entry may replace this failure.
    fn may_serve_stale(&self, plan: &Plan, stale: &Entry, error: &Error) -> bool {
        let outcome = Outcome::of_error(error);
        let is_about_upstream = outcome.counts_against() || error.is_not_delivered();
        is_about_upstream
            && plan.accepts_stale(stale, Instant::now(), self.shared.rules.stale_if_error)
    }

    pub(super) fn serve(&self, entry: &Entry, status: CacheStatus) -> McpResponse {
        let event = match status {
            CacheStatus::Hit { .. } => Event::Hit,
            CacheStatus::Stale { .. } => Event::Stale,
            CacheStatus::Shared => Event::Shared,
            CacheStatus::Miss => Event::Miss,
        };
        self.count(event, entry.subject.method);
        entry.response(status, self.shared.rules.report_in_meta)
    }

    pub(super) fn serve_stale(&self, entry: &Entry, now: Instant) -> McpResponse {
        let age = entry.age(now);
        self.serve(entry, CacheStatus::Stale { age })
    }

    /// Caches a response as far as allowed, and hands it to all followers.
    fn complete(
        &self,
        lead: Leader,
        plan: &Plan,
        mut response: McpResponse,
        fetched: &Fetched<'_>,
    ) -> McpResponse {
        let asked = fetched.asked_caller;
        let kept = match self.reach(lead.subject(), plan, &mut response, asked) {
            Reach::Alone { again } => {
                self.shared.set_unshared(lead.subject().key.hash, again);
                lead.end(Phase::NotShared);
                None
            }
            Reach::Waiting => Some((lead, Duration::ZERO, false)),
            Reach::Later { fresh_for, public } => Some((lead, fresh_for, public)),
        };
        if let Some((lead, fresh_for, public)) = kept {
            let entry = self.entry(&lead, plan, &response, fresh_for, public);
            if self.keep(&entry, &lead)
                && let (Some(remote), Some(under)) = (&self.shared.remote, fetched.generations)
            {
                let private = !response.is_for(&Audience::everybody());
                remote.put(self, entry.clone(), private, under);
            }
            lead.end(Phase::Completed(entry));
        }
        if response.report.cache_status.is_none() {
            response.report.cache_status = Some(CacheStatus::Miss);
            if self.shared.rules.report_in_meta {
                report(CacheStatus::Miss, &mut response.result);
            }
        }
        response
    }

    fn entry(
        &self,
        lead: &Leader,
        plan: &Plan,
        response: &McpResponse,
        fresh_for: Duration,
        public: bool,
    ) -> Arc<Entry> {
        let shared = &self.shared;
        let mut subject = lead.subject().clone();
        if public {
            subject.audience = Audience::everybody();
            subject.key = subject.key.for_everybody(&shared.hasher);
        }
        let limit = shared.rules.max_item_bytes;
        let (result, ttl_at) = to_keep(&response.result);
        let size = size_of(&subject.key, &subject.target, &result, limit);
        Arc::new(Entry {
            fetch: lead.number(),
            result,
            ttl_at,
            extensions: response.extensions.clone(),
            report: response.report.for_cached_response(),
            stored: Instant::now(),
            fresh_for,
            size: size.unwrap_or(usize::MAX),
            checked: AtomicU64::new(plan.checked),
            subject,
        })
    }

    /// Inserts an entry into memory, if allowed. Returns `true` if it should also be stored for
    /// other processes.
    fn keep(&self, entry: &Arc<Entry>, lead: &Leader) -> bool {
        let shared = &self.shared;
        shared.set_unshared(lead.subject().key.hash, false);
        if entry.size == usize::MAX || entry.fresh_for.is_zero() {
            return false;
        }
        let inserted = shared.memory.insert(entry.clone(), || !lead.is_outdated());
        let method = entry.subject.method.name();
        shared
            .counters
            .count(Event::Eviction, method, inserted.evicted);
        if inserted.kept
            && entry.subject.method == Method::ReadResource
            && shared.rules.watch_changes
        {
            let of_use = entry.fresh_for.saturating_add(shared.rules.grace());
            if let Some(until) = entry.stored.checked_add(of_use) {
                self.watched.watch(&entry.subject.target, until);
            }
        }
        inserted.kept
    }

    /// Takes over an entry that another process stored.
    pub(super) fn adopt(
        &self,
        lead: &Leader,
        plan: &Plan,
        read: codec::StoredEntry,
        context: &CallContext,
    ) -> Option<(Arc<Entry>, McpResponse)> {
        let mut response = McpResponse::lossless(read.result);
        if read.private {
            response.mark_private(context.principal()?);
        }
        let (limit, subject) = (self.shared.rules.max_item_bytes, read.subject);
        let (result, ttl_at) = to_keep(&response.result);
        let size = size_of(&subject.key, &subject.target, &result, limit)?;
        let now = Instant::now();
        let age = read.fresh_for.saturating_sub(read.left);
        // The clock may have started after the entry was stored. The entry is then treated as new,
        // with the same expiry.
        let (stored, fresh_for) = match now.checked_sub(age) {
            Some(stored) => (stored, read.fresh_for),
            None => (now, read.left),
        };
        // The process that stored it may have a longer time to live than this one.
        let most = plan.ttl.unwrap_or(self.shared.rules.time_to_live);
        let fresh_for = fresh_for.min(most);
        let parts = response.into_parts();
        let entry = Arc::new(Entry {
            fetch: lead.number(),
            result,
            ttl_at,
            extensions: parts.extensions,
            report: parts.report,
            stored,
            fresh_for,
            size,
            checked: AtomicU64::new(plan.checked),
            subject,
        });
        let status = plan.accepts(&entry, now)?;
        self.keep(&entry, lead);
        self.count(Event::StoreHit, plan.method);
        let response = self.serve(&entry, status);
        Some((entry, response))
    }

    /// Returns the callers that may receive a response.
    fn reach(
        &self,
        subject: &Subject,
        plan: &Plan,
        response: &mut McpResponse,
        asked_caller: bool,
    ) -> Reach {
        let outcome = Outcome::of_result(&response.result);
        let private = !response.is_for(&subject.audience);
        if asked_caller || private || !plan.method.has_result(&response.result) {
            return Reach::Alone {
                again: asked_caller || private,
            };
        }
        if outcome == Outcome::ToolError && self.shared.rules.share_errors {
            return Reach::Waiting;
        }
        if !outcome.is_cacheable() {
            return Reach::Alone { again: false };
        }
        let public = plan.method.has_cache_hints()
            && cache_hints(response.result.as_read_mut()).1
                == Some(rmcp::model::CacheScope::Public)
            && response.is_for(&Audience::everybody());
        match self.fresh_for(plan, response.result.as_read_mut()) {
            Some(fresh_for) => Reach::Later { fresh_for, public },
            None => Reach::Alone { again: true },
        }
    }

    /// Returns the time for which the response is fresh: the operator's time to live, limited by
    /// the server's. A server's hint alone is enough for methods that have cache hints in the
    /// specification.
    fn fresh_for(&self, plan: &Plan, result: &mut ServerResult) -> Option<Duration> {
        let most = plan.ttl.unwrap_or(self.shared.rules.time_to_live);
        let ttl = match cache_hints(result).0 {
            Some(0) if self.shared.rules.ignore_zero_ttl => plan.ttl?,
            Some(millis) => most.min(Duration::from_millis(*millis)),
            None => plan.ttl?,
        };
        (!ttl.is_zero()).then_some(ttl)
    }
}

/// Other facts about a fetch.
pub(super) struct Fetched<'a> {
    /// The server sent a request to the caller meanwhile.
    pub asked_caller: bool,
    /// The expired entry.
    pub stale: Option<&'a Arc<Entry>>,
    /// The generations to store the response with.
    pub generations: Option<Generations>,
}

/// The callers that may receive a response.
enum Reach {
    /// Its own caller. If `again`, the next response to the same request is expected to be private
    /// too.
    Alone { again: bool },
    /// The callers that wait for it.
    Waiting,
    /// All callers while it is fresh.
    Later { fresh_for: Duration, public: bool },
}
