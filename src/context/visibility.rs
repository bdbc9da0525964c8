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
/// [`McpRequest::admit`]. A layer that renames items [maps the
/// names](CallContext::map_visibility) to the ones that its callers know. Without a limit, a caller
/// sees everything.
///
/// A visibility is stored in the request's extensions, so it does not reach a server in another
/// process.
///
/// ```
/// use rmcp_layers::{Item, McpRequest, Visibility};
///
/// struct Public;
///
/// impl Visibility for Public {
///     fn sees(&self, item: Item<'_>) -> bool {
///         matches!(item, Item::Tool(name) if name.starts_with("public_"))
///     }
/// }
///
/// let mut request = McpRequest::call_tool("secret_plan").build();
/// assert!(request.context.sees(Item::Tool("secret_plan")));
/// request.context.limit_visibility(Public);
/// assert!(!request.context.sees(Item::Tool("secret_plan")));
/// assert!(request.admit().unwrap_err().to_string().contains("Unknown tool: secret_plan"));
/// ```
pub trait Visibility: Send + Sync + 'static {
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

/// The limit of a caller's visibility, in the extensions of its request.
#[derive(Clone)]
struct Limit {
    by: Arc<dyn Visibility>,
    /// `true` if the limit hides items, `false` if it only records calls.
    hides: bool,
}

/// The intersection of two limits.
struct Both(Arc<dyn Visibility>, Arc<dyn Visibility>);

impl Visibility for Both {
    fn sees(&self, item: Item<'_>) -> bool {
        self.0.sees(item) && self.1.sees(item)
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        self.0.admits(tool, call)?;
        self.1.admits(tool, call)
    }
}

impl CallContext {
    /// Returns `true` if the caller may know that this item exists; see [`Visibility`].
    pub fn sees(&self, item: Item<'_>) -> bool {
        self.limit().is_none_or(|limit| limit.by.sees(item))
    }

    /// Returns `true` if the caller's visibility is limited. A response that depends on it should
    /// not be kept, because a later decision may differ.
    pub fn has_limited_visibility(&self) -> bool {
        self.limit().is_some_and(|limit| limit.hides)
    }

    /// Limits the items that the caller may know of, for every inner layer. Earlier limits stay in
    /// effect.
    pub fn limit_visibility(&mut self, visibility: impl Visibility) {
        self.limit_visibility_to(Arc::new(visibility));
    }

    pub(crate) fn limit_visibility_to(&mut self, visibility: Arc<dyn Visibility>) {
        self.add_visibility(visibility, true);
    }

    /// Adds an observer of the calls that inner layers make from this one. Its
    /// [`admits`](Visibility::admits) is asked about each of them. It does not count as a limit of
    /// the caller's visibility.
    pub fn observe_inner_calls(&mut self, observer: Arc<dyn Visibility>) {
        self.add_visibility(observer, false);
    }

    fn add_visibility(&mut self, visibility: Arc<dyn Visibility>, hides: bool) {
        let limit = match self.extensions.remove::<Limit>() {
            Some(before) => Limit {
                by: Arc::new(Both(before.by, visibility)),
                hides: before.hides || hides,
            },
            None => Limit {
                by: visibility,
                hides,
            },
        };
        self.extensions.insert(limit);
    }

    /// Replaces the caller's visibility, if it is limited. A layer that renames items uses this to
    /// ask by the names that the items have outside of it.
    pub fn map_visibility<S: Visibility>(&mut self, map: impl FnOnce(Arc<dyn Visibility>) -> S) {
        if let Some(Limit { by, hides }) = self.extensions.remove::<Limit>() {
            let by = Arc::new(map(by));
            self.extensions.insert(Limit { by, hides });
        }
    }

    /// Returns `true` if there is any visibility to ask.
    #[cfg(feature = "gateway")]
    pub(crate) fn asks_outside(&self) -> bool {
        self.limit().is_some()
    }

    /// Removes the limit of the caller's visibility. A fetch that several callers share must not
    /// depend on one of them.
    #[cfg(feature = "gateway")]
    pub(crate) fn lift_visibility(&mut self) {
        self.extensions.remove::<Limit>();
    }

    fn limit(&self) -> Option<&Limit> {
        self.extensions.get()
    }
}

impl McpRequest {
    /// Checks that the caller may make this call of a tool. For layers that have made it from
    /// another call; see [`Visibility`]. A request other than `tools/call` is always allowed.
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
