//! Multi-round requests (MCP 2026-07-28, SEP-2322): limits that both ends share.

use std::time::Duration;

use serde_json::json;

use crate::{Delivered, Error, Refusal, code, util::backoff::Backoff};

/// The wait before a round without answers for the server.
pub(crate) const EMPTY_ROUND: Backoff =
    Backoff::new(Duration::from_millis(50), Duration::from_millis(250));

/// Returns the error of a request that has been answered with requests for input too many times.
pub(crate) fn too_many_rounds(rounds: usize) -> Error {
    let message = format!("the server asked for input again after {rounds} rounds");
    Refusal::new("mrtr", message)
        .with_code(code::FORBIDDEN)
        .with_delivered(Delivered::Unknown)
        .with_data(json!({ "rounds": rounds }))
        .into()
}
