//! Tools that come and go while the server runs, and the health of all tools.
//!
//! [`RegistryLayer`] stands over any stack. It adds tools of this process to those of the stack, and its
//! [`RegistryHandle`] registers, replaces and removes them from anywhere in the program, while calls run:
//!
//! ```
//! use rmcp::{
//!     model::Implementation,
//!     schemars::{self, JsonSchema},
//! };
//! use rmcp_layers::{
//!     McpClient,
//!     registry::{RegisteredTool, RegistryLayer},
//! };
//! use serde::Deserialize;
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Greeting {
//!     /// Who is greeted.
//!     name: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = RegistryLayer::new();
//! let registry = layer.handle();
//! // Or `layer.layer(upstream)`, to add to what another server has.
//! let stack = layer.into_service(Implementation::new("greeter", "1.0.0"));
//! let client = McpClient::new(stack); // or McpServer::new(stack), for any transport
//!
//! let greet = RegisteredTool::builder("greet")
//!     .description("Greets somebody")
//!     .handler(|Greeting { name }, _context| async move {
//!         if name.is_empty() {
//!             return Err("nobody is there");
//!         }
//!         Ok(format!("Hello, {name}!"))
//!     })
//!     .build()?;
//! registry.register(greet)?;
//!
//! let greeting = client.call_tool("greet").argument("name", "Ada").await?;
//! assert_eq!(greeting.content[0].as_text().map(|text| &*text.text), Some("Hello, Ada!"));
//!
//! // What does not fit the schema never reaches the handler, and the model is told what is wrong.
//! let wrong = client.call_tool("greet").argument("name", 7).await?;
//! assert_eq!(wrong.is_error, Some(true));
//!
//! registry.unregister("greet")?;
//! assert!(client.list_all_tools().await?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # When to use it
//!
//! - To add a few tools to what an upstream or a gateway has, without writing a server for them.
//! - For a server whose tools are not known when it starts: plugins, tools made from a database or an API
//!   description, tools that a user turns on.
//! - To take tools that do not work out of a model's sight, and bring them back when they do.
//! - For more tools than a model's context holds: [`SearchMode`].
//! - To notice when an upstream changes what it tells models:
//!   [`pin_inner_tools`](RegistryLayerBuilder::pin_inner_tools).
//!
//! # What it does to each request
//!
//! | request | what happens |
//! |---|---|
//! | `tools/list` | The first page is the registered tools, by name, and after them the inner stack's first page, whose cursor is passed on. Later pages are the inner stack's. |
//! | `tools/call` | A registered tool is run; any other call goes to the inner stack. A registered tool hides an inner one of its name. |
//! | `server/discover` | The inner stack's answer, with the capability `tools` and `listChanged`. |
//! | `subscriptions/listen` | Where it asks for changes of the list of tools, the registry's are told beside the inner stack's. |
//! | all others | Pass untouched. |
//!
//! While the inner stack cannot be reached (a transport error, a timeout), `server/discover` and `tools/list` are
//! answered with the registered tools alone, if there are any.
//!
//! # How calls of registered tools end
//!
//! | what happens | the answer |
//! |---|---|
//! | the arguments do not fit the input schema | `isError`, with the path and the rule of each failure (up to five), so that a model can do better (MCP 2026-07-28, Tools, "Error Handling") |
//! | the handler fails | `isError`, with the message |
//! | the handler panics | `isError`; the panic's text is in the log only |
//! | the result does not fit the output schema | `isError`, with the path and the rule |
//! | the tool is [unhealthy](HealthState::Unhealthy) | JSON-RPC error -32602, `Tool not found or unhealthy: NAME (reason)` |
//! | nobody knows the tool, or its version | JSON-RPC error -32602, `Unknown tool: NAME` |
//!
//! Schemas are those of JSON Schema: 2020-12, or an older dialect that `$schema` names, back to draft 4. They
//! are compiled when the tool is built, and nothing outside a schema is ever fetched to resolve a `$ref`.
//! A schema has at most 20,000 values, nested 64 deep. Validation runs where the call runs: its cost is bounded
//! by schema and arguments, so bound the size of requests at the transport.
//!
//! # Versions
//!
//! Several versions of a tool may be registered. The newest release is listed and called, or the newest
//! pre-release if there is no release; `tools/list` names the others in the tool's `_meta`
//! ([`VERSIONS_META_KEY`]). A call pins a version by `name@2.1.0`, or by [`VERSION_META_KEY`] in its `_meta`.
//! Where the listed version is unhealthy the tool leaves the list: another version never takes its place by
//! itself.
//!
//! # Health
//!
//! A tool is judged by its [check](RegisteredToolBuilder::health_check), which runs in the background, and by
//! how real calls of it end ([`Passive`]). It becomes unhealthy after a number of failures in a row, and healthy
//! after a number of successes ([`HealthPolicy`]). Tools of the inner stack are judged alike, where an
//! [`InnerHealth`] rule covers them. Checks stop when the last layer, service and handle of the registry are
//! gone.
//!
//! # Bounds
//!
//! 10,000 registered tools by default, then registering fails; 10,000 inner tools judged by themselves, then
//! further ones are not judged; 10,000 pinned inner tools, then further ones are held back.

mod error;
mod handle;
mod health;
mod layer;
mod listen;
mod no_tools;
mod pin;
mod schema;
mod search;
mod service;
mod state;
mod tool;
mod version;

pub use error::RegistryError;
pub use handle::{RegistryHandle, ToolStatus};
pub use health::{HealthPolicy, HealthReport, HealthState, InnerHealth, Passive};
pub use layer::{RegistryLayer, RegistryLayerBuilder};
pub use no_tools::NoTools;
pub use pin::{Fingerprint, Quarantined};
pub use search::{CALL_TOOL, SEARCH_TOOLS, SearchMode};
pub use service::Registry;
pub use tool::{RegisteredTool, RegisteredToolBuilder};
pub use version::{DEPRECATED_META_KEY, VERSION_META_KEY, VERSIONS_META_KEY};
