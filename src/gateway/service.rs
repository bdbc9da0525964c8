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
    GatewayHandle, Member, Prefix,
    hub::{CustomRule, Hub},
    merge::Rules,
    state::Seal,
};
use crate::{CallContext, Error, McpRequest, McpResponse, Refusal, code};

/// How long a list waits for a member, unless the builder says otherwise.
const LIST_DEADLINE: Duration = Duration::from_secs(5);
/// How many things a page of a list has at most, unless the builder says otherwise.
const PAGE_SIZE: usize = 1_000;

/// The bottom of a stack that is many stacks; see the [module](super).
///
/// Cloning it makes another face of the same gateway. When the last clone and the last
/// [`GatewayHandle`] are gone, it lets go of its members.
#[derive(Clone)]
pub struct Gateway {
    pub(super) hub: Arc<Hub>,
}

impl Gateway {
    /// Starts a gateway without members.
    pub fn builder() -> GatewayBuilder {
        GatewayBuilder::default()
    }

    /// A gateway without members, and with every default.
    pub(super) fn empty() -> Self {
        let builder = GatewayBuilder::default();
        Self {
            hub: Arc::new(Hub::new(builder.rules, builder.prefix, Seal::random())),
        }
    }

    /// The handle that adds, replaces and removes members, and says how they are.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle {
            hub: self.hub.clone(),
        }
    }

    /// Asks every member what it lists, and looks for names and URIs that two of them have where neither may
    /// be prefixed ([`Prefix::Never`]). [`GatewayBuilder::connect`] does so at the start; members that are added
    /// later can be checked by this.
    ///
    /// Passed over are members that cannot be asked: those that do not answer within the
    /// [deadline](GatewayBuilder::list_deadline), and those with a stack for each caller.
    ///
    /// # Errors
    ///
    /// A refusal (by `gateway`) that names the name and both members.
    pub async fn check(&self) -> Result<(), Error> {
        self.hub.check().await
    }
}

pub(super) fn impossible(message: String) -> Error {
    Refusal::new("gateway", message)
        .with_code(code::FORBIDDEN)
        .into()
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seats = self.hub.seats();
        let members = seats
            .list
            .iter()
            .map(|seat| &*seat.name)
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
        Box::pin(self.hub.clone().handle(request))
    }
}

/// Builds a [`Gateway`].
#[must_use = "call `build` to make the gateway"]
pub struct GatewayBuilder {
    members: Vec<Member>,
    rules: Rules,
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
            rules: Rules {
                page_size: PAGE_SIZE,
                deadline: LIST_DEADLINE,
                ..Rules::default()
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
    pub fn member<S>(self, name: impl Into<String>, stack: S) -> Self
    where
        S: Service<McpRequest, Response = McpResponse> + Clone + Send + 'static,
        S::Error: Into<Error>,
        S::Future: Send + 'static,
    {
        self.add_member(Member::new(name, stack))
    }

    /// Adds a member that says more of itself.
    pub fn add_member(mut self, member: Member) -> Self {
        self.members.push(member);
        self
    }

    /// Whether members' names go in front of their names, where a member does not say it itself.
    /// [`Prefix::Always`] by default.
    pub fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    /// What stands between a member's name and a tool's, `__` by default: most hosts of models allow no
    /// other characters than letters, digits, `_` and `-`.
    pub fn separator(mut self, separator: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.rules.style).separator = separator.into();
        self
    }

    /// How long outward names of tools and prompts may be, in characters: 64 by default, as hosts of models
    /// have it; 32 to 128, which is the specification's limit (MCP 2026-07-28, Tools, "Tool Names"). What
    /// is longer is cut and ends with a hash of the whole, the same at every start.
    pub fn max_name_length(mut self, max: usize) -> Self {
        Arc::make_mut(&mut self.rules.style).max_length = max;
        self
    }

    /// Lets out only tools that say they change nothing (`readOnlyHint`), of members whose
    /// [annotations are trusted](Member::trust_annotations). Off by default. Prompts and resources are
    /// for reading, and stay.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.rules.read_only = read_only;
        self
    }

    /// How long lists, `server/discover` and the opening of a listen wait for a member: 5 s by default, at
    /// most an hour.
    pub fn list_deadline(mut self, deadline: Duration) -> Self {
        self.rules.deadline = deadline.min(Duration::from_secs(60 * 60));
        self
    }

    /// How many things a page of a list has, 1000 by default and at least 1.
    pub fn page_size(mut self, size: usize) -> Self {
        self.rules.page_size = size.max(1);
        self
    }

    /// Seals `requestState` and task ids with this codec. By default each gateway has a random key: give
    /// replicas that serve one another's callers the same, and one that survives a restart where callers
    /// should.
    pub fn request_state_codec(mut self, codec: RequestStateCodec) -> Self {
        self.seal = Some(Seal::new(codec));
        self
    }

    /// Says which member has a custom method, by its name, its params and the call's context. Without a
    /// rule, and where it names nobody, a custom method goes to the only member, or is answered with
    /// "method not found".
    pub fn route_custom(
        mut self,
        rule: impl Fn(&str, Option<&Value>, &CallContext) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.custom = Some(Box::new(rule));
        self
    }

    /// What the gateway calls itself. By default an only member's own, else this crate's.
    pub fn server_info(mut self, info: Implementation) -> Self {
        self.server_info = Some(info);
        self
    }

    /// Puts this before the members' instructions.
    pub fn instructions(mut self, instructions: impl Into<String>) -> Self {
        self.instructions = Some(instructions.into());
        self
    }

    /// Makes the gateway. Nothing is connected yet: a member is asked when a request needs it.
    ///
    /// # Errors
    ///
    /// A refusal (by `gateway`) of what cannot be: two members of one name, a name that a member, a tool or a
    /// prompt cannot have, two of them renamed to one name, or an impossible separator or length limit. Names
    /// that only the members know are not looked at: [`connect`](Self::connect) does.
    pub fn build(self) -> Result<Gateway, Error> {
        self.rules.style.check().map_err(impossible)?;
        let seal = self.seal.unwrap_or_else(Seal::random);
        let mut hub = Hub::new(self.rules, self.prefix, seal);
        hub.custom = self.custom;
        hub.server_info = self.server_info;
        hub.instructions = self.instructions;
        for member in self.members {
            hub.seat(member, false).map_err(impossible)?;
        }
        Ok(Gateway { hub: Arc::new(hub) })
    }
}

impl GatewayBuilder {
    /// Makes the gateway and asks its members what they list, all at once, so that names which collide are an
    /// error now and not a tool that is missing later. For gateways with several members that are
    /// [never prefixed](Prefix::Never); to others it only brings the members up.
    ///
    /// A member that is down, or silent past the [deadline](Self::list_deadline), keeps no gateway from
    /// starting. If it comes later with a name that is taken, the name stays with the member of higher
    /// priority, and [`GatewayHandle::members`] says what was left out.
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
    /// As for [`build`](Self::build), and a refusal that names a name or URI that two members have, and both
    /// members.
    pub async fn connect(self) -> Result<Gateway, Error> {
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
