use std::collections::HashMap;

use rmcp::model::{ClientRequest, GetExtensions, JsonRpcRequest, RequestId};

use crate::wire::received::{AnswerText, Received};

/// The requests that were received and are not answered.
///
/// rmcp answers no request that was cancelled. Such requests are removed once there are twice as
/// many requests as are served.
#[derive(Default)]
pub(super) struct ReceivedRequests {
    requests: HashMap<RequestId, Entry>,
    /// The size at which cancelled requests are removed.
    sweep_at: usize,
}

struct Entry {
    answer: AnswerText,
    /// The request was not served any more at the last sweep. Its answer may have been on its way.
    is_over: bool,
}

/// The minimum size at which requests are removed.
const SWEEP_AT: usize = 64;

impl ReceivedRequests {
    pub(super) fn keep(&mut self, request: &JsonRpcRequest<ClientRequest>) {
        let Some(received) = request.request.extensions().get::<Received>() else {
            return;
        };
        if self.requests.len() >= self.sweep_at {
            self.requests.retain(|_, entry| {
                let was_over = entry.is_over;
                entry.is_over = entry.answer.is_final();
                !(was_over && entry.is_over)
            });
            self.sweep_at = (2 * self.requests.len()).max(SWEEP_AT);
        }
        let entry = Entry {
            answer: received.request().answer().clone(),
            is_over: false,
        };
        self.requests.insert(request.id.clone(), entry);
    }

    pub(super) fn take(&mut self, id: &RequestId) -> Option<AnswerText> {
        self.requests.remove(id).map(|entry| entry.answer)
    }
}
