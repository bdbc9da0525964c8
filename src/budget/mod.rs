//! A model's context window, spent on purpose.
//!
//! Requires the feature `budget`.
//!
//! [`BudgetLayer`] wraps any stack. It counts in tokens what each result costs the model that reads
//! it, cuts a result that costs more than its share of what is left, and refuses calls when nothing
//! is left. A result that was cut is kept for a while, and the model reads the rest of it:
//!
//! ```
//! use rmcp_layers::{
//!     McpClient, Upstream,
//!     budget::{BudgetLayer, ContextBudget},
//! };
//! use tower::ServiceBuilder;
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # struct Logs;
//! # impl ServerHandler for Logs {
//! #     async fn call_tool(
//! #         &self,
//! #         _request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         let lines = (0..20_000).map(|line| format!("{line} started\n"));
//! #         Ok(CallToolResult::success(vec![ContentBlock::text(lines.collect::<String>())]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), rmcp_layers::Error> {
//! let layer = BudgetLayer::builder(ContextBudget::new(32_000)).model("gpt-5").build()?;
//! let budget = layer.handle();
//! let client = McpClient::new(ServiceBuilder::new().layer(layer).service(Upstream::in_process(Logs)));
//!
//! // The log has far more than 30 % of the window.
//! let logs = client.call_tool("logs").await?;
//! let report = &logs.meta.unwrap()["rmcp-layers/budget"];
//! assert!(report["charged"].as_u64() <= Some(7_772));
//!
//! let id = report["cut"]["id"].as_str().unwrap().to_owned();
//! let found = client.call_tool("read_result").argument("id", id).argument("search", "19999 ").await?;
//! assert!(found.content[0].as_text().unwrap().text.contains("19999 started"));
//! assert_eq!(budget.stats().cuts, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # When to use
//!
//! - In an agent's own stack, so that one large result does not push everything else out of its
//!   window.
//! - In a gateway, whose hosts cut results by themselves at best, and lose the rest.
//! - To find the tools whose definitions or results take most of a window:
//!   [`count_definitions`](BudgetLayerBuilder::count_definitions), [`BudgetHandle::stats`].
//!
//! # Requests
//!
//! | request | handling |
//! |---|---|
//! | `tools/call`, `resources/read`, `prompts/get` | Reserves a share, calls the inner stack, fits the result, and charges for it. |
//! | `tools/call` of `read_result` | Reads a kept result. |
//! | `resources/read` of a `result://` URI | The same, for a caller that follows the link in the result. |
//! | `resources/read` of a `ui://` URI | Passes unchanged: a host renders the view of an MCP App, and no model reads it. |
//! | `tools/list` | The first page has `read_result`, which hides an inner tool of its name. Tools declare the length of their results. Output schemas are hidden if [so configured](OnSchemaMisfit::DropStructured). |
//! | `tools/list`, `prompts/list`, `skills/list` | Charged for, if [so configured](BudgetLayerBuilder::count_definitions). |
//! | `server/discover` | The inner stack's response, with the capabilities `tools` and `resources`. |
//! | `resources/list`, `resources/templates/list` | Empty if the inner stack has no such method. |
//! | all others | Pass unchanged. |
//!
//! Tool errors are charged for and never cut. Multi-round and task results pass as they are, and so
//! does the result of a task: nothing tells which poll of it the model reads.
//!
//! # Shares
//!
//! A call reserves a share of the available tokens before it goes to the inner stack:
//! [`max_fraction`](BudgetLayerBuilder::max_fraction) of them, and at least
//! [`min_to_call`](BudgetLayerBuilder::min_to_call). Calls at the same time have shares of what the
//! others have left, so together they never spend more than there is. A result that costs less gives
//! the rest of its share back, and a call that fails or is cancelled all of it. Only results that are
//! never cut can cost more than their share.
//!
//! # Refusals
//!
//! Below `min_to_call` available tokens, a call is refused before it goes to the inner stack. A
//! refused `tools/call` is a result with `isError`, because hosts show the model results, and most of
//! them no JSON-RPC errors. Its text says what to do, and no retry layer repeats it. Other refused
//! requests are errors with [`code::TOO_LARGE`](crate::code::TOO_LARGE) (-31413).
//!
//! # Kept results
//!
//! The note in a cut result says how to get the rest: by the tool `read_result` with an id, or by
//! reading the URI `result://ID`. Both take the same parameters, the URI in its query:
//!
//! | parameter | meaning |
//! |---|---|
//! | `page` | a page, from 1 on; the first one if nothing else is given |
//! | `offset`, `limit` | bytes of the text, moved to whole characters |
//! | `pointer` | a JSON pointer into the result (`/content/0/text`) or into its JSON (`/items/3`, of `structuredContent` or else of the text); the longest text by default |
//! | `search` | text to find in all texts or in that of `pointer`, from `offset` on; the answer has each place with its surroundings |
//!
//! Each answer is charged for, and has at most the share of its call. The first block of an answer
//! is the text itself, byte for byte, and the second one says which part it is and how to go on. All
//! pages together are the whole text.
//!
//! Many hosts show the model only `structuredContent`, or no links, so the note is in the content, in
//! `_meta`, and inside of a shortened string.
//!
//! # Conversations
//!
//! Each conversation has a budget. It is the requests of one principal in one session. The session is
//! that of `Mcp-Session-Id` over HTTP, and the connection over other transports. A caller of MCP
//! 2026-07-28 over HTTP has no session: all requests of its principal are one conversation. Without a
//! principal, no two such requests can be told to belong together, and each has a budget of its own.
//! [`conversation_by`](BudgetLayerBuilder::conversation_by) names conversations by a header or a key
//! in `_meta`.
//!
//! A host that begins anew, or compacts its context, within a session has to say so:
//! [`BudgetHandle::reset`] and [`BudgetHandle::refund`].
//!
//! # Ordering
//!
//! Put the budget inside of `auth`, which sets the principal, and outside of layers whose results a
//! model reads:
//!
//! | layer | in the recommended order | in the other order |
//! |---|---|---|
//! | `auth` | outside: budgets and kept results are a principal's, and its rules hold for `read_result` too | budgets are those of sessions, and kept results those of a session |
//! | `registry` | inside: results of registered tools are charged for | they are not; search finds `read_result` |
//! | `cache` | inside: a hit is charged for, and a full result is cached once for all windows | results of the budget are marked as one session's, so the cache keeps none of them |
//! | `gateway` | inside: the ids and URIs of kept results stay as they are | the gateway prefixes the name of the tool, which the notes do not |
//! | `retry` | inside: one share holds for all attempts | each attempt has a share, and a tool error of the budget is not repeated |
//!
//! A budget may be inside of another one, such as a gateway's inside of an agent's. The outer one
//! passes on reads of ids that it does not hold, if the inner stack lists the tool of a budget by the
//! same name. A budget inside with a tool of another name, or with none, is not read by `result://`
//! URIs from outside.
//!
//! # Shared budgets
//!
//! With a [`store`](BudgetLayerBuilder::store), processes that serve the same conversation share its
//! budget and its kept results. Reservations are atomic, so they do not overspend together. A call is
//! refused while the store cannot be reached. The share of a call whose process has died stays used
//! until the window ends, after [`idle_timeout`](BudgetLayerBuilder::idle_timeout).
//!
//! The share of a call that was cancelled or has failed goes back once the store answers. It stays
//! used if the store is down for longer than 10 min. The share of a call whose charge fails stays
//! used.
//!
//! # Security
//!
//! A kept result is read only by its principal, and without a principal only in the session that it
//! belongs to. Its id has 128 random bits. Another caller gets the same answer as for an id that does
//! not exist. Callers of MCP 2026-07-28 over HTTP without a principal are told apart by their
//! [`Audience`](crate::Audience), so two of them that send the same headers rely on the id alone.
//!
//! A budget is not a rate limit: a caller begins a new window with each new session.
//!
//! # Limits
//!
//! - Conversations: 10,000 by default (the least recently used without a call in flight is dropped).
//! - Kept results: 256 MiB, 64 MiB for one caller, 32 MiB each, 30 min.
//! - A result that is counted or cut: [`ResultLimits`].
//! - Known output schemas: 1,024 audiences of 10,000 tools each. A tool that is in
//!   no list is asked for once in 30 s.
//! - Counted definitions in the report: 10,000.
//! - Shares that wait for the store to answer: 1,024. Further ones stay used.
//!
//! # Metrics
//!
//! [`BudgetHandle::stats`] has the counters. They are also `tracing` events in the form that
//! `tracing-opentelemetry` reads: `rmcp_layers.budget.charged_tokens`, `saved_tokens`, `cuts`,
//! `refused` (by `reason`), `reads` and `store_failures`.

mod builder;
mod calls;
mod context_budget;
mod conversation;
mod counter;
mod counters;
mod definitions;
mod fit;
mod handle;
mod kept;
mod layer;
mod ledger;
mod limits;
mod lists;
mod media;
mod read_result;
mod reads;
mod report;
mod rules;
mod service;
mod state;
mod tools;

pub use builder::BudgetLayerBuilder;
pub use context_budget::ContextBudget;
pub use conversation::Conversation;
pub use counter::{TokenCounter, Tokenizer};
pub use definitions::DefinitionCost;
pub use fit::{Charge, KeptText, OnSchemaMisfit, RepeatedText};
pub use handle::{BudgetHandle, BudgetStats};
pub use layer::BudgetLayer;
pub use limits::ResultLimits;
pub use media::MediaTokens;
pub use report::{BUDGET_META_KEY, RESULT_SIZE_META_KEY, ThresholdCrossed};
pub use rules::ResultKind;
pub use service::Budget;
