//! The yardstick: rmcp's own client over its own HTTP transport.

use rmcp::RoleClient;
use rmcp::model::*;
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService};
use rmcp::transport::StreamableHttpClientTransport;

use super::{Driver, User};
use crate::serve::Result;

pub struct Bare(RunningService<RoleClient, User>);

impl Driver for Bare {
    async fn connect(url: &str, user: User, lifecycle: ClientLifecycleMode) -> Result<Self> {
        let transport = StreamableHttpClientTransport::from_uri(url);
        Ok(Self(user.serve_with_lifecycle(transport, lifecycle).await?))
    }

    async fn tools(&self) -> Result<Vec<Tool>> {
        Ok(self.0.list_all_tools().await?)
    }

    async fn call(&self, call: CallToolRequestParams) -> Result<CallToolResult> {
        Ok(self.0.call_tool(call).await?)
    }

    async fn resources(&self) -> Result<Vec<Resource>> {
        Ok(self.0.list_all_resources().await?)
    }

    async fn read(&self, uri: &str) -> Result<ReadResourceResult> {
        let request = ReadResourceRequestParams::new(uri);
        Ok(self.0.read_resource(request).await?)
    }

    async fn prompts(&self) -> Result<Vec<Prompt>> {
        Ok(self.0.list_all_prompts().await?)
    }

    async fn prompt(&self, name: &str) -> Result<GetPromptResult> {
        Ok(self.0.get_prompt(GetPromptRequestParams::new(name)).await?)
    }

    async fn skills(&self) -> Result<Vec<Skill>> {
        Ok(self.0.list_all_skills().await?)
    }

    async fn close(self) -> Result<()> {
        self.0.cancel().await?;
        Ok(())
    }
}
