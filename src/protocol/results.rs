//! The table of results: a row for each result type of a method.

use rmcp::model::*;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{Error, Lossless, TransportError};

/// The result type of one method.
pub(crate) trait MethodResult: Sized {
    /// Extracts the result from the union, or returns the union.
    fn take(result: ServerResult) -> Result<Self, Box<ServerResult>>;
    /// Returns `true` if a result is of this type.
    fn is(result: &ServerResult) -> bool;
    /// Parses the result from its JSON.
    fn read(json: Value) -> Result<Self, serde_json::Error>;
    /// Returns a result for rmcp in place of one that only the transport can carry.
    fn stand_in() -> Option<Self>;
}

/// The members of a result with cache hints.
pub(crate) const TTL: &str = "ttlMs";
pub(crate) const CACHE_SCOPE: &str = "cacheScope";

/// Returns the result as the type of its method.
///
/// rmcp parses an upstream's response without knowing the method, as the first type of a union that
/// fits. This is sometimes the wrong type: a tool result without content is parsed as an empty
/// result. The response is then parsed again as the right type.
pub(crate) fn expect<T: MethodResult>(result: ServerResult) -> Result<T, Error> {
    T::take(result).or_else(|other| {
        serde_json::to_value(&other)
            .and_then(T::read)
            .map_err(|error| {
                TransportError::unreadable_answer("unreadable answer: it does not fit the method")
                    .with_source(error)
                    .into()
            })
    })
}

/// Makes a result the type of its method; see [`expect`]. It keeps its text.
pub(crate) fn expect_in<T: MethodResult + Into<ServerResult>>(
    result: &mut Lossless<ServerResult>,
) -> Result<(), Error> {
    if !T::is(result) {
        let other = std::mem::replace(&mut **result, ServerResult::empty(()));
        **result = expect::<T>(other)?.into();
    }
    Ok(())
}

fn read<T: DeserializeOwned>(json: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(json)
}

/// Marks a result as complete, if it has no mark. Before 2026-07-28 every result was complete and
/// none said so; since then each has to say it.
pub(crate) fn mark_complete(result: &mut ServerResult) {
    if let Some(result_type) = result_type(result) {
        result_type.get_or_insert(ResultType::COMPLETE);
    }
}

/// The facts of a result type.
pub(crate) trait ResultRow: MethodResult + DeserializeOwned + Into<ServerResult> {
    /// The meaning of `null` and of an empty object in place of the result.
    const EMPTY: Empty;
    /// `true` if the result can have `ttlMs` and `cacheScope`.
    const HAS_CACHE_HINTS: bool;
}

/// The meaning of `null` and of an empty object in place of a result.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Empty {
    /// The result in which this member is empty.
    Result(fn() -> Value),
    /// An empty object, which is the whole result.
    Object,
    /// None: such a result does not fit the method.
    Misfit,
}

macro_rules! results {
    ($(
        $Result:ident {
            result_type: $result_type:ident, cache_hints: $cache_hints:ident, meta: $meta:ident,
            empty: $empty:tt $(, stand_in: $stand_in:tt)?
        }
    )*) => {
        $(
            impl MethodResult for $Result {
                fn take(result: ServerResult) -> Result<Self, Box<ServerResult>> {
                    match result {
                        ServerResult::$Result(result) => Ok(result),
                        other => Err(Box::new(other)),
                    }
                }
                fn is(result: &ServerResult) -> bool {
                    matches!(result, ServerResult::$Result(_))
                }
                fn read(json: Value) -> Result<Self, serde_json::Error> {
                    read(json)
                }
                fn stand_in() -> Option<Self> {
                    let json = match Self::EMPTY {
                        Empty::Result(empty) => empty(),
                        Empty::Object => json!({}),
                        Empty::Misfit => column!(stand_in $($stand_in)?),
                    };
                    read(json).ok()
                }
            }

            impl ResultRow for $Result {
                const EMPTY: Empty = column!(empty $empty);
                const HAS_CACHE_HINTS: bool = column!(has_cache_hints $cache_hints);
            }
        )*

        /// Returns the `resultType` of a result that can be without one.
        pub(crate) fn result_type(result: &mut ServerResult) -> Option<&mut Option<ResultType>> {
            match result {
                $(ServerResult::$Result(_result) => column!(result_type _result $result_type),)*
                _ => None,
            }
        }

        /// Returns a result's `ttlMs` and `cacheScope`, where it has them (MCP 2026-07-28,
        /// SEP-2549).
        pub(crate) fn cache_hints(
            result: &mut ServerResult,
        ) -> (Option<&mut u64>, Option<&mut CacheScope>) {
            match result {
                $(ServerResult::$Result(_result) => column!(cache_hints _result $cache_hints),)*
                _ => (None, None),
            }
        }

        /// Returns the `_meta` of a result.
        pub(crate) fn meta(result: &mut ServerResult) -> Option<&mut Option<MetaObject>> {
            match result {
                $(ServerResult::$Result(_result) => column!(meta _result $meta),)*
                _ => None,
            }
        }
    };
}

/// The values of a column.
macro_rules! column {
    (empty none) => {
        Empty::Misfit
    };
    (empty {}) => {
        Empty::Object
    };
    (empty $result:tt) => {
        Empty::Result(|| json!($result))
    };
    (stand_in) => {
        Value::Null
    };
    (stand_in $result:tt) => {
        json!($result)
    };
    (has_cache_hints none) => {
        false
    };
    (has_cache_hints $is:ident) => {
        true
    };
    (cache_hints $result:ident none) => {
        (None, None)
    };
    (cache_hints $result:ident optional) => {
        ($result.ttl_ms.as_mut(), $result.cache_scope.as_mut())
    };
    (cache_hints $result:ident required) => {
        (Some(&mut $result.ttl_ms), Some(&mut $result.cache_scope))
    };
    ($column:ident $result:ident optional) => {
        Some(&mut $result.$column)
    };
    ($column:ident $result:ident $other:ident) => {
        None
    };
}

results! {
    EmptyResult { result_type: none, cache_hints: none, meta: none, empty: {} }
    InitializeResult { result_type: none, cache_hints: none, meta: optional, empty: none }
    DiscoverResult { result_type: required, cache_hints: required, meta: optional, empty: none }
    CompleteResult {
        result_type: optional, cache_hints: none, meta: optional,
        empty: { "completion": { "values": [] } }
    }
    GetPromptResult {
        result_type: optional, cache_hints: none, meta: optional, empty: { "messages": [] }
    }
    ListPromptsResult {
        result_type: optional, cache_hints: optional, meta: optional, empty: { "prompts": [] }
    }
    ListResourcesResult {
        result_type: optional, cache_hints: optional, meta: optional, empty: { "resources": [] }
    }
    ListResourceTemplatesResult {
        result_type: optional, cache_hints: optional, meta: optional,
        empty: { "resourceTemplates": [] }
    }
    ReadResourceResult {
        result_type: optional, cache_hints: optional, meta: optional, empty: { "contents": [] }
    }
    SubscriptionsListenResult { result_type: required, cache_hints: none, meta: own, empty: none }
    CallToolResult {
        result_type: optional, cache_hints: none, meta: optional, empty: { "content": [] }
    }
    ListToolsResult {
        result_type: optional, cache_hints: optional, meta: optional, empty: { "tools": [] }
    }
    GetTaskResult {
        result_type: required, cache_hints: none, meta: optional, empty: none,
        stand_in: {
            "taskId": "", "status": "working", "createdAt": "", "lastUpdatedAt": "", "ttlMs": null
        }
    }
    ListSkillsResult {
        result_type: optional, cache_hints: optional, meta: optional, empty: { "skills": [] }
    }
    GetSkillResult { result_type: optional, cache_hints: optional, meta: optional, empty: none }
    CustomResult { result_type: none, cache_hints: none, meta: none, empty: none }
}

macro_rules! method_response {
    ($($Response:ident: $Result:ident $(| $Task:ident => $Variant:ident)?;)*) => {$(
        impl MethodResult for $Response {
            fn take(result: ServerResult) -> Result<Self, Box<ServerResult>> {
                match result {
                    ServerResult::$Result(result) => Ok(Self::Complete(result)),
                    ServerResult::InputRequiredResult(result) => Ok(Self::InputRequired(result)),
                    $(ServerResult::$Task(result) => Ok(Self::$Variant(result)),)?
                    other => Err(Box::new(other)),
                }
            }
            fn is(result: &ServerResult) -> bool {
                matches!(
                    result,
                    ServerResult::$Result(_) | ServerResult::InputRequiredResult(_)
                        $(| ServerResult::$Task(_))?
                )
            }
            fn read(json: Value) -> Result<Self, serde_json::Error> {
                read(json).map(Self::Complete)
            }
            fn stand_in() -> Option<Self> {
                $Result::stand_in().map(Self::Complete)
            }
        }
    )*};
}

method_response! {
    CallToolResponse: CallToolResult | CreateTaskResult => Task;
    GetPromptResponse: GetPromptResult;
    ReadResourceResponse: ReadResourceResult;
}
