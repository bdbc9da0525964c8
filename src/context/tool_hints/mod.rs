use rmcp::model::Tool;

/// Behaviour hints of a tool from its server (MCP 2025-03-26 and later, `ToolAnnotations`).
///
/// Hints may be wrong, by mistake or on purpose. A layer that acts on them lets the operator
/// distrust them. The operator's own settings for a tool override them.
///
/// An outer layer that knows the tool of a call puts the hints into the request's extensions.
/// Otherwise, a layer uses the tool lists that have passed it.
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
    /// The tool does not change anything (`readOnlyHint: true`).
    pub read_only: bool,
    /// A repeated call has no further effect (`idempotentHint: true`).
    pub idempotent: bool,
    /// The tool may destroy something (`destructiveHint: true`). A missing hint counts as `false`
    /// here, but as `true` in the specification.
    pub destructive: bool,
}

impl ToolHints {
    /// Returns the hints of a tool. Missing hints are `false`.
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

    /// Returns `true` if the hints say that the tool can safely run twice.
    pub fn is_safe_to_repeat(self) -> bool {
        self.read_only || self.idempotent
    }
}

#[cfg(any(feature = "cache", feature = "retry"))]
pub(crate) use known::{Asked, KnownHints};

#[cfg(any(feature = "cache", feature = "retry"))]
mod known;
