use rmcp::model::Tool;

/// What a server says of how harmless one of its tools is (MCP 2025-03-26 and later, `ToolAnnotations`).
///
/// They are hints: a server may be wrong about them, or lie. A layer that acts on them lets the operator
/// distrust them, and takes what the operator says of a tool over what its server says.
///
/// An outer layer that knows the tool of a call puts them into the request's extensions; a layer that finds
/// none there goes by the lists that it has seen pass.
///
/// ```
/// use rmcp::model::{JsonObject, Tool, ToolAnnotations};
/// use rmcp_layers::ToolHints;
///
/// let tool = Tool::new("read", "Reads.", JsonObject::new())
///     .annotate(ToolAnnotations::new().read_only(true));
/// assert!(ToolHints::of(&tool).is_safe_to_repeat());
/// assert!(!ToolHints::default().is_safe_to_repeat());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ToolHints {
    /// It says that it changes nothing (`readOnlyHint: true`).
    pub read_only: bool,
    /// It says that a repeated call has no further effect (`idempotentHint: true`).
    pub idempotent: bool,
    /// It says that it may destroy something (`destructiveHint: true`). A tool that says nothing of it does not
    /// count as one here, though it does in the specification.
    pub destructive: bool,
}

impl ToolHints {
    /// What a tool says of itself. What it does not say is `false`.
    pub fn of(tool: &Tool) -> Self {
        let Some(says) = &tool.annotations else {
            return Self::default();
        };
        Self {
            read_only: says.read_only_hint == Some(true),
            idempotent: says.idempotent_hint == Some(true),
            destructive: says.destructive_hint == Some(true),
        }
    }

    /// Whether running it twice does no harm, as far as it is to be believed.
    pub fn is_safe_to_repeat(self) -> bool {
        self.read_only || self.idempotent
    }
}

#[cfg(any(feature = "cache", feature = "retry"))]
pub(crate) use known::{Asked, KnownHints};

#[cfg(any(feature = "cache", feature = "retry"))]
mod known;
