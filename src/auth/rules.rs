use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use rmcp::model::ClientRequest;

use super::{AuthError, Item, Policy, PolicyDecision, Scopes};
use crate::{
    Error, McpRequest, Principal, Refusal, code,
    protocol::{
        methods::{self, Method},
        target::TargetKind,
    },
    util::glob,
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
/// | `tasks/get`, `tasks/update`, `tasks/cancel` | none, but a task is known only to the principal that began it, in this process and among the last 10,000; see [`AuthLayerBuilder::unknown_tasks`](super::AuthLayerBuilder::unknown_tasks) |
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

/// The rules for one kind of item.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Exact names with their position in the order of rules.
    exact: HashMap<String, (usize, Scopes)>,
    /// Globs with their positions, in order.
    globs: Vec<(usize, String, Scopes)>,
    next: usize,
    /// A rule that can never match: a duplicate, or one after a glob that matches the same names.
    idle: Option<String>,
}

impl Table {
    fn add(&mut self, name: String, scopes: Scopes) {
        let place = self.next;
        self.next += 1;
        if self.globs.iter().any(|(_, glob, _)| covers(glob, &name)) {
            self.idle.get_or_insert(name);
        } else if is_glob(&name) {
            self.globs.push((place, name, scopes));
        } else {
            match self.exact.entry(name) {
                Entry::Occupied(there) => {
                    self.idle.get_or_insert_with(|| there.key().clone());
                }
                Entry::Vacant(free) => {
                    free.insert((place, scopes));
                }
            }
        }
    }

    fn of(&self, name: &str) -> Option<&Scopes> {
        self.first(name, |glob| glob::matches(glob, name))
    }

    /// Returns the scopes of `name@version`, which is `whole`. A rule for the name applies to each
    /// of its versions. A glob with an `@` applies to the written form.
    fn of_version(&self, name: &str, whole: &str) -> Option<&Scopes> {
        self.first(name, |glob| {
            glob::matches(glob, if glob.contains('@') { whole } else { name })
        })
    }

    fn first(&self, name: &str, matches: impl Fn(&str) -> bool) -> Option<&Scopes> {
        let exact = self.exact.get(name);
        let before = exact.map_or(usize::MAX, |(place, _)| *place);
        let glob = self
            .globs
            .iter()
            .take_while(|(place, ..)| *place < before)
            .find(|(_, glob, _)| matches(glob));
        match glob {
            Some((.., scopes)) => Some(scopes),
            None => exact.map(|(_, scopes)| scopes),
        }
    }

    fn exactly(&self, name: &str) -> Option<&Scopes> {
        self.exact.get(name).map(|(_, scopes)| scopes)
    }

    fn scopes(&self) -> impl Iterator<Item = &Scopes> {
        let exact = self.exact.values().map(|(_, scopes)| scopes);
        exact.chain(self.globs.iter().map(|(.., scopes)| scopes))
    }
}

fn is_custom(request: &McpRequest) -> bool {
    matches!(request.message, ClientRequest::CustomRequest(_))
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

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Returns `true` if a rule for `glob` leaves no match to a later rule for `name`, as far as this
/// is easy to decide.
fn covers(glob: &str, name: &str) -> bool {
    // A `*` in `name` stands for any text, which only a `*` in `glob` is certain to match.
    glob == name || (glob::matches(glob, name) && (!name.contains('*') || !glob.contains('?')))
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
        return match name.starts_with("notifications/") {
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

/// The required scopes of a request: those of its target, and those of its method.
#[derive(Clone, Copy, Debug)]
pub struct Required<'a> {
    method: Option<&'a Scopes>,
    target: &'a Scopes,
}

impl Required<'_> {
    /// Returns `true` if the principal has all required scopes.
    pub fn are_granted(&self, principal: &Principal) -> bool {
        self.method
            .is_none_or(|scopes| scopes.are_granted(principal))
            && self.target.are_granted(principal)
    }

    /// Returns a set of scopes that suffices: the granted ones that count, and the missing ones.
    pub fn needed(&self, principal: &Principal) -> Vec<String> {
        let mut needed = self
            .method
            .map(|scopes| scopes.needed(principal))
            .unwrap_or_default();
        for scope in self.target.needed(principal) {
            if !needed.contains(&scope) {
                needed.push(scope);
            }
        }
        needed
    }

    /// Returns all scopes that the principal would additionally need.
    pub fn missing(&self, principal: &Principal) -> Vec<String> {
        let mut missing = self
            .method
            .map(|scopes| scopes.missing(principal))
            .unwrap_or_default();
        for scope in self.target.missing(principal) {
            if !missing.contains(&scope) {
                missing.push(scope);
            }
        }
        missing
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
        let called = request.called_tool();
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

/// Builds [`Rules`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the rules"]
pub struct RulesBuilder(Rules);

impl RulesBuilder {
    /// Sets the scopes of a tool, or of the tools that a glob matches.
    ///
    /// A rule for a name applies to each of its versions (`name@version`). A rule with an `@`
    /// applies only to calls that are written in this form. It does not guard the version: a
    /// registry also resolves the plain name to the newest version, and accepts a version in
    /// `_meta`.
    pub fn tool(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.tools.add(name.into(), scopes.into());
        self
    }

    /// Sets the scopes of a prompt, or of the prompts that a glob matches.
    pub fn prompt(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.prompts.add(name.into(), scopes.into());
        self
    }

    /// Sets the scopes of a resource, or of the resources whose URIs a glob matches. Templates are
    /// listed by their URI template, and skills by their URI.
    ///
    /// URIs are compared as they are written. A glob never matches a URI with `..`, which the
    /// server may resolve to a URI outside of the glob.
    pub fn resource(mut self, uri: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.resources.add(uri.into(), scopes.into());
        self
    }

    /// Sets additional scopes of a method, or of the methods that a glob matches:
    /// `logging/setLevel`, `tasks/*`, `acme/reindex`.
    pub fn method(mut self, method: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.methods.add(method.into(), scopes.into());
        self
    }

    /// Sets the scopes of names that no rule matches. [`Scopes::never`] denies them to all callers,
    /// [`Scopes::none`] allows them to all authenticated callers. Default: `admin`.
    pub fn unmatched(mut self, scopes: impl Into<Scopes>) -> Self {
        self.0.unmatched = scopes.into();
        self
    }

    /// Sets whether callers may learn that a forbidden item exists. If `true`, they are refused
    /// with all missing scopes, and a client can ask its user for more (step-up). Otherwise a
    /// forbidden name is answered like an unknown one. Lists are filtered in both cases. Default:
    /// `false`.
    pub fn reveal_forbidden(mut self, reveal: bool) -> Self {
        self.0.reveal = reveal;
        self
    }

    /// Builds the rules.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`) that names a rule which can never match because of an earlier rule, or
    /// a scope that no token can have (RFC 6749, section 3.3).
    pub fn build(self) -> Result<Rules, Error> {
        let rules = self.0;
        let tables = [
            ("tool", &rules.tools),
            ("prompt", &rules.prompts),
            ("resource", &rules.resources),
            ("method", &rules.methods),
        ];
        for (kind, table) in tables {
            if let Some(name) = &table.idle {
                return Err(impossible(format!(
                    "the {kind} rule `{name}` can never hold: one before it matches all it does; put it first"
                )));
            }
        }
        let named = tables.into_iter().flat_map(|(_, table)| table.scopes());
        for scopes in named.chain([&rules.unmatched]) {
            if let Some(scope) = scopes.impossible() {
                return Err(impossible(format!(
                    "no token can have the scope `{scope}`: a scope has visible ASCII characters other than \
                     `\"` and `\\`"
                )));
            }
        }
        Ok(rules)
    }
}

/// Builds the error for an invalid configuration.
pub(super) fn impossible(message: String) -> Error {
    Refusal::new("auth", message)
        .with_code(code::FORBIDDEN)
        .into()
}
