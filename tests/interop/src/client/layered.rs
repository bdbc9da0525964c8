//! The client under test: `McpClient` over nine pass-through layers and an `Upstream`.

use rmcp::ClientHandler;
use rmcp::model::*;
use rmcp::service::ClientLifecycleMode;
use rmcp_layers::{HttpEndpoint, Lifecycle, McpClient, Upstream};

use super::{Driver, User};
use crate::layers::{Nine, nine_layers};
use crate::serve::Result;

pub struct Layered {
    client: McpClient<Nine<Upstream>>,
    upstream: Upstream,
}

impl Driver for Layered {
    async fn connect(url: &str, user: User, lifecycle: ClientLifecycleMode) -> Result<Self> {
        let info = user.get_info();
        let builder = Upstream::builder()
            .client_info(info.client_info.clone())
            .capabilities(info.capabilities.clone());
        let (builder, revision) = match lifecycle {
            ClientLifecycleMode::Initialize => (
                builder.lifecycle(Lifecycle::Initialize),
                ProtocolVersion::LATEST_WITH_INITIALIZE,
            ),
            _ => (
                builder.lifecycle(Lifecycle::Discover),
                ProtocolVersion::LATEST,
            ),
        };
        let upstream = builder.http(HttpEndpoint::new(url))?;
        upstream.connect().await?;
        let client = McpClient::builder(nine_layers(upstream.clone()))
            .handler(user)
            .protocol_version(revision)
            .build();
        Ok(Self { client, upstream })
    }

    async fn tools(&self) -> Result<Vec<Tool>> {
        Ok(self.client.list_all_tools().await?)
    }

    async fn call(&self, call: CallToolRequestParams) -> Result<CallToolResult> {
        let arguments = call.arguments.unwrap_or_default();
        Ok(self
            .client
            .call_tool(call.name)
            .arguments(arguments)
            .await?)
    }

    async fn resources(&self) -> Result<Vec<Resource>> {
        Ok(self.client.list_all_resources().await?)
    }

    async fn read(&self, uri: &str) -> Result<ReadResourceResult> {
        Ok(self.client.read_resource(uri).await?)
    }

    async fn prompts(&self) -> Result<Vec<Prompt>> {
        Ok(self.client.list_all_prompts().await?)
    }

    async fn prompt(&self, name: &str) -> Result<GetPromptResult> {
        Ok(self.client.get_prompt(name, JsonObject::new()).await?)
    }

    async fn skills(&self) -> Result<Vec<Skill>> {
        Ok(self.client.list_all_skills().await?)
    }

    async fn close(self) -> Result<()> {
        self.upstream.close().await;
        Ok(())
    }
}
