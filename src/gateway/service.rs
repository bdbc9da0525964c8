use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use rmcp::model::{Implementation, RequestStateCodec};
use serde_json::Value;
use tower::Service;

use super::{
    handle::GatewayHandle,
    lists::merge::ListRules,
    members::member::Member,
    names::prefix::Prefix,
    seal::Seal,
    shared::{CustomRule, Shared},
};
use crate::{CallContext, ConfigError, Error, McpRequest, McpResponse, Stack};

/// The default time that a list waits for a member.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// The default maximum number of items in a page of a list.
const PAGE_SIZE: usize = 1_000;

/// A stack bottom that combines many stacks; see the [module](super).
///
/// Clones share one gateway. When the last clone and the last [`GatewayHandle`] are dropped, it
/// drops its members.
#[derive(Clone)]
pub struct Gateway {
    pub(super) shared: Arc<Shared>,
}

impl Gateway {
    /// Returns a builder of a gateway without members.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::default()
    }

    /// Creates a gateway without members, and with every default.
    pub(super) fn empty() -> Self {
        let builder = GatewayBuilder::default();
        Self {
            shared: Arc::new(Shared::new(builder.rules, builder.prefix, Seal::random())),
        }
    }

    /// Returns the handle that adds, replaces and removes members, and returns their states.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle {
            shared: self.shared.clone(),
        }
    }

    /// Asks every member for its lists, and looks for names and URIs that two members have and that
    /// may not be prefixed ([`Prefix::Never`]). [`GatewayBuilder::connect`] does so at the start.
    /// Use this method after members were added later.
    ///
    /// Members that cannot be asked are skipped: those that do not answer within the
    /// [timeout](GatewayBuilder::list_timeout), and those with a stack for each caller.
    ///
    /// # Errors
    ///
    /// Returns an error (option `prefix`) with the name and both members.
    pub async fn check(&self) -> Result<(), ConfigError> {
        self.shared.check_collisions().await
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members = self.shared.members();
        let members = members
            .list
            .iter()
            .map(|member| &*member.name)
            .collect::<Vec<_>>();
        f.debug_struct("Gateway")
            .field("members", &members)
            .finish_non_exhaustive()
    }
}

impl Service<McpRequest> for Gateway {
    type Response = McpResponse;
    type Error = Error;
    type Future = BoxFuture<'static, Result<McpResponse, Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: McpRequest) -> Self::Future {
        Box::pin(self.shared.clone().handle(request))
    }
}

/// Builds a [`Gateway`].
#[must_use = "call `build` to make the gateway"]
pub struct GatewayBuilder {
    members: Vec<Member>,
    rules: ListRules,
    prefix: Prefix,
    seal: Option<Seal>,
    custom: Option<CustomRule>,
    server_info: Option<Implementation>,
    instructions: Option<String>,
}

impl Default for GatewayBuilder {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            rules: ListRules {
                page_size: PAGE_SIZE,
                list_timeout: LIST_TIMEOUT,
                ..ListRules::default()
            },
            prefix: Prefix::default(),
            seal: None,
            custom: None,
            server_info: None,
            instructions: None,
        }
    }
}

impl GatewayBuilder {
    /// Adds a stack under a name.
    pub fn member(self, name: impl Into<String>, stack: impl Stack) -> Self {
        self.add_member(Member::new(name, stack))
    }

    /// Adds a member with options of its own.
    pub fn add_member(mut self, member: Member) -> Self {
        self.members.push(member);
        self
    }

    /// Sets whether members' names are put in front of their names, for members without a setting
    /// of their own. Default: [`Prefix::Always`].
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    /// Sets the text between a member's name and a tool's. Default: `__`, because most hosts of
    /// models allow only letters, digits, `_` and `-`.
    pub fn separator(mut self, separator: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.rules.style).separator = separator.into();
        self
    }

    /// Sets the maximum length of outward names of tools and prompts, in characters. Default: 64,
    /// the limit of model hosts. Limit: 32 to 128, the specification's limit (MCP 2026-07-28,
    /// Tools, "Tool Names").
    ///
    /// A longer name is cut and ends with a hash of the whole, the same at every start.
    pub fn max_name_length(mut self, max: usize) -> Self {
        Arc::make_mut(&mut self.rules.style).max_length = max;
        self
    }

    /// Exposes only tools that claim to change nothing (`readOnlyHint`), of members whose
    /// [annotations are trusted](Member::trust_annotations). Prompts and resources are read-only
    /// and stay exposed. Default: `false`.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.rules.read_only = read_only;
        self
    }

    /// Sets how long lists, `server/discover` and the opening of a listen wait for a member.
    /// Default: 5 s. Limit: 1 hour.
    pub fn list_timeout(mut self, timeout: Duration) -> Self {
        self.rules.list_timeout = timeout.min(Duration::from_secs(60 * 60));
        self
    }

    /// Sets the number of items in a page of a list. Default: 1000. Limit: at least 1.
    pub fn page_size(mut self, size: usize) -> Self {
        self.rules.page_size = size.max(1);
        self
    }

    /// Sets the codec that seals `requestState` and task ids. Default: a random key for each
    /// gateway.
    ///
    /// Replicas that serve one another's callers need the same key. A gateway whose callers
    /// continue across a restart needs a persistent key.
    pub fn request_state_codec(mut self, codec: RequestStateCodec) -> Self {
        self.seal = Some(Seal::new(codec));
        self
    }

    /// Sets the rule that returns the name of the member for a custom method, given its name, its
    /// params and the call's context.
    ///
    /// Without a rule, and where it returns `None`, a custom method goes to the only member, or is
    /// answered with "method not found".
    pub fn route_custom(
        mut self,
        rule: impl Fn(&str, Option<&Value>, &CallContext) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.custom = Some(Box::new(rule));
        self
    }

    /// Sets the gateway's own `serverInfo`. Default: that of a single member, otherwise this
    /// crate's.
    pub fn server_info(mut self, info: Implementation) -> Self {
        self.server_info = Some(info);
        self
    }

    /// Sets a text that is put before the members' instructions.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Builds the gateway without connecting it: a member is first asked when a request needs it.
    ///
    /// # Errors
    ///
    /// Fails if:
    ///
    /// - two members have one name,
    /// - a member, a tool or a prompt has a name that is not allowed,
    /// - two items are renamed to one name,
    /// - the separator or the length limit is impossible.
    ///
    /// Names that only the members know are not checked; use [`connect`](Self::connect) for it.
    pub fn build(self) -> Result<Gateway, ConfigError> {
        self.rules.style.check()?;
        let seal = self.seal.unwrap_or_else(Seal::random);
        let mut shared = Shared::new(self.rules, self.prefix, seal);
        shared.custom = self.custom;
        shared.server_info = self.server_info;
        shared.instructions = self.instructions;
        for member in self.members {
            shared.insert_member(member, false)?;
        }
        Ok(Gateway {
            shared: Arc::new(shared),
        })
    }
}

impl GatewayBuilder {
    /// Builds the gateway and asks its members for their lists, concurrently. A name collision is
    /// then an error now, not a tool that is missing later. It is meant for gateways with several
    /// members that are [never prefixed](Prefix::Never); for others it only connects the members.
    ///
    /// A member that is down, or silent past the [timeout](Self::list_timeout), does not keep the
    /// gateway from starting. If it comes later with a name that is taken, the member of higher
    /// priority has the name. [`GatewayHandle::members`] reports the items that are left out.
    ///
    /// ```
    /// use rmcp_layers::{Upstream, gateway::{Gateway, Prefix}};
    /// # use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
    /// # #[derive(Clone)]
    /// # struct Database;
    /// # impl ServerHandler for Database {
    /// #     async fn list_tools(
    /// #         &self,
    /// #         _request: Option<PaginatedRequestParams>,
    /// #         _context: RequestContext<RoleServer>,
    /// #     ) -> Result<ListToolsResult, ErrorData> {
    /// #         let tool = Tool::new("query", "Asks.", JsonObject::new());
    /// #         Ok(ListToolsResult::with_all_items(vec![tool]))
    /// #     }
    /// # }
    /// # use Database as Archive;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let collided = Gateway::builder()
    ///     .prefix(Prefix::Never)
    ///     .member("db", Upstream::in_process(Database))
    ///     .member("archive", Upstream::in_process(Archive))
    ///     .connect()
    ///     .await;
    /// let error = collided.unwrap_err().to_string();
    /// assert!(error.contains("`db` and `archive` both have a tool `query`"));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Fails as [`build`](Self::build) and [`Gateway::check`] do.
    pub async fn connect(self) -> Result<Gateway, ConfigError> {
        let gateway = self.build()?;
        gateway.check().await?;
        Ok(gateway)
    }
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder")
            .field("members", &self.members)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
