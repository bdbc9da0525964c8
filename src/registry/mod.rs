//! Tools that are added and removed while the server runs, and the health of all tools.
//!
//! Requires the feature `registry`.
//!
//! [`RegistryLayer`] wraps any stack. It adds tools of this process to those of the stack. Its
//! [`RegistryHandle`] registers, replaces and removes them from anywhere in the program, while
//! calls run:
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
//!     /// The person to greet.
//!     name: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let layer = RegistryLayer::new();
//! let registry = layer.handle();
//! // Or `layer.layer(upstream)`, to add to another server's tools.
//! let stack = layer.into_service(Implementation::new("greeter", "1.0.0"));
//! let client = McpClient::new(stack); // or McpServer::new(stack), for any transport
//!
//! let greet = RegisteredTool::builder("greet")
//!     .description("Greets a person")
//!     .handler(|Greeting { name }, _context| async move {
//!         if name.is_empty() {
//!             return Err("the name is empty");
//!         }
//!         Ok(format!("Hello, {name}!"))
//!     })
//!     .build()?;
//! registry.register(greet)?;
//!
//! let greeting = client.call_tool("greet").argument("name", "Ada").await?;
//! assert_eq!(greeting.content[0].as_text().map(|text| &*text.text), Some("Hello, Ada!"));
//!
//! // Arguments that do not fit the schema never reach the handler, and the model gets the reason.
//! let wrong = client.call_tool("greet").argument("name", 7).await?;
//! assert_eq!(wrong.is_error, Some(true));
//!
//! registry.unregister("greet")?;
//! assert!(client.list_all_tools().await?.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! # When to use
//!
//! - To add a few tools to an upstream or a gateway, without writing a server for them.
//! - For a server whose tools are not known when it starts: plugins, tools made from a database or
//!   an API description, tools that a user turns on.
//! - To hide failing tools from a model, and list them again when they work.
//! - For more tools than a model's context holds: [`SearchMode`].
//! - To notice when an upstream changes the tool definitions that models act on:
//!   [`pin_inner_tools`](RegistryLayerBuilder::pin_inner_tools).
//!
//! # Requests
//!
//! | request | handling |
//! |---|---|
//! | `tools/list` | The first page has the registered tools, by name, and after them the inner stack's first page, whose cursor is passed on. Later pages are the inner stack's. |
//! | `tools/call` | A registered tool is run; any other call goes to the inner stack. A registered tool hides an inner one of its name. |
//! | `server/discover` | The inner stack's response, with the capability `tools` and `listChanged`. |
//! | `subscriptions/listen` | If it asks for changes of the tool list, the registry's changes are added to the inner stack's. |
//! | all others | Pass unchanged. |
//!
//! While the inner stack cannot be reached (a transport error, a timeout), `server/discover` and
//! `tools/list` are answered with the registered tools alone, if there are any.
//!
//! # Results and errors
//!
//! | event | response |
//! |---|---|
//! | the arguments do not fit the input schema | `isError`, with the path and the rule of each failure (up to five), so that a model can correct them (MCP 2026-07-28, Tools, "Error Handling") |
//! | the handler fails | `isError`, with the message |
//! | the handler panics | `isError`; the panic's text is in the log only |
//! | the result does not fit the output schema | `isError`, with the path and the rule |
//! | the tool is [unhealthy](HealthState::Unhealthy) | JSON-RPC error -32602, `Tool not found or unhealthy: NAME (reason)` |
//! | the tool or its version is unknown | JSON-RPC error -32602, `Unknown tool: NAME` |
//!
//! Schemas use JSON Schema 2020-12, or an older dialect that `$schema` names, back to draft 4. They
//! are compiled when the tool is built. A `$ref` to an external document is never fetched. Limit:
//! 20,000 values in a schema, nested 64 deep. Validation runs as part of the call. Its cost depends
//! on the schema and the arguments, so limit the size of requests at the transport.
//!
//! The schema engine is the feature `json-schema`. Without it, arguments are checked only by reading
//! them as the type of the [handler](RegisteredToolBuilder::handler), which covers types and
//! required members, but no further rules such as a maximum. A tool with another input schema than
//! that of this type, or with an output schema, is refused when it is built, unless its handler
//! checks [by itself](RegisteredToolBuilder::unchecked_schemas).
//!
//! # Versions
//!
//! Several versions of a tool may be registered. The newest release is listed and called, or the
//! newest pre-release if there is no release. `tools/list` names the others in the tool's `_meta`
//! ([`VERSIONS_META_KEY`]). A call pins a version with `name@2.1.0`, or with [`VERSION_META_KEY`]
//! in its `_meta`. If the listed version is unhealthy, the tool is removed from the list: another
//! version never replaces it automatically.
//!
//! # Health
//!
//! The health of a tool comes from its [check](RegisteredToolBuilder::health_check), which runs in
//! the background, and from the outcomes of real calls ([`Passive`]). The tool becomes unhealthy
//! after a number of consecutive failures, and healthy after a number of successes
//! ([`HealthPolicy`]). The same holds for tools of the inner stack that an [`InnerHealth`] rule
//! covers. Checks stop when the last layer, service and handle of the registry are dropped.
//!
//! # Limits
//!
//! - Registered tools: 10,000 by default; then registering fails.
//! - Inner tools with their own health: 10,000; then further ones have none.
//! - Pinned inner tools: 10,000; then further ones are held back.

mod error;
mod handle;
mod health;
mod layer;
mod listen;
mod no_tools;
mod pin;
#[cfg(not(feature = "json-schema"))]
#[path = "unchecked_schema.rs"]
mod schema;
mod search;
mod service;
mod state;
mod tool;
mod tool_result;
mod version;

#[cfg(feature = "json-schema")]
use crate::util::schema;

pub use error::RegistryError;
pub use handle::{RegistryHandle, ToolStatus};
pub use health::{HealthPolicy, HealthReport, HealthState, InnerHealth, Passive};
pub use layer::{RegistryLayer, RegistryLayerBuilder};
pub use no_tools::NoTools;
pub use pin::{Fingerprint, Quarantined};
pub use search::{CALL_TOOL, SEARCH_TOOLS, SearchMode};
pub use service::Registry;
pub use tool::{RegisteredTool, RegisteredToolBuilder};
pub use tool_result::IntoToolResult;
pub use version::{DEPRECATED_META_KEY, VERSION_META_KEY, VERSIONS_META_KEY};
