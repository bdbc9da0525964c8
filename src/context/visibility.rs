use std::sync::Arc;

use rmcp::model::ErrorData;

use crate::{CallContext, Error, McpRequest};

/// An item that a caller can name. Each variant contains the name, as it is known where the
/// question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Item<'a> {
    /// A tool, by name.
    Tool(&'a str),
    /// A prompt, by name.
    Prompt(&'a str),
    /// A resource, by URI.
    Resource(&'a str),
    /// A resource template, by its URI template.
    ResourceTemplate(&'a str),
    /// A skill, by URI.
    Skill(&'a str),
}

/// The items that a caller may know of and call, for inner layers to ask.
///
/// A guarding layer decides on requests and filters lists by the names that pass through it. Inner
/// layers have names that do not pass through it: search results, suggestions for an unknown name,
/// and tools that another tool calls. A layer that is about to disclose such a name asks
/// [`CallContext::sees`]. A layer that turns a call into a call of another tool asks
/// [`McpRequest::admit`]. A layer that renames items [maps the names](CallContext::map_sight) to
/// the ones that its callers know. Without a limit, a caller sees everything.
///
/// A sight is stored in the request's extensions, so it does not reach a server in another process.
///
/// ```
/// use rmcp_layers::{Item, McpRequest, Sight};
///
/// struct Public;
///
/// impl Sight for Public {
///     fn sees(&self, item: Item<'_>) -> bool {
///         matches!(item, Item::Tool(name) if name.starts_with("public_"))
///     }
/// }
///
/// let mut request = McpRequest::call_tool("secret_plan").build();
/// assert!(request.context.sees(Item::Tool("secret_plan")));
/// request.context.limit_sight(Public);
/// assert!(!request.context.sees(Item::Tool("secret_plan")));
/// assert!(request.admit().unwrap_err().to_string().contains("Unknown tool: secret_plan"));
/// ```
pub trait Sight: Send + Sync + 'static {
    /// Returns `true` if the caller may know that this item exists. It is asked for many names at
    /// once, so it has to be quick and must not block.
    fn sees(&self, item: Item<'_>) -> bool;

    /// Decides on a call that an inner layer makes from another call. `tool` is the called tool's
    /// name as it is known here, and `call` is the call as the inner layer makes it. The default
    /// implementation allows tools that the caller sees, and reports others as unknown.
    ///
    /// # Errors
    ///
    /// The error that the caller receives instead.
    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        if self.sees(Item::Tool(tool)) {
            return Ok(());
        }
        let named = call.target().unwrap_or_default();
        Err(ErrorData::invalid_params(format!("Unknown tool: {named}"), None).into())
    }
}

/// The limit of a caller's sight, in the extensions of its request.
#[derive(Clone)]
struct Limit {
    by: Arc<dyn Sight>,
    /// `true` if the limit hides items, `false` if it only records calls.
    hides: bool,
}

/// The intersection of two sights.
struct Both(Arc<dyn Sight>, Arc<dyn Sight>);

impl Sight for Both {
    fn sees(&self, item: Item<'_>) -> bool {
        self.0.sees(item) && self.1.sees(item)
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        self.0.admits(tool, call)?;
        self.1.admits(tool, call)
    }
}

impl CallContext {
    /// Returns `true` if the caller may know that this item exists; see [`Sight`].
    pub fn sees(&self, item: Item<'_>) -> bool {
        self.limit().is_none_or(|limit| limit.by.sees(item))
    }

    /// Returns `true` if the caller's sight is limited. A response that depends on the sight should
    /// not be kept, because a later decision may differ.
    pub fn has_limited_sight(&self) -> bool {
        self.limit().is_some_and(|limit| limit.hides)
    }

    /// Limits the items that the caller may know of, for every inner layer. Earlier limits stay in
    /// effect.
    pub fn limit_sight(&mut self, sight: impl Sight) {
        self.limit_sight_to(Arc::new(sight));
    }

    pub(crate) fn limit_sight_to(&mut self, sight: Arc<dyn Sight>) {
        self.add_sight(sight, true);
    }

    /// Adds an observer of inner calls that hides nothing.
    #[cfg(feature = "auth")]
    pub(crate) fn note_calls(&mut self, by: Arc<dyn Sight>) {
        self.add_sight(by, false);
    }

    fn add_sight(&mut self, sight: Arc<dyn Sight>, hides: bool) {
        let limit = match self.extensions.remove::<Limit>() {
            Some(before) => Limit {
                by: Arc::new(Both(before.by, sight)),
                hides: before.hides || hides,
            },
            None => Limit { by: sight, hides },
        };
        self.extensions.insert(limit);
    }

    /// Replaces the caller's sight, if it is limited. A layer that renames items uses this to ask
    /// by the names that the items have outside of it.
    pub fn map_sight<S: Sight>(&mut self, map: impl FnOnce(Arc<dyn Sight>) -> S) {
        if let Some(Limit { by, hides }) = self.extensions.remove::<Limit>() {
            let by = Arc::new(map(by));
            self.extensions.insert(Limit { by, hides });
        }
    }

    /// Returns `true` if there is any sight to ask.
    #[cfg(feature = "gateway")]
    pub(crate) fn asks_outside(&self) -> bool {
        self.limit().is_some()
    }

    /// Removes the limit of the caller's sight. A fetch that several callers share must not depend
    /// on one of them.
    #[cfg(feature = "gateway")]
    pub(crate) fn lift_sight(&mut self) {
        self.extensions.remove::<Limit>();
    }

    fn limit(&self) -> Option<&Limit> {
        self.extensions.get()
    }
}

impl McpRequest {
    /// Checks that the caller may make this call of a tool. For layers that have made it from
    /// another call; see [`Sight`]. A request other than `tools/call` is always allowed.
    ///
    /// # Errors
    ///
    /// The error that the caller receives instead: an unknown tool, or a refusal.
    pub fn admit(&self) -> Result<(), Error> {
        match (self.context.limit(), self.as_tool_call()) {
            (Some(limit), Some(call)) => limit.by.admits(&call.name, self),
            _ => Ok(()),
        }
    }
}
