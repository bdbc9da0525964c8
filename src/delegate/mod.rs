//! Agents that hand tasks to agents.
//!
//! Requires the feature `delegate`.
//!
//! An [`Agent`] is any stack, usually an [`Upstream`](crate::Upstream), with a [`Mapping`] from a
//! task to a call of one of its tools. An [`Orchestrator`] runs [`Plan`]s of tasks on its agents,
//! each task as soon as those that it depends on have ended. [`DelegateLayer`] adds tools to a
//! stack by which its callers do the same over MCP.
//!
//! ```
//! use rmcp_layers::{
//!     Upstream,
//!     delegate::{Agent, Mapping, Orchestrator, Plan, Task},
//! };
//! # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
//! # use std::sync::Arc;
//! # #[derive(Clone)]
//! # struct Worker;
//! # impl ServerHandler for Worker {
//! #     fn get_info(&self) -> ServerConfig {
//! #         ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
//! #     }
//! #     async fn list_tools(
//! #         &self,
//! #         _request: Option<PaginatedRequestParams>,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<ListToolsResult, ErrorData> {
//! #         let schema = serde_json::json!({ "type": "object" }).as_object().cloned();
//! #         let schema = Arc::new(schema.unwrap_or_default());
//! #         let tool = |name| Tool::new(name, "Works", schema.clone());
//! #         Ok(ListToolsResult::with_all_items(vec![tool("execute_task"), tool("writer")]))
//! #     }
//! #     async fn call_tool(
//! #         &self,
//! #         request: CallToolRequestParams,
//! #         _context: RequestContext<RoleServer>,
//! #     ) -> Result<CallToolResponse, ErrorData> {
//! #         let text = match &*request.name {
//! #             "writer" => "Dawn over the town; the roofs are gold.",
//! #             _ => "The sun rises at 7:31.",
//! #         };
//! #         Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
//! #     }
//! # }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (research_server, writing_server) = (Worker, Worker);
//! let orchestrator = Orchestrator::builder().build()?;
//! let researcher = Agent::builder("researcher", Upstream::in_process(research_server))
//!     .capability("research")
//!     .build()?;
//! let writer = Agent::builder("writer", Upstream::in_process(writing_server))
//!     .capability("prose")
//!     .mapping(Mapping::agent_framework("writer"))
//!     .build()?;
//! orchestrator.register(researcher).await?;
//! orchestrator.register(writer).await?;
//!
//! let plan = orchestrator.run_plan(Plan::new([
//!     Task::new("sunrise", "Find out when the sun rises").capability("research"),
//!     Task::new("poem", "Write a poem about it").capability("prose").after(["sunrise"]),
//! ]))?;
//! let end = plan.wait().await;
//! let poem = end.task("poem").and_then(|task| task.output.clone());
//! assert_eq!(poem.unwrap().answer, "Dawn over the town; the roofs are gold.");
//! // plan 3f…: 2 of 2 complete
//! // └─ sunrise: complete (researcher)
//! //    └─ poem: complete (writer)
//! println!("{end}");
//! # Ok(())
//! # }
//! ```
//!
//! # When to use
//!
//! - A host or an agent hands work to other agents, in its own process: [`Orchestrator`].
//! - Agents behind a gateway hand work to each other over MCP: [`DelegateLayer`].
//! - Work has to go on after a restart: [`OrchestratorBuilder::store`].
//!
//! For a single call of a tool that takes long, [`McpClient`](crate::McpClient) is enough.
//!
//! # Agents
//!
//! A task goes to the least loaded one of the agents that have its capability: that with the
//! smallest number of tasks relative to [`max_concurrent`](AgentBuilder::max_concurrent). Of
//! several, the one whose recent attempts have failed less often is chosen, then the one with the
//! higher priority, the lower cost, and the shorter recent attempts. If all are full, the task waits
//! in a queue, by priority and then by age. If there are none, it fails with the reason.
//!
//! An agent may decline a task. It then goes to another one, and is `rejected` when all have
//! declined it. A failed attempt is repeated as the [`Retries`] say, preferably by another agent. If
//! the agent may have done the task (the connection was lost, the call timed out, or its server failed
//! unexpectedly), the task fails instead, unless it is [idempotent](Task::idempotent). A task never
//! runs twice at the same time.
//!
//! # Statuses
//!
//! | status | meaning |
//! |---|---|
//! | `pending` | waits for its dependencies |
//! | `ready` | waits for an agent, or for the delay before a retry |
//! | `running` | an agent works on it |
//! | `input_required` | its agent waits for an answer: [`PlanHandle::answer`] |
//! | `complete` | done |
//! | `failed` | not done: the last attempt has failed, there is no agent, or its deadline has passed |
//! | `cancelled` | not done: it was cancelled, or its plan was stopped |
//! | `skipped` | not done, because of a dependency with [`OnFailure::SkipDependents`] |
//! | `rejected` | not done: all agents have declined it |
//!
//! # Tools
//!
//! [`DelegateLayer`] adds these tools at the end of `tools/list`. They hide inner tools of their
//! names.
//!
//! | tool | effect |
//! |---|---|
//! | `delegate_task` | hands over one task, and waits for its answer |
//! | `run_plan` | hands over tasks that depend on each other, and waits for the end |
//! | `task_status` | returns the state of a plan after a change, or with `until: "end"` after its end |
//! | `cancel_task` | cancels a plan, or one task of it |
//! | `answer_task` | answers the question of an agent |
//! | `list_agents` | returns the agents with their capabilities and load |
//!
//! A call waits for `wait_s`. Default: 45 s, because most hosts give up after 60 s. Then it returns the
//! id of the plan, which goes on, and says to call `task_status`. Meanwhile the caller gets progress,
//! such as "3 of 7 tasks". A caller that cancels `delegate_task` or `run_plan` before it has the id
//! cancels the plan. Wrong arguments are results with `isError`, because hosts show the model results
//! and most of them no JSON-RPC errors.
//!
//! The question of an agent goes to the caller that waits, if it has declared that it can answer: as an
//! `input_required` result, or as a request of the session before 2026-07-28. Else the task is
//! `input_required` until `answer_task` brings the answer.
//!
//! For a caller that declares the Tasks extension (SEP-2663), `delegate_task` and `run_plan` return a
//! task at once. `tasks/get`, `tasks/update` and `tasks/cancel` of it are answered by the layer, and
//! those of other tasks by the inner stack. A plan that stops at one of its limits is a completed task,
//! whose result has what is done.
//!
//! # Several processes
//!
//! With a [`store`](OrchestratorBuilder::store), the tools and the Tasks extension also know the
//! plans of other processes. A caller gets the id of a plan when the store has it.
//!
//! `cancel_task`, `answer_task`, `tasks/cancel`, `tasks/update` and a further round of a call that
//! reach another process are kept in the store. The process that runs the plan looks there each
//! second, and carries them out. If none runs it, the one that takes it over does so before the
//! plan goes on. The tools wait for that for 5 s, and then say how far it is; `task_status` shows
//! the effect. In Rust: [`Orchestrator::cancel_plan`], [`cancel_task`](Orchestrator::cancel_task)
//! and [`answer_task`](Orchestrator::answer_task).
//!
//! An answer goes to the question that was open when it was given. If another answer has come
//! first, it is dropped. It is kept until the store says that its question is answered: if the
//! process that was to pass it on dies, the next one does.
//!
//! # Plans that survive
//!
//! With a [`store`](OrchestratorBuilder::store), a plan is written to it before it begins, each
//! attempt before it begins, an agent's handle as soon as it is given, and each result before others
//! learn of it. [`Orchestrator::resume`] takes over the plans of an orchestrator that has died.
//! Results that are stored are never computed again.
//!
//! One orchestrator at a time runs a plan, by a [lease](crate::store::Lease). If it is suspended or
//! cut off from the store for longer than the lease, it stops the plan and cancels its attempts. An
//! attempt begins only if the record of its task is unchanged, so two orchestrators never begin the
//! same attempt. A plan also stops if its store fails for a minute.
//!
//! # Ordering
//!
//! Put the layer inside of `auth`, which sets the principal, and outside of the stack whose tools it
//! adds to:
//!
//! | layer | in the recommended order | in the other order |
//! |---|---|---|
//! | `auth` | outside: plans are a principal's, and its rules hold for the tools too | plans are those of callers without a principal |
//! | `budget` | outside: answers of agents are charged for and cut | they are not |
//! | `cache` | inside: calls of the tools are not its business | its rules for tools would have to exclude them |
//! | `gateway` | inside: the tools keep their names | it prefixes the names, which the answers do not |
//!
//! # Security
//!
//! A plan is found, answered and cancelled only by the caller that it was submitted for: its
//! principal, or else its [`Audience`](crate::Audience). Another caller gets the same answer as for
//! an id that does not exist. An id has 128 random bits. Calls to agents are made in the context of
//! the caller, so a `CredentialLayer` of an agent's stack sees the principal. Of the caller's `_meta`,
//! agents get only the trace context. After a restart, the
//! principal is the one in the store, without the credentials of its request.
//!
//! All callers of the layer see all of its agents, and may hand tasks to any of them. Rules of `auth`
//! for the tools, or a layer of its own for each group of callers, keep them apart. A caller has a
//! limit of running plans of its own. Callers share the other limits below, such as the queue.
//!
//! The answers of an agent are context of the agents after it: an agent that is not trusted can tell
//! them anything. The number of delegations in a row, the agents that were visited, the time and the
//! tokens that are left go with each call in `_meta` ([`DELEGATION_META_KEY`]). They bind
//! orchestrators that read them, and an agent may leave them out. Agents are told apart by name there:
//! give different agents of one chain different names.
//!
//! # Limits
//!
//! - Agents: 1,000 by default (a further one is refused).
//! - Plans that run: 1,000, and 100 of one caller (a further one is refused).
//! - Plans that have ended: 1,000, for 1 h (the one that ended first is forgotten).
//! - Tasks of a plan: 10,000, and 1,000 in a chain (a larger plan is refused).
//! - Tasks that wait for an agent: 100,000 (a further one fails).
//! - Descriptions and own contexts of tasks: the limit of the transport for a message.
//! - Context of a task from the results of others: 256 KiB (each is cut to an equal part).
//! - Delegations in a row: 5 (a further one is refused).
//! - Records in the store: 7 days from the submission of a plan.
//! - Requests that wait for the process of a plan: 100, and 1 MiB (a further one is refused; the
//!   cancellation of the plan takes the place of all).
//! - [`PlanLimits`] bounds the time, the tokens and the cost of a plan.
//!
//! All attempts of a plan are polled by one task of the runtime, so agents in the same process should
//! not compute for long without awaiting.
//!
//! # Metrics
//!
//! [`DelegateHandle::stats`], [`Orchestrator::agents`] and [`Orchestrator::waiting`] have the state.
//! `tracing` events in the form that `tracing-opentelemetry` reads: `rmcp_layers.delegate.tasks` (by
//! `status`), `attempts`, `retries`, `rejections`, `plans` of the layer, and `handed_back`.

mod agent;
mod calls;
mod counters;
mod handle;
mod hops;
mod layer;
mod lists;
mod orchestrator;
mod plan;
mod questions;
mod schedule;
mod service;
mod task_store;
mod tasks_extension;
mod tools;
mod waiting;

pub use self::{
    agent::{Agent, AgentBuilder, Mapping, StatusTool, TaskOutput},
    handle::{DelegateHandle, DelegateStats},
    hops::DELEGATION_META_KEY,
    layer::{DelegateLayer, DelegateLayerBuilder},
    orchestrator::{
        AgentStatus, AnswerError, Delivery, DependencyResult, Orchestrator, OrchestratorBuilder,
        PlanHandle, RegisterError, RequestError, TaskContext,
    },
    plan::{
        OnFailure, Plan, PlanError, PlanLimits, PlanSnapshot, PlanState, Retries, Status, Task,
        TaskProgress, TaskSnapshot,
    },
    service::Delegate,
};
