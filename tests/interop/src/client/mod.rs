//! The client the conformance suite points at its own servers.
//!
//! [`scenarios`] says what to do in each scenario, in terms of a [`Driver`]: the calls it needs, as
//! whatever client is under test makes them. [`Bare`] makes them with rmcp alone, and
//! [`Layered`] with `McpClient` through layers over an `Upstream`.

mod bare;
mod layered;
pub mod scenarios;
mod user;

use rmcp::model::*;
use rmcp::service::ClientLifecycleMode;

pub use bare::Bare;
pub use layered::Layered;
pub use user::User;

use crate::serve::Result;

/// A client under test, connected.
///
/// Input a server asks for, by its own request or in its result, is answered by the [`User`] it was
/// connected with: no call here returns before it is finished.
pub trait Driver: Sized {
    fn connect(
        url: &str,
        user: User,
        lifecycle: ClientLifecycleMode,
    ) -> impl Future<Output = Result<Self>>;

    fn tools(&self) -> impl Future<Output = Result<Vec<Tool>>>;
    fn call(&self, call: CallToolRequestParams) -> impl Future<Output = Result<CallToolResult>>;
    fn resources(&self) -> impl Future<Output = Result<Vec<Resource>>>;
    fn read(&self, uri: &str) -> impl Future<Output = Result<ReadResourceResult>>;
    fn prompts(&self) -> impl Future<Output = Result<Vec<Prompt>>>;
    fn prompt(&self, name: &str) -> impl Future<Output = Result<GetPromptResult>>;
    fn skills(&self) -> impl Future<Output = Result<Vec<Skill>>>;
    fn close(self) -> impl Future<Output = Result<()>>;
}
