//! The gateway's own tool `gateway__status`, which returns the state of the servers. It is
//! registered over the served stack.

use rmcp::{
    Json,
    model::ToolAnnotations,
    schemars::{self, JsonSchema},
};
use rmcp_layers::{
    gateway::{GatewayHandle, MemberState, MemberStatus},
    registry::{RegisteredTool, RegistryError, RegistryLayer},
};
use serde::Serialize;

/// The name of the tool. A tool of this name of a member called `gateway` would be hidden.
pub const NAME: &str = "gateway__status";

/// The answer of the tool.
#[derive(Serialize, JsonSchema)]
struct Status {
    servers: Vec<Server>,
}

#[derive(Serialize, JsonSchema)]
pub struct Server {
    name: String,
    /// The last state that requests have shown: connecting, connected, degraded or failed.
    state: &'static str,
    /// The reason for a degraded or failed state.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Tools and prompts that are not shown, because another server has their names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

impl From<MemberStatus> for Server {
    fn from(member: MemberStatus) -> Self {
        let (state, reason) = match member.state {
            MemberState::Connecting => ("connecting", None),
            MemberState::Connected => ("connected", None),
            MemberState::Degraded { reason } => ("degraded", Some(reason.to_string())),
            MemberState::Failed { reason, .. } => ("failed", Some(reason.to_string())),
            _ => ("unknown", None),
        };
        Self {
            name: member.name.to_string(),
            state,
            reason,
            left_out: member.left_out,
        }
    }
}

impl Server {
    /// Returns the demo server in this process.
    pub fn demo() -> Self {
        Self {
            name: "demo".to_owned(),
            state: "connected",
            reason: None,
            left_out: Vec::new(),
        }
    }
}

/// Returns the layer that adds the tool. Without a gateway, there is only the demo server in this
/// process.
pub fn layer(gateway: Option<GatewayHandle>) -> Result<RegistryLayer, RegistryError> {
    let status = move || match &gateway {
        Some(gateway) => gateway.members().into_iter().map(Server::from).collect(),
        None => vec![Server::demo()],
    };
    let tool = RegisteredTool::builder(NAME)
        .title("Gateway status")
        .description("Says how the servers behind this gateway are")
        .annotations(ToolAnnotations::new().read_only(true).open_world(false))
        .output_schema_of::<Status>()
        .handler(move |(), _context| {
            let servers = status();
            async move { Json(Status { servers }) }
        })
        .build()?;
    let layer = RegistryLayer::new();
    layer.handle().register(tool)?;
    Ok(layer)
}
