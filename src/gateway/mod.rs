//! Many stacks as one: [`Gateway`], and [`NamespaceLayer`] for the names alone.
//!
//! A member is any stack under a name, with its own layers: its own retry, its own breaker, its own
//! budget. Callers see one server.
//!
//! ```
//! use rmcp_layers::{McpClient, Upstream, gateway::Gateway};
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # #[derive(Clone)]
//! # struct Database;
//! # impl ServerHandler for Database {
//! #     fn get_info(&self) -> ServerConfig {
//! #         ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
//! #     }
//! #     async fn list_tools(
//! #         &self,
//! #         _request: Option<PaginatedRequestParams>,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<ListToolsResult, ErrorData> {
//! #         let tool = Tool::new("query", "Asks.", JsonObject::new());
//! #         Ok(ListToolsResult::with_all_items(vec![tool]))
//! #     }
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         Ok(CallToolResult::success(vec![ContentBlock::text("3 rows")]).into())
//! #     }
//! # }
//! # use Database as Archive;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! let gateway = Gateway::builder()
//!     .member("db", Upstream::in_process(Database))
//!     .member("archive", Upstream::in_process(Archive))
//!     .build()?;
//! let handle = gateway.handle(); // adds, replaces and removes members while it serves
//!
//! let client = McpClient::new(gateway);
//! let tools = client.list_all_tools().await?;
//! let names: Vec<_> = tools.iter().map(|tool| &*tool.name).collect();
//! assert_eq!(names, ["db__query", "archive__query"]);
//! client.call_tool("archive__query").await?;
//!
//! handle.remove("archive");
//! assert!(client.call_tool("archive__query").await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # Names
//!
//! Tools and prompts of the member `db` are called `db__query` and described as `[db] …`, unless
//! [`Prefix`] says otherwise; its resources are `db+file:///…`, also in what it answers: links, embedded
//! resources, templates, skills and notifications. A member may
//! [rename](Member::rename), [hide](Member::hide) and [describe](Member::describe) single tools and prompts.
//! Names that
//! break the specification's rules, or are longer than
//! [64 characters](GatewayBuilder::max_name_length), end with a hash instead, the same at every start.
//! Two things never have one name: where prefixes cannot part them, [`GatewayBuilder::connect`] fails and names
//! both members, and one that comes later is left out.
//!
//! The views of MCP Apps (SEP-1865) keep their scheme, because hosts render no other: `ui://chart/view.html`
//! is `ui://db/chart/view.html`, also in the `_meta` of tools and results (`ui.resourceUri`, `ui/resourceUri`
//! and other entries that are a `ui://` URI). Origins and permissions in `_meta.ui` stay as they are. An app
//! calls its server's tools, and reads its resources, by the server's own names. Such a name, or URI, leads to
//! the one member that has it, if it is let out and the caller [may know of it](crate::Sight); layers outside
//! are asked about the outward name. Where several members have it, the error lists the outward names. The
//! names of a gateway inside a gateway are found so one level deep.
//!
//! A member that is alone, with [`Prefix::Never`] and nothing hidden or filtered, is passed through: what
//! its callers see is what they would see without the gateway, except that `requestState` and task ids are
//! sealed.
//!
//! # Where a request goes
//!
//! A name or URI leads to its member by itself, whatever number of tools there are: no list is fetched for
//! a call, except where the name alone says nothing (two members without prefixes, a name that was cut,
//! [read-only](GatewayBuilder::read_only) mode) and no list is known. A task goes to the member that
//! made it, and so does what a
//! member wants to have back (`requestState`, SEP-2322): both are sealed, so that a caller can neither make
//! one up nor use another principal's. `logging/setLevel` and a client's notifications go to all members;
//! custom methods where [a rule](GatewayBuilder::route_custom) says.
//!
//! A member's error arrives with its code, message and data unchanged; a lost connection says whose it was
//! and, where known, when it is tried again. A name that nothing has is answered with -32602 and the
//! nearest names that there are, as far as the caller [may know of them](crate::Sight). For that a member of which no
//! list is known is asked for one, for a second, and not again within a minute.
//!
//! # Lists
//!
//! Members are asked at once and each has [5 s](GatewayBuilder::list_deadline). One that is late or fails
//! is served from its last known list, or left out, and both are said: in [`ListReport`], in the result's
//! `_meta`, and by [`GatewayHandle::members`]. What comes late is used for the next list, and callers are
//! told that there is one. Order is that of [priority](Member::priority), then of addition; a cursor says
//! after what to go on, so it holds when members come and go.
//!
//! An item that cannot be read (`inputSchema: null`, say), or a tool for which official clients refuse the whole
//! list because its `inputSchema` is not of an object, is left out: it is logged once, and the member is
//! [degraded](MemberState::Degraded) as long as its list has it. A schema that only lacks its `type` is completed.
//!
//! A list is remembered as long as the member says (`ttlMs`), or, where the gateway listens to the member's
//! own changes, until there is one. It is shared between callers if it is public (`cacheScope`), if
//! [the operator says so](Member::shared_lists), or if they neither have a principal nor showed an
//! `Authorization` or `Cookie` header over HTTP; else it is that caller's alone.
//!
//! # Layers inside and outside
//!
//! A member's own layers are given the [`ToolHints`](crate::ToolHints) of the tool that is called, where the
//! operator [trusts the member](Member::trust_annotations). Layers outside of the gateway see
//! the lists as clients do, annotations included, and trust by a setting of their own. Answers of
//! [per-caller](Member::per_caller) members are marked as their caller's, so that no cache outside shares them.
//!
//! # Bounds
//!
//! Lists are remembered for 256 callers a member, and a per-caller member has
//! [1000 stacks](Member::max_stacks): past them the longest unused is forgotten. Of a list 1000 pages
//! are read; it ends, with a warning, after them and where a cursor is empty or comes again. 256 fetches of a member's list go on when their callers have left, each for a
//! minute at most; past them a fetch ends with its caller.

mod check;
mod class;
mod discover;
mod fetch;
mod filter;
mod find;
mod handle;
mod hub;
mod known;
mod layer;
mod listed;
mod lists;
mod member;
mod merge;
mod names;
mod notices;
mod per_caller;
mod rewrite;
mod route;
mod seat;
mod service;
mod sight;
mod state;
mod tool_hints;
mod uris;

pub use filter::Filter;
pub use handle::{GatewayHandle, MemberStatus};
pub use layer::{Namespace, NamespaceLayer};
pub use lists::ListReport;
pub use member::Member;
pub use names::Prefix;
pub use per_caller::PerCaller;
pub use seat::MemberState;
pub use service::{Gateway, GatewayBuilder};
