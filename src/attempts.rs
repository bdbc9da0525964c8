use crate::McpResponse;

/// How many attempts a call took: in the extensions of the response, where it was more than one. An answer from a
/// cache says nothing of those that it took to fetch it.
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
    /// The number of attempts, the one that was answered included.
    pub count: u32,
}

impl Attempts {
    /// How many attempts this answer took: 1 if nothing was repeated.
    pub fn of(response: &McpResponse) -> u32 {
        let attempts = response.extensions.get::<Self>();
        attempts.map_or(1, |attempts| attempts.count)
    }
}
