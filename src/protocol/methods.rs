//! The table of the protocol's methods: a row for each method of a request that a client sends.
//!
//! A row has every column, or it does not compile. Its result needs a row in
//! [`results`](super::results), its list a row in [`lists`](super::lists). Layers and both ends of
//! a stack read the facts of a method from here, never from a second list of methods.

use rmcp::model::*;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    legacy_tasks,
    lists::ListKind,
    params::{Misfit, TypedRequest, read_text},
    results::{self, Empty, ResultRow},
    target::{Target, TargetKind},
};
use crate::{Error, wire::Beside};

/// The facts of a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The kind of the request's target.
    pub(crate) target: Option<TargetKind>,
    /// `true` if the header `Mcp-Name` has the target (MCP 2026-07-28, Streamable HTTP, "Standard
    /// Request Headers"; the Tasks extension).
    pub(crate) is_mirrored: bool,
    /// The kind of list that the result is.
    pub(crate) list: Option<ListKind>,
    pub(crate) effect: Effect,
    /// `true` if a server answers from what it knows already: it runs nothing of its tools, prompts
    /// or resources for the request, and asks its caller nothing.
    pub(crate) is_quick: bool,
    /// `true` if the answer may be a request for input (MCP 2026-07-28, SEP-2322).
    pub(crate) has_rounds: bool,
    /// The capability that a server with this method declares.
    pub(crate) capability: Option<Capability>,
    /// `true` if revision 2026-07-28 removed the method.
    pub(crate) is_removed: bool,
}

/// The effect of a request on its server, by the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None: the request only reads.
    Reads,
    /// A value is set. The same request sets it to the same value again.
    Sets,
    /// Any: a second request may have a second effect.
    Acts,
}

/// A capability of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capability {
    Tools,
    Prompts,
    Resources,
    Completions,
    Logging,
    Skills,
    Tasks,
}

impl Capability {
    pub(crate) fn is_declared_in(self, declared: &ServerCapabilities) -> bool {
        match self {
            Self::Tools => declared.tools.is_some(),
            Self::Prompts => declared.prompts.is_some(),
            Self::Resources => declared.resources.is_some(),
            Self::Completions => declared.completions.is_some(),
            Self::Logging => declared.logging.is_some(),
            Self::Skills => declared.supports_skills(),
            Self::Tasks => declared.supports_tasks(),
        }
    }
}

/// The members of a request that make it a later round of a multi-round request.
pub(crate) struct Round<'a> {
    pub(crate) input_responses: &'a mut Option<InputResponses>,
    pub(crate) request_state: &'a mut Option<String>,
}

/// Returns the arguments of a request whose method has any: `Some(None)` if it has none itself.
pub(crate) fn arguments(request: &ClientRequest) -> Option<Option<&JsonObject>> {
    match request {
        ClientRequest::CallToolRequest(call) => Some(call.params.arguments.as_ref()),
        ClientRequest::GetPromptRequest(get) => Some(get.params.arguments.as_ref()),
        _ => None,
    }
}

/// A function of the result type of a method.
pub(crate) trait WithResult {
    type Output;
    fn call<R: ResultRow>(self) -> Self::Output;
}

macro_rules! methods {
    ($(
        $name:literal $Method:ident: $Request:ident -> $Result:ident {
            target: $target:ident $(($field:ident))?, mirrored: $mirrored:ident,
            list: $list:ident, paged: $paged:ident,
            effect: $effect:ident, quick: $quick:ident, rounds: $rounds:ident,
            capability: $capability:ident, removed: $removed:ident
        }
    )*) => {
        /// A method of a request that a client sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Method {
            $(#[doc = concat!("`", $name, "`")] $Method,)*
        }

        impl Method {
            /// All methods of client requests for which rmcp has a type.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$Method),*];

            /// Returns the method of a request. Returns `None` for a custom request.
            pub(crate) fn of(request: &ClientRequest) -> Option<Self> {
                Some(match request {
                    $(ClientRequest::$Request(_) => Self::$Method,)*
                    _ => return None,
                })
            }

            /// Returns the method of this name on the wire.
            pub(crate) fn named(name: &str) -> Option<Self> {
                Some(match name {
                    $($name => Self::$Method,)*
                    _ => return None,
                })
            }

            /// Returns the method's name on the wire.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$Method => $name,)*
                }
            }

            /// Returns the method's row in the table.
            pub(crate) const fn row(self) -> &'static Row {
                match self {
                    $(Self::$Method => &Row {
                        target: column!(optional TargetKind $target),
                        is_mirrored: column!(bool $mirrored),
                        list: column!(optional ListKind $list),
                        effect: Effect::$effect,
                        is_quick: column!(bool $quick),
                        has_rounds: column!(bool $rounds),
                        capability: column!(optional Capability $capability),
                        is_removed: column!(bool $removed),
                    },)*
                }
            }

            /// Returns `true` if a request of the method cannot be without params.
            pub(crate) fn requires_params(self) -> bool {
                match self {
                    $(Self::$Method => $Request::REQUIRES_PARAMS,)*
                }
            }

            /// Reads a request of this method from its params, which lack `_meta`.
            pub(crate) fn read_request(self, params: &Value) -> Result<ClientRequest, Misfit> {
                match self {
                    $(Self::$Method => $Request::read(params).map(Into::into),)*
                }
            }

            /// Reads a request of this method from the text of its params. Returns what
            /// their type does not have.
            pub(crate) fn read_params<'a>(
                self,
                params: &'a str,
                beside: &mut Beside<'a>,
            ) -> serde_json::Result<ClientRequest> {
                match self {
                    $(Self::$Method => read_text::<$Request>(params, beside).map(Into::into),)*
                }
            }

            /// Reads a result of this method.
            pub(crate) fn read_result<'de, D: Deserializer<'de>>(
                self,
                from: D,
            ) -> Result<ServerResult, D::Error> {
                match self {
                    $(Self::$Method => $Result::deserialize(from).map(Into::into),)*
                }
            }

            /// Calls a function of the method's result type.
            pub(crate) fn with_result<F: WithResult>(self, function: F) -> F::Output {
                match self {
                    $(Self::$Method => function.call::<$Result>(),)*
                }
            }

            /// Returns `true` if a result is the final result of this method.
            pub(crate) fn has_result(self, result: &ServerResult) -> bool {
                match self {
                    $(Self::$Method => matches!(result, ServerResult::$Result(_)),)*
                }
            }

            /// Returns the meaning of an empty result of this method.
            pub(crate) const fn empty_result(self) -> Empty {
                match self {
                    $(Self::$Method => $Result::EMPTY,)*
                }
            }

            /// Returns `true` if a result of this method can have `ttlMs` and `cacheScope` (MCP
            /// 2026-07-28, SEP-2549).
            pub(crate) const fn has_cache_hints(self) -> bool {
                match self {
                    $(Self::$Method => $Result::HAS_CACHE_HINTS,)*
                }
            }
        }

        /// Returns the target of a request, if it has exactly one.
        pub(crate) fn target(request: &ClientRequest) -> Option<Target<'_>> {
            match request {
                $(ClientRequest::$Request(_request) => {
                    column!(target _request $target $(($field))?)
                })*
                ClientRequest::CustomRequest(custom) => {
                    let task = legacy_tasks::target(custom);
                    task.map(|task| Target::new(TargetKind::Task, task))
                }
                _ => None,
            }
        }

        /// Sets the target of a request that [has one](target).
        pub(crate) fn set_target(request: &mut ClientRequest, _name: String) {
            match request {
                $(ClientRequest::$Request(_request) => {
                    column!(set_target _request _name $target $(($field))?)
                })*
                ClientRequest::CustomRequest(custom) => legacy_tasks::set_target(custom, _name),
                _ => {}
            }
        }

        /// Returns the params of a request for a page of a server's list: `Some(None)` if such a
        /// request has no params.
        pub(crate) fn page_params(
            request: &ClientRequest,
        ) -> Option<Option<&PaginatedRequestParams>> {
            match request {
                $(ClientRequest::$Request(_request) => column!(page_params _request $paged),)*
                _ => None,
            }
        }

        /// Returns `true` if a request is a later round of a multi-round request.
        pub(crate) fn is_later_round(request: &ClientRequest) -> bool {
            match request {
                $(ClientRequest::$Request(_request) => column!(is_later_round _request $rounds),)*
                _ => false,
            }
        }

        /// Returns the members of a later round, for a request whose method
        /// [has rounds](Row::has_rounds).
        pub(crate) fn round(request: &mut ClientRequest) -> Option<Round<'_>> {
            match request {
                $(ClientRequest::$Request(_request) => column!(round _request $rounds),)*
                _ => None,
            }
        }
    };
}

/// The values of a column.
macro_rules! column {
    (optional $Column:ident none) => {
        None
    };
    (optional $Column:ident $value:ident) => {
        Some($Column::$value)
    };
    (bool yes) => {
        true
    };
    (bool no) => {
        false
    };
    (target $request:ident none) => {
        None
    };
    (target $request:ident Reference) => {
        match &$request.params.r#ref {
            Reference::Prompt(prompt) => Some(Target::new(TargetKind::Prompt, &prompt.name)),
            Reference::Resource(resource) => Some(Target::new(TargetKind::Resource, &resource.uri)),
            _ => None,
        }
    };
    (target $request:ident $kind:ident($field:ident)) => {
        Some(Target::new(TargetKind::$kind, &$request.params.$field))
    };
    (set_target $request:ident $name:ident none) => {{}};
    (set_target $request:ident $name:ident Reference) => {
        match &mut $request.params.r#ref {
            Reference::Prompt(prompt) => prompt.name = $name,
            Reference::Resource(resource) => resource.uri = $name,
            _ => {}
        }
    };
    (set_target $request:ident $name:ident $kind:ident($field:ident)) => {
        $request.params.$field = $name.into()
    };
    (page_params $request:ident no) => {
        None
    };
    (page_params $request:ident yes) => {
        Some($request.params.as_ref())
    };
    (is_later_round $request:ident no) => {
        false
    };
    (is_later_round $request:ident yes) => {
        $request.params.input_responses.is_some() || $request.params.request_state.is_some()
    };
    (round $request:ident no) => {
        None
    };
    (round $request:ident yes) => {
        Some(Round {
            input_responses: &mut $request.params.input_responses,
            request_state: &mut $request.params.request_state,
        })
    };
}

// A row: the name on the wire, the request and its result, and the columns of `Row`. `target` has
// the field of the params. `paged` is `yes` for a page of a whole list.
methods! {
    "ping" Ping: PingRequest -> EmptyResult {
        target: none, mirrored: no, list: none, paged: no,
        effect: Reads, quick: yes, rounds: no, capability: none, removed: yes
    }
    "initialize" Initialize: InitializeRequest -> InitializeResult {
        target: none, mirrored: no, list: none, paged: no,
        effect: Acts, quick: no, rounds: no, capability: none, removed: yes
    }
    "server/discover" Discover: DiscoverRequest -> DiscoverResult {
        target: none, mirrored: no, list: none, paged: no,
        effect: Reads, quick: yes, rounds: no, capability: none, removed: no
    }
    "completion/complete" Complete: CompleteRequest -> CompleteResult {
        target: Reference, mirrored: no, list: none, paged: no,
        effect: Reads, quick: no, rounds: no, capability: Completions, removed: no
    }
    "logging/setLevel" SetLevel: SetLevelRequest -> EmptyResult {
        target: none, mirrored: no, list: none, paged: no,
        effect: Sets, quick: yes, rounds: no, capability: Logging, removed: yes
    }
    "prompts/get" GetPrompt: GetPromptRequest -> GetPromptResult {
        target: Prompt(name), mirrored: yes, list: none, paged: no,
        effect: Reads, quick: no, rounds: yes, capability: Prompts, removed: no
    }
    "prompts/list" ListPrompts: ListPromptsRequest -> ListPromptsResult {
        target: none, mirrored: no, list: Prompts, paged: yes,
        effect: Reads, quick: yes, rounds: no, capability: Prompts, removed: no
    }
    "resources/list" ListResources: ListResourcesRequest -> ListResourcesResult {
        target: none, mirrored: no, list: Resources, paged: yes,
        effect: Reads, quick: yes, rounds: no, capability: Resources, removed: no
    }
    "resources/templates/list" ListResourceTemplates:
        ListResourceTemplatesRequest -> ListResourceTemplatesResult {
        target: none, mirrored: no, list: ResourceTemplates, paged: yes,
        effect: Reads, quick: yes, rounds: no, capability: Resources, removed: no
    }
    "resources/read" ReadResource: ReadResourceRequest -> ReadResourceResult {
        target: Resource(uri), mirrored: yes, list: none, paged: no,
        effect: Reads, quick: no, rounds: yes, capability: Resources, removed: no
    }
    "resources/directory/read" ReadResourceDirectory:
        ReadResourceDirectoryRequest -> ListResourcesResult {
        target: Resource(uri), mirrored: no, list: Resources, paged: no,
        effect: Reads, quick: no, rounds: no, capability: Resources, removed: no
    }
    "resources/subscribe" Subscribe: SubscribeRequest -> EmptyResult {
        target: Resource(uri), mirrored: yes, list: none, paged: no,
        effect: Sets, quick: yes, rounds: no, capability: Resources, removed: yes
    }
    "resources/unsubscribe" Unsubscribe: UnsubscribeRequest -> EmptyResult {
        target: Resource(uri), mirrored: yes, list: none, paged: no,
        effect: Sets, quick: yes, rounds: no, capability: Resources, removed: yes
    }
    "subscriptions/listen" Listen: SubscriptionsListenRequest -> SubscriptionsListenResult {
        target: none, mirrored: no, list: none, paged: no,
        effect: Acts, quick: no, rounds: no, capability: none, removed: no
    }
    "tools/call" CallTool: CallToolRequest -> CallToolResult {
        target: Tool(name), mirrored: yes, list: none, paged: no,
        effect: Acts, quick: no, rounds: yes, capability: Tools, removed: no
    }
    "tools/list" ListTools: ListToolsRequest -> ListToolsResult {
        target: none, mirrored: no, list: Tools, paged: yes,
        effect: Reads, quick: yes, rounds: no, capability: Tools, removed: no
    }
    "tasks/get" GetTask: GetTaskRequest -> GetTaskResult {
        target: Task(task_id), mirrored: yes, list: none, paged: no,
        effect: Reads, quick: no, rounds: no, capability: Tasks, removed: no
    }
    "tasks/update" UpdateTask: UpdateTaskRequest -> EmptyResult {
        target: Task(task_id), mirrored: yes, list: none, paged: no,
        effect: Acts, quick: no, rounds: no, capability: Tasks, removed: no
    }
    "tasks/cancel" CancelTask: CancelTaskRequest -> EmptyResult {
        target: Task(task_id), mirrored: yes, list: none, paged: no,
        effect: Acts, quick: no, rounds: no, capability: Tasks, removed: no
    }
    "skills/list" ListSkills: ListSkillsRequest -> ListSkillsResult {
        target: none, mirrored: no, list: Skills, paged: yes,
        effect: Reads, quick: yes, rounds: no, capability: Skills, removed: no
    }
    "skills/get" GetSkill: GetSkillRequest -> GetSkillResult {
        target: Skill(uri), mirrored: no, list: none, paged: no,
        effect: Reads, quick: no, rounds: no, capability: Skills, removed: no
    }
}

impl Method {
    /// Returns `true` if a server with these capabilities may have the method. A server that
    /// declares no list at all may have any.
    pub(crate) fn may_be_served(self, declared: &ServerCapabilities) -> bool {
        let lists = [
            Capability::Tools,
            Capability::Prompts,
            Capability::Resources,
        ];
        let declares_none = !lists.iter().any(|list| list.is_declared_in(declared));
        let capability = self.row().capability;
        declares_none || capability.is_none_or(|capability| capability.is_declared_in(declared))
    }

    /// Returns a result as the type of this method's results; see [`results::expect`].
    pub(crate) fn expect(self, result: ServerResult) -> Result<ServerResult, Error> {
        struct Expect(ServerResult);
        impl WithResult for Expect {
            type Output = Result<ServerResult, Error>;
            fn call<R: ResultRow>(self) -> Self::Output {
                results::expect::<R>(self.0).map(Into::into)
            }
        }
        self.with_result(Expect(result))
    }

    /// Returns the target that params name, even if they do not fit the method.
    pub(crate) fn target_in(self, params: &Value) -> Option<&str> {
        let members = self.row().target?.members();
        let named = members.iter().find_map(|member| params.pointer(member));
        named.and_then(Value::as_str)
    }
}
