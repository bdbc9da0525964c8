use std::{collections::VecDeque, sync::Mutex};

use http::{
    HeaderName, HeaderValue, Request,
    header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};

use super::{METHOD, NAME, VERSION};
use crate::{
    server::lenient_http::SESSION_ID,
    util::{http_head, lock},
};

/// The maximum number of heads. The oldest is forgotten.
const MAX_HEADS: usize = 64;

/// The headers by which rmcp accepts or refuses a request before it looks at its message.
static NAMES: [HeaderName; 5] = [HOST, ORIGIN, ACCEPT, CONTENT_TYPE, VERSION];

/// The other headers that rmcp reads of a POST.
static OF_MESSAGE: [HeaderName; 3] = [SESSION_ID, METHOD, NAME];

/// Returns the parts of a head that rmcp reads, for a call that has the head itself.
pub(super) fn read_by_rmcp(parts: &Parts) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = parts.method.clone();
    head.uri = parts.uri.clone();
    head.version = parts.version;
    for name in NAMES.iter().chain(&OF_MESSAGE) {
        for value in parts.headers.get_all(name) {
            head.headers.append(name, value.clone());
        }
    }
    head
}

/// The heads of requests that rmcp has accepted. A request with the same head is acceptable.
#[derive(Default)]
pub(super) struct Heads(Mutex<VecDeque<Head>>);

pub(super) struct Head {
    authority: Option<Authority>,
    values: [Vec<HeaderValue>; NAMES.len()],
}

impl Head {
    pub(super) fn of(parts: &Parts) -> Self {
        let values = |name| parts.headers.get_all(name).iter().cloned().collect();
        Self {
            authority: parts.uri.authority().cloned(),
            values: NAMES.each_ref().map(values),
        }
    }

    /// Returns the head with buffers of its own.
    fn copied_out(self) -> Self {
        let copied = |values: Vec<HeaderValue>| values.iter().map(http_head::copy_of).collect();
        let authority = self.authority.and_then(|it| it.as_str().parse().ok());
        Self {
            authority,
            values: self.values.map(copied),
        }
    }

    fn is_of(&self, parts: &Parts) -> bool {
        let mut headers = NAMES.iter().zip(&self.values);
        self.authority.as_ref() == parts.uri.authority()
            && headers.all(|(name, values)| parts.headers.get_all(name).iter().eq(values))
    }
}

impl Heads {
    pub(super) fn contains(&self, parts: &Parts) -> bool {
        lock(&self.0).iter().any(|head| head.is_of(parts))
    }

    pub(super) fn add(&self, head: Head) {
        let mut heads = lock(&self.0);
        if heads
            .iter()
            .any(|other| other.authority == head.authority && other.values == head.values)
        {
            return;
        }
        if heads.len() >= MAX_HEADS {
            heads.pop_front();
        }
        heads.push_back(head.copied_out());
    }
}
