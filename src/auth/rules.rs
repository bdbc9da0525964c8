use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use rmcp::model::{ClientRequest, Reference};

use super::{AuthError, Decision, Item, Policy, Scopes};
use crate::{Error, McpRequest, Principal, Refusal, code, glob};

/// Which scopes tools, prompts, resources and methods need, by their outward names.
///
/// A rule names one thing exactly, or many by a glob (`*` for any characters, `?` for one). **The first rule that
/// matches holds**, in the order they were added; what none matches needs the scope `admin`
/// ([`unmatched`](RulesBuilder::unmatched) says otherwise). The same rules guard calls, filter lists, and hold
/// back notifications.
///
/// | Method | What it needs |
/// |---|---|
/// | `tools/call` | what the rules say of the tool; of `call_tool`, by which a registry calls others, what they say of the tool that its argument `name` names besides |
/// | `prompts/get` | what they say of the prompt |
/// | `resources/read`, `resources/directory/read`, `resources/subscribe`, `resources/unsubscribe`, `skills/get` | what they say of the resource, by its URI |
/// | `completion/complete` | what they say of the prompt or the resource that is completed |
/// | `tools/list`, `prompts/list`, `resources/list`, `resources/templates/list`, `skills/list` | nothing: they are filtered |
/// | `subscriptions/listen` | nothing: what would be heard of is filtered |
/// | `ping`, `initialize`, `server/discover`, `logging/setLevel`, `notifications/*` | nothing: they are how the protocol works |
/// | `tasks/get`, `tasks/update`, `tasks/cancel` | nothing, but a task is unknown to all but the principal who began it, in this process and among the last 10,000; see [`AuthLayerBuilder::unknown_tasks`](super::AuthLayerBuilder::unknown_tasks) |
/// | any other method | what is unmatched needs |
///
/// A [`method`](RulesBuilder::method) rule stands before all of that: it is asked first, and what it demands is
/// demanded besides. "Nothing" is a good token all the same.
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

/// What one kind of thing needs.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Exact names, and at which place of the order they stand.
    exact: HashMap<String, (usize, Scopes)>,
    /// Globs, in order, with their places.
    globs: Vec<(usize, String, Scopes)>,
    next: usize,
    /// A name that stands twice, or behind a glob that matches it.
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

    /// The scopes of `name@version`, which is `whole`: a rule for the name holds for each of its versions, and a
    /// glob with an `@` for what is written so.
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

/// Whether a URI has a segment that leads up, percent-encoded or not.
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

/// Whether a rule for `glob` leaves nothing for one for `name` behind it, as far as that is plain.
fn covers(glob: &str, name: &str) -> bool {
    // A `*` of the name stands for whatever it may: only a `*` of the glob takes it.
    glob == name || (glob::matches(glob, name) && (!name.contains('*') || !glob.contains('?')))
}

/// What kind of thing a method is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Tool,
    Prompt,
    Resource,
    /// The reference of a completion: a prompt's name or a resource's URI.
    Reference,
    Nothing,
    Unknown,
    /// A method that is known, with params that are not its own.
    Misshapen,
}

fn about(method: &str) -> About {
    match method {
        "tools/call" => About::Tool,
        "prompts/get" => About::Prompt,
        "resources/read"
        | "resources/directory/read"
        | "resources/subscribe"
        | "resources/unsubscribe"
        | "skills/get" => About::Resource,
        "completion/complete" => About::Reference,
        "ping"
        | "initialize"
        | "server/discover"
        | "logging/setLevel"
        | "tools/list"
        | "prompts/list"
        | "resources/list"
        | "resources/templates/list"
        | "skills/list"
        | "subscriptions/listen"
        | "tasks/get"
        | "tasks/update"
        | "tasks/cancel" => About::Nothing,
        _ if method.starts_with("notifications/") => About::Nothing,
        _ => About::Unknown,
    }
}

/// Something that one needs, and perhaps something else besides.
#[derive(Clone, Copy, Debug)]
pub struct Required<'a> {
    method: Option<&'a Scopes>,
    target: &'a Scopes,
}

impl Required<'_> {
    /// Whether the principal has all of it.
    pub fn are_granted(&self, principal: &Principal) -> bool {
        self.method
            .is_none_or(|scopes| scopes.are_granted(principal))
            && self.target.are_granted(principal)
    }

    /// All scopes that do for it: those that are granted of them, and those that are missing.
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

    /// All scopes that the principal would have to be granted besides.
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
    /// Starts with no rules: everything that is not how the protocol works needs the scope `admin`.
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

    /// What a method needs for its target: the tool's or prompt's name, the resource's URI, what a completion
    /// refers to. A method that is [about something](Self::needs_target) and is asked about without it needs
    /// what is unmatched.
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
            // A method that nothing else is known of needs what its own rule says, and no more.
            None if about == About::Unknown && by_method.is_some() => &self.free,
            None => &self.unmatched,
        };
        Required {
            method: by_method,
            target,
        }
    }

    /// A registry takes `name@version` for a version of `name`, so that a rule for the name holds for each of its
    /// versions.
    fn of_tool(&self, name: &str) -> Option<&Scopes> {
        match name.rsplit_once('@') {
            None => self.tools.of(name),
            Some((base, _)) => {
                let exactly = self.tools.exactly(name);
                exactly.or_else(|| self.tools.of_version(base, name))
            }
        }
    }

    /// A glob grants nothing that is written with `..`: what a server makes of that may be outside of the glob.
    fn of_resource(&self, uri: &str) -> Option<&Scopes> {
        match has_dot_segments(uri) {
            true => self.resources.exactly(uri),
            false => self.resources.of(uri),
        }
    }

    /// A prompt has no colon in front of slashes; a resource has a scheme.
    fn of_reference(&self, reference: &str) -> Option<&Scopes> {
        if reference.contains("://") {
            self.of_resource(reference)
        } else {
            self.prompts.of(reference)
        }
    }

    /// Whether the method is about one thing that has to be known to decide.
    pub fn needs_target(&self, method: &str) -> bool {
        !matches!(about(method), About::Nothing | About::Unknown)
    }

    /// Decides on a method and its target, for a principal.
    ///
    /// # Errors
    ///
    /// [`AuthErrorKind::InsufficientScope`](super::AuthErrorKind::InsufficientScope), with all scopes that are
    /// missing.
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

    /// Whether the caller may know that what it may not use is there; see
    /// [`reveal_forbidden`](RulesBuilder::reveal_forbidden).
    pub fn reveals_forbidden(&self) -> bool {
        self.reveal
    }

    /// All scopes that the rules name, each once and in alphabetical order: what a protected resource's metadata
    /// calls `scopes_supported` (RFC 9728, section 2).
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
    fn decide(&self, request: &McpRequest, principal: &Principal) -> Decision {
        let method = request.method();
        let about = match about(method) {
            // A notification is a custom request here; a request that calls itself one is none.
            About::Nothing if method.starts_with("notifications/") => {
                match request.as_notification() {
                    Some(_) => About::Nothing,
                    None => About::Misshapen,
                }
            }
            // Params that do not fit their method: the target is somewhere in them, or the answer is a list that
            // is none.
            known if known != About::Unknown && is_custom(request) => About::Misshapen,
            About::Reference => match &request.message {
                ClientRequest::CompleteRequest(complete) => match &complete.params.r#ref {
                    Reference::Prompt(_) => About::Prompt,
                    Reference::Resource(_) => About::Resource,
                    _ => About::Misshapen,
                },
                _ => About::Misshapen,
            },
            known => known,
        };
        // Whoever may call what calls others may not call all of them.
        let called = request.called_tool();
        let called = called.map(|tool| self.required_for(about, method, Some(tool)));
        let all = || {
            [self.required_for(about, method, request.target())]
                .into_iter()
                .chain(called)
        };
        if all().all(|required| required.are_granted(principal)) {
            return Decision::Allow;
        }
        let mut missing = Vec::new();
        for scope in all().flat_map(|required| required.missing(principal)) {
            if !missing.contains(&scope) {
                missing.push(scope);
            }
        }
        Decision::missing(missing)
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
    /// What a tool needs, or the tools that a glob matches.
    ///
    /// A rule for a name holds for each of its versions (`name@version`). One that is written with an `@` holds for
    /// calls that are written so, and does not guard a version: a registry takes the newest for the name alone, and
    /// a version that `_meta` names.
    pub fn tool(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.tools.add(name.into(), scopes.into());
        self
    }

    /// What a prompt needs, or the prompts that a glob matches.
    pub fn prompt(mut self, name: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.prompts.add(name.into(), scopes.into());
        self
    }

    /// What a resource needs, or the resources whose URIs a glob matches. Templates are shown by their URI
    /// template as it stands, skills by their URI.
    ///
    /// URIs are compared as they are written. A glob matches none that is written with `..`, because what a server
    /// makes of that may lie outside of it.
    pub fn resource(mut self, uri: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.resources.add(uri.into(), scopes.into());
        self
    }

    /// What a method needs besides, or the methods that a glob matches: `logging/setLevel`, `tasks/*`,
    /// `acme/reindex`.
    pub fn method(mut self, method: impl Into<String>, scopes: impl Into<Scopes>) -> Self {
        self.0.methods.add(method.into(), scopes.into());
        self
    }

    /// What is needed where no rule matches: the scope `admin` by default. [`Scopes::never`] denies it to
    /// everybody, [`Scopes::none`] opens it to all who are authenticated.
    pub fn unmatched(mut self, scopes: impl Into<Scopes>) -> Self {
        self.0.unmatched = scopes.into();
        self
    }

    /// Lets callers know that something is there that they may not use: they are refused with all the scopes
    /// that are missing, and a client can ask its user for more (step-up). Off by default: a forbidden name is
    /// answered as if nothing had it. Lists are filtered either way.
    pub fn reveal_forbidden(mut self, reveal: bool) -> Self {
        self.0.reveal = reveal;
        self
    }

    /// Makes the rules.
    ///
    /// # Errors
    ///
    /// A refusal (by `auth`) that names a rule that can never hold, because one before it matches all it does,
    /// or a scope that no token can have (RFC 6749, section 3.3).
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

/// A configuration that cannot be.
pub(super) fn impossible(message: String) -> Error {
    Refusal::new("auth", message)
        .with_code(code::FORBIDDEN)
        .into()
}
