use std::sync::Arc;

use rmcp::model::ErrorData;

use crate::{CallContext, Error, McpRequest};

/// Something that a caller can name, by its name where that is asked.
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

/// What a caller may know of, and which calls it may make, as layers further in can ask it.
///
/// A layer that guards a stack decides on requests and filters lists by the names that pass it. Further in there are
/// names that never do so by themselves: what a search finds, what comes near an unknown name, the tool that another
/// tool calls. Whoever is about to say such a name asks [`CallContext::sees`]; whoever makes of a call the call of
/// another tool asks [`McpRequest::admit`]. A layer that renames things [turns the names](CallContext::map_sight)
/// into those that its callers know. Where nothing limits it, a caller sees everything.
///
/// It is in the request's extensions, and goes where they go: not to a server in another process.
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
    /// Whether the caller may know that this is there. It is asked for many names at once, so it has to be quick, and
    /// must not block.
    fn sees(&self, item: Item<'_>) -> bool;

    /// Decides on a call that a layer further in makes of another one. `tool` is the name of the tool that is called
    /// as it is known here, `call` the call as it goes on there. By default a tool that is seen may be called, and
    /// one that is not is unknown.
    ///
    /// # Errors
    ///
    /// What the caller is answered instead.
    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        if self.sees(Item::Tool(tool)) {
            return Ok(());
        }
        let named = call.target().unwrap_or_default();
        Err(ErrorData::invalid_params(format!("Unknown tool: {named}"), None).into())
    }
}

/// What limits a caller's sight, in its request's extensions.
#[derive(Clone)]
struct Limit {
    by: Arc<dyn Sight>,
    /// Something is kept from the caller, and not only noted.
    hides: bool,
}

/// What both let be seen.
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
    /// Whether the caller may know that this is there; see [`Sight`].
    pub fn sees(&self, item: Item<'_>) -> bool {
        self.limit().is_none_or(|limit| limit.by.sees(item))
    }

    /// Whether something limits what the caller may know of. An answer that depends on it is better not kept: the
    /// next time it may be decided otherwise.
    pub fn has_limited_sight(&self) -> bool {
        self.limit().is_some_and(|limit| limit.hides)
    }

    /// Limits what the caller may know of, for every layer further in, and besides what limits it already.
    pub fn limit_sight(&mut self, sight: impl Sight) {
        self.limit_sight_to(Arc::new(sight));
    }

    pub(crate) fn limit_sight_to(&mut self, sight: Arc<dyn Sight>) {
        self.add_sight(sight, true);
    }

    /// Has calls that are made of this one noted by something that hides nothing.
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

    /// Changes the question on its way in, where something limits what the caller may know of: a layer that renames
    /// things asks by the names that they have outside of it.
    pub fn map_sight<S: Sight>(&mut self, map: impl FnOnce(Arc<dyn Sight>) -> S) {
        if let Some(Limit { by, hides }) = self.extensions.remove::<Limit>() {
            let by = Arc::new(map(by));
            self.extensions.insert(Limit { by, hides });
        }
    }

    /// Whether anything is to be asked at all.
    #[cfg(feature = "gateway")]
    pub(crate) fn asks_outside(&self) -> bool {
        self.limit().is_some()
    }

    /// Takes away what limits the caller's sight: what is fetched for several callers in common depends on none of
    /// them.
    #[cfg(feature = "gateway")]
    pub(crate) fn lift_sight(&mut self) {
        self.extensions.remove::<Limit>();
    }

    fn limit(&self) -> Option<&Limit> {
        self.extensions.get()
    }
}

impl McpRequest {
    /// Asks whether the caller may make this call of a tool, for a layer that has made it of another call; see
    /// [`Sight`]. Whatever is no `tools/call` may be made.
    ///
    /// # Errors
    ///
    /// What to answer instead: that there is no such tool, or a refusal.
    pub fn admit(&self) -> Result<(), Error> {
        match (self.context.limit(), self.as_tool_call()) {
            (Some(limit), Some(call)) => limit.by.admits(&call.name, self),
            _ => Ok(()),
        }
    }
}
