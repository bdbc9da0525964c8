//! A call of several requests: the rounds in which its server asks for input, and the polls of the
//! task that its server has made of it.

mod input;
mod rounds;
mod tasks;

use rmcp::model::{ClientRequest, InputRequests, InputResponses, ServerResult};

#[cfg(feature = "delegate")]
pub(crate) use self::input::client_result;
pub(crate) use self::input::into_server_request;
#[cfg(feature = "delegate")]
pub(crate) use self::{rounds::run_rounds_of, tasks::LONGEST_INTERVAL};
pub(crate) use self::{
    rounds::{Rounds, ToolEnd, run_rounds},
    tasks::{CANCEL_WITHIN, PollEnd, follow, polling_interval},
};
use crate::Error;

/// The side of such a call that sends its requests.
pub(crate) trait LongCall: Sync {
    /// Sends a request of the call.
    fn request(
        &self,
        message: ClientRequest,
    ) -> impl Future<Output = Result<ServerResult, Error>> + Send;

    /// Gets the answers to the server's requests for input.
    fn answers(&self, wanted: Wanted)
    -> impl Future<Output = Result<InputResponses, Error>> + Send;

    /// Returns the number of times that the call answers before it fails.
    fn max_rounds(&self) -> usize;

    /// Returns the number of consecutive failed polls after which a task is given up. A poll changes
    /// nothing, and a lost connection does not end a task.
    fn max_failed_polls(&self) -> usize;
}

/// The requests of a server for input.
#[derive(Debug)]
#[cfg_attr(not(feature = "delegate"), allow(dead_code))]
pub(crate) struct Wanted {
    pub(crate) requests: InputRequests,
    pub(crate) by: WantedBy,
}

/// The way that a server has asked for input.
#[derive(Debug)]
#[cfg_attr(not(feature = "delegate"), allow(dead_code))]
pub(crate) enum WantedBy {
    /// By the result of a round, with its state.
    Round { request_state: Option<String> },
    /// By the status of a task.
    Task,
}
