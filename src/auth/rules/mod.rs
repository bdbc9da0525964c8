//! Rules: the scopes that tools, prompts, resources and methods need.

mod builder;
mod required;
mod table;

use std::fmt;

use rmcp::model::ClientRequest;

pub use builder::RulesBuilder;
pub use required::Required;

use self::table::Table;
use super::{AuthError, Item, Policy, PolicyDecision, Scopes};
use crate::{
    McpRequest, Principal,
    protocol::{
        legacy_tasks,
        methods::{self, Method},
        target::TargetKind,
    },
};

/// The scopes that tools, prompts, resources and methods need, by their outward names.
///
/// A rule matches one name exactly, or many by a glob (`*` for any characters, `?` for one). **The
/// first matching rule applies**, in the order in which rules were added. A name without a matching
/// rule needs the scope `admin`; [`unmatched`](RulesBuilder::unmatched) changes this. The same
/// rules guard calls, filter lists, and filter notifications.
///
/// | Method | Required scopes |
/// |---|---|
/// | `tools/call` | those of the tool; for a registry's `call_tool`, also those of the tool that its argument `name` names |
/// | `prompts/get` | those of the prompt |
/// | `resources/read`, `resources/directory/read`, `resources/subscribe`, `resources/unsubscribe`, `skills/get` | those of the resource, by its URI |
/// | `completion/complete` | those of the prompt or the resource that is completed |
/// | `tools/list`, `prompts/list`, `resources/list`, `resources/templates/list`, `skills/list` | none: the lists are filtered |
/// | `subscriptions/listen` | none: the notifications are filtered |
/// | `ping`, `initialize`, `server/discover`, `logging/setLevel`, `notifications/*` | none: the protocol needs them |
/// | `tasks/get`, `tasks/update`, `tasks/cancel`, and `tasks/result`, `tasks/list` of 2025-11-25 | none, but a task is known only to the principal that began it, in this process and among the last 10,000; see [`AuthLayerBuilder::allow_unknown_tasks`](super::AuthLayerBuilder::allow_unknown_tasks) |
/// | any other method | those of [`unmatched`](RulesBuilder::unmatched), unless a [`method`](RulesBuilder::method) rule matches |
///
/// The scopes of a [`method`](RulesBuilder::method) rule are required in addition to those in the
/// table. A method that needs no scopes still needs a valid token.
///
/// ```
/// use rmcp_layers::{Principal, auth::{Rules, Scopes}};
///
/// # fn main() -> Result<(), rmcp_layers::Error> {
/// let rules = Rules::builder()
///     .tool("db__drop_table", Scopes::all_of(["db:write", "db:owner"]))
///     .tool("db__*", "db:read")
///     .resource("file:///public/*", Scopes::none())
///     .build()?;
/// let reader = Principal::new("ann").with_scopes(["db:read"]);
/// assert!(rules.check("tools/call", Some("db__query"), &reader).is_ok());
/// assert!(rules.check("resources/read", Some("file:///public/a"), &reader).is_ok());
/// let refused = rules.check("tools/call", Some("db__drop_table"), &reader).unwrap_err();
/// assert_eq!(refused.missing_scopes(), ["db:write", "db:owner"]);
/// let refused = rules.check("tools/call", Some("shell"), &reader).unwrap_err();
/// assert_eq!(refused.missing_scopes(), ["admin"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Rules {
    tools: Table,
    prompts: Table,
    resources: Table,
    methods: Table,
    unmatched: Scopes,
    free: Scopes,
    reveal: bool,
}

fn is_custom(request: &McpRequest) -> bool {
    matches!(*request.message, ClientRequest::CustomRequest(_))
}

/// Returns `true` if a URI has a `..` segment, percent-encoded or not.
fn has_dot_segments(uri: &str) -> bool {
    if !uri.contains("..") && !uri.contains('%') {
        return false;
    }
    let bytes = uri.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let encoded = (*byte == b'%')
            .then(|| u8::from_str_radix(uri.get(at + 1..at + 3)?, 16).ok())
            .flatten();
        decoded.push(encoded.unwrap_or(*byte));
        at += if encoded.is_some() { 3 } else { 1 };
    }
    decoded
        .split(|byte| b"/\\?#".contains(byte))
        .any(|segment| segment == b"..")
}

/// The kind of a method's target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Tool,
    Prompt,
    Resource,
    /// The reference of a completion: a prompt's name or a resource's URI.
    Reference,
    Nothing,
    Unknown,
    /// A known method whose params do not fit it.
    Misshapen,
}

fn about(name: &str) -> About {
    let Some(method) = Method::named(name) else {
        let is_known = name.starts_with("notifications/") || legacy_tasks::is_method(name);
        return match is_known {
            true => About::Nothing,
            false => About::Unknown,
        };
    };
    match method.row().target {
        Some(TargetKind::Tool) => About::Tool,
        Some(TargetKind::Prompt) => About::Prompt,
        Some(TargetKind::Resource | TargetKind::Skill) => About::Resource,
        Some(TargetKind::Reference) => About::Reference,
        Some(TargetKind::Task) | None => About::Nothing,
    }
}

impl Rules {
    /// Starts a builder without rules: everything except basic protocol methods needs the scope
    /// `admin`.
    pub fn builder() -> RulesBuilder {
        RulesBuilder(Self {
            tools: Table::default(),
            prompts: Table::default(),
            resources: Table::default(),
            methods: Table::default(),
            unmatched: Scopes::all_of(["admin"]),
            free: Scopes::none(),
            reveal: false,
        })
    }

    /// Returns the scopes that a method needs for its target: the tool's or prompt's name, the
    /// resource's URI, or the reference of a completion. If a method that [has a
    /// target](Self::needs_target) is passed without one, the scopes of
    /// [`unmatched`](RulesBuilder::unmatched) are required.
    pub fn required(&self, method: &str, target: Option<&str>) -> Required<'_> {
        self.required_for(about(method), method, target)
    }

    fn required_for(&self, about: About, method: &str, target: Option<&str>) -> Required<'_> {
        let by_target = match (about, target) {
            (About::Nothing, _) => Some(&self.free),
            (About::Tool, Some(name)) => self.of_tool(name),
            (About::Prompt, Some(name)) => self.prompts.of(name),
            (About::Resource, Some(uri)) => self.of_resource(uri),
            (About::Reference, Some(reference)) => self.of_reference(reference),
            (_, None) | (About::Unknown | About::Misshapen, _) => None,
        };
        let by_method = self.methods.of(method);
        let target = match by_target {
            Some(scopes) => scopes,
            // A method that is otherwise unknown needs only the scopes of its own rule.
            None if about == About::Unknown && by_method.is_some() => &self.free,
            None => &self.unmatched,
        };
        Required {
            method: by_method,
            target,
        }
    }

    /// A registry reads `name@version` as a version of `name`, so a rule for the name applies to
    /// each of its versions.
    fn of_tool(&self, name: &str) -> Option<&Scopes> {
        match name.rsplit_once('@') {
            None => self.tools.of(name),
            Some((base, _)) => {
                let exactly = self.tools.exactly(name);
                exactly.or_else(|| self.tools.of_version(base, name))
            }
        }
    }

    /// A glob never matches a URI with `..`, which the server may resolve to a URI outside of the
    /// glob.
    fn of_resource(&self, uri: &str) -> Option<&Scopes> {
        match has_dot_segments(uri) {
            true => self.resources.exactly(uri),
            false => self.resources.of(uri),
        }
    }

    /// A resource URI has a scheme; a prompt's name does not contain `://`.
    fn of_reference(&self, reference: &str) -> Option<&Scopes> {
        if reference.contains("://") {
            self.of_resource(reference)
        } else {
            self.prompts.of(reference)
        }
    }

    /// Returns `true` if the decision on the method depends on a target.
    pub fn needs_target(&self, method: &str) -> bool {
        !matches!(about(method), About::Nothing | About::Unknown)
    }

    /// Decides on a method and its target, for a principal.
    ///
    /// # Errors
    ///
    /// [`AuthErrorKind::InsufficientScope`](super::AuthErrorKind::InsufficientScope), with all
    /// missing scopes.
    pub fn check(
        &self,
        method: &str,
        target: Option<&str>,
        principal: &Principal,
    ) -> Result<(), AuthError> {
        let required = self.required(method, target);
        if required.are_granted(principal) {
            Ok(())
        } else {
            Err(AuthError::insufficient_scope(required.missing(principal)))
        }
    }

    /// Returns `true` if the caller may learn that a forbidden item exists; see
    /// [`reveal_forbidden`](RulesBuilder::reveal_forbidden).
    pub fn reveals_forbidden(&self) -> bool {
        self.reveal
    }

    /// Returns all scopes that the rules name, without duplicates and in alphabetical order, as for
    /// `scopes_supported` in a protected resource's metadata (RFC 9728, section 2).
    pub fn scopes(&self) -> Vec<&str> {
        let tables = [&self.tools, &self.prompts, &self.resources, &self.methods];
        let named = tables.into_iter().flat_map(Table::scopes);
        let mut all: Vec<&str> = named
            .chain([&self.unmatched])
            .flat_map(Scopes::named)
            .map(String::as_str)
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Policy for Rules {
    fn decide(&self, request: &McpRequest, principal: &Principal) -> PolicyDecision {
        let method = request.method();
        let about = match about(method) {
            // A notification is a custom request here. A request whose method is that of a
            // notification is malformed.
            About::Nothing if method.starts_with("notifications/") => {
                match request.as_notification() {
                    Some(_) => About::Nothing,
                    None => About::Misshapen,
                }
            }
            About::Nothing if legacy_tasks::is_readable(&request.message) => About::Nothing,
            // The params do not fit the method, so the target cannot be read, or the response is
            // not the list that would be filtered.
            known if known != About::Unknown && is_custom(request) => About::Misshapen,
            About::Reference => match methods::target(&request.message) {
                Some(target) if target.kind == TargetKind::Prompt => About::Prompt,
                Some(_) => About::Resource,
                None => About::Misshapen,
            },
            known => known,
        };
        // Permission for a tool that calls others does not include the others.
        let called = request.inner_tool();
        let called = called.map(|tool| self.required_for(about, method, Some(tool)));
        let all = || {
            [self.required_for(about, method, request.target())]
                .into_iter()
                .chain(called)
        };
        if all().all(|required| required.are_granted(principal)) {
            return PolicyDecision::Allow;
        }
        let mut missing = Vec::new();
        for scope in all().flat_map(|required| required.missing(principal)) {
            if !missing.contains(&scope) {
                missing.push(scope);
            }
        }
        PolicyDecision::missing(missing)
    }

    fn shows(&self, item: Item<'_>, principal: &Principal) -> bool {
        let scopes = match item {
            Item::Tool(name) => self.of_tool(name),
            Item::Prompt(name) => self.prompts.of(name),
            Item::Resource(uri) | Item::ResourceTemplate(uri) | Item::Skill(uri) => {
                self.of_resource(uri)
            }
        };
        scopes.unwrap_or(&self.unmatched).are_granted(principal)
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("tools", &self.tools)
            .field("prompts", &self.prompts)
            .field("resources", &self.resources)
            .field("methods", &self.methods)
            .field("unmatched", &self.unmatched)
            .field("reveal_forbidden", &self.reveal)
            .finish()
    }
}
