use crate::McpResponse;

/// The number of attempts of a call. It is in the response's extensions if there was more than one.
/// A cached response does not have the attempts of the call that fetched it.
///
/// ```
/// use rmcp::model::CallToolResult;
/// use rmcp_layers::{McpResponse, retry::Attempts};
///
/// let response = McpResponse::new(CallToolResult::success(vec![]));
/// assert_eq!(Attempts::of(&response), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempts {
    /// The number of attempts, including the last one.
    pub count: u32,
}

impl Attempts {
    /// Returns the number of attempts for a response: 1 if the call was not repeated.
    pub fn of(response: &McpResponse) -> u32 {
        let attempts = response.extensions.get::<Self>();
        attempts.map_or(1, |attempts| attempts.count)
    }
}
