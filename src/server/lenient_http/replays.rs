use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
};

use http::HeaderValue;
use rmcp::model::RequestId;

use crate::{util::lock, wire::received::AnswerText};

/// The maximum number of requests whose answers may be replayed.
const MAX_REQUESTS: usize = 256;

/// The maximum length of their answers altogether, in bytes.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The answers that another stream of the session may bring: the stream of the request broke off,
/// or an event store keeps the answer.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<Requests>);

type Key = (HeaderValue, RequestId);

#[derive(Debug, Default)]
struct Requests {
    answers: HashMap<Key, AnswerText>,
    /// The oldest first.
    order: VecDeque<Key>,
}

impl Replays {
    pub(super) fn keep(&self, session: &HeaderValue, id: &RequestId, answer: AnswerText) {
        let key = (session.clone(), id.clone());
        let mut requests = lock(&self.0);
        if requests.answers.insert(key.clone(), answer).is_some() {
            requests.order.retain(|other| *other != key);
        }
        requests.order.push_back(key);
        while requests.is_over() {
            let Some(oldest) = requests.order.pop_front() else {
                return;
            };
            requests.answers.remove(&oldest);
        }
    }

    pub(super) fn get(&self, session: &HeaderValue, id: &RequestId) -> Option<AnswerText> {
        let requests = lock(&self.0);
        if requests.answers.is_empty() {
            return None;
        }
        requests
            .answers
            .get(&(session.clone(), id.clone()))
            .cloned()
    }
}

impl Requests {
    fn is_over(&self) -> bool {
        let answers = self.answers.values().filter_map(AnswerText::get);
        self.order.len() > MAX_REQUESTS
            || answers.map(|answer| answer.len()).sum::<usize>() > MAX_BYTES
    }
}
