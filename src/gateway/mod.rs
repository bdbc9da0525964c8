//! Combines many stacks into one: [`Gateway`], and [`NamespaceLayer`] for the names alone.
//!
//! Requires the feature `gateway`.
//!
//! A member is any stack under a name, with its own layers: for example its own retry layer and
//! circuit breaker. Callers see one server.
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
//! [`Prefix`] says otherwise. Its resources are `db+file:///…`. The same holds for URIs in its
//! answers: links, embedded resources, templates, skills and notifications. A member may
//! [rename](Member::rename), [hide](Member::hide) and [describe](Member::describe) single tools and
//! prompts. An option or a filter that matches none of the member's items is logged once, and
//! [reported](MemberStatus::unmatched) with the nearest names. To compare a filter, the gateway
//! fetches lists that no caller has asked for, once for each member.
//!
//! A name that breaks the specification's rules, or is longer than
//! [64 characters](GatewayBuilder::max_name_length), ends with a hash instead. The hash is the same
//! at every start.
//!
//! Outward names are unique. Where prefixes are off and two members have one name,
//! [`GatewayBuilder::connect`] fails and names both members. An item that collides later is left
//! out.
//!
//! The views of MCP Apps (SEP-1865) keep their scheme, because hosts render no other:
//! `ui://chart/view.html` is `ui://db/chart/view.html`. This includes the `_meta` of tools and
//! results (`ui.resourceUri`, `ui/resourceUri` and other entries that are a `ui://` URI). Origins
//! and permissions in `_meta.ui` stay as they are.
//!
//! An app calls its server's tools, and reads its resources, by the server's own names. Such a name
//! or URI leads to the one member that has it, if it is exposed and the caller
//! [may see it](crate::Visibility). Outer layers are asked about the outward name. Where several
//! members have it, the error lists the outward names. Names of a gateway inside a gateway are
//! resolved this way one level deep.
//!
//! A single member with [`Prefix::Never`] and nothing hidden or filtered is passed through. Its
//! callers see what they would see without the gateway, except that `requestState` and task ids are
//! sealed.
//!
//! # Routing
//!
//! A name or URI alone identifies its member, and the number of tools does not matter. A call
//! fetches a list only if no list is cached and the name alone is not enough: two members without
//! prefixes, a name that was cut, or [read-only](GatewayBuilder::read_only) mode.
//!
//! A task goes to the member that made it, and a `requestState` (SEP-2322) to the member that
//! issued it. Both are sealed, so that a caller can neither forge one nor use another principal's.
//! Tasks of revision 2025-11-25 are routed in the same way, for callers and members of that
//! revision: `tasks/get`, `tasks/result`, `tasks/cancel`, and messages with a related task in their
//! `_meta`. `tasks/list` is the list of all members. A page has the next page of each member.
//!
//! `logging/setLevel` and a client's notifications go to all members. Custom methods are routed by
//! [a rule](GatewayBuilder::route_custom).
//!
//! A member's error arrives with its code, message and data unchanged. The error for a lost
//! connection names the member and, where known, when it is tried again.
//!
//! An unknown name is answered with -32602 and the nearest existing names that the caller
//! [may see](crate::Visibility). For this, a member without a cached list is asked for one. The
//! limit for it is 1 s, and it is repeated after a minute at the earliest.
//!
//! # Lists
//!
//! Members are asked concurrently, and each has [5 s](GatewayBuilder::list_timeout). A member that
//! is late or fails is served from its last known list, or left out. Both are reported: in
//! [`ListReport`], in the result's `_meta`, and by [`GatewayHandle::members`]. A late list is used
//! for the next request, and callers are notified that the lists have changed.
//!
//! The order is that of [priority](Member::priority), then of addition. A cursor names the item
//! after which to continue, so it stays valid when members come and go.
//!
//! An item that cannot be read is left out, for example one with `inputSchema: null`. So is a tool
//! whose `inputSchema` is not of an object, because official clients refuse the whole list for it.
//! Each is logged once, and the member is [degraded](MemberState::Degraded) as long as its list has
//! the item. A schema that only lacks its `type` is completed.
//!
//! A list is cached as long as the member says (`ttlMs`), or, where the gateway listens to the
//! member's own changes, until the next change. It is shared between callers if one of these holds:
//!
//! - It is public (`cacheScope`).
//! - [The operator says so](Member::shared_lists).
//! - The callers have no principal and sent no `Authorization` or `Cookie` header over HTTP.
//!
//! Otherwise it belongs to its caller alone.
//!
//! # Ordering
//!
//! A member's own layers receive the [`ToolHints`](crate::ToolHints) of the called tool, where the
//! operator [trusts the member](Member::trust_annotations). Layers outside of the gateway see the
//! lists as clients do, annotations included, and have trust settings of their own. Answers of
//! [per-caller](Member::per_caller) members are marked as private to their caller, so that no outer
//! cache shares them.
//!
//! # Limits
//!
//! - Lists are cached for 256 callers of each member (the least recently used is evicted).
//! - A per-caller member has [1000 stacks](Member::max_stacks) (the least recently used is
//!   dropped).
//! - A list is read for at most 1000 pages. It ends, with a warning, after them, and where a cursor
//!   is empty or repeats.
//! - The first 1000 options of a member that name items are compared with its lists.
//! - At most 256 fetches of a member's list continue after their caller has gone, each for at most
//!   a minute. Past that a fetch ends with its caller.

mod active_members;
mod broadcast;
mod discover;
mod dispatch;
mod handle;
mod layer;
mod listen;
mod lists;
mod lookup;
mod members;
mod names;
mod notifier;
mod rewrite;
mod seal;
mod service;
mod shared;
mod task_ids;
mod task_list;
mod tool_hints;
mod visibility;

pub use handle::{GatewayHandle, GatewayStats, MemberStatus};
pub use layer::{Namespace, NamespaceLayer};
pub use lists::{gather::ListReport, option_checks::UnmatchedOption};
pub use members::{member::Member, per_caller::PerCaller, state::MemberState};
pub use names::{filter::Filter, prefix::Prefix};
pub use service::{Gateway, GatewayBuilder};
