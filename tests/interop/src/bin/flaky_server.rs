//! A server to be killed: `flaky_server DIRECTORY`, over standard input and output.
//!
//! It writes its process id to `pid`, and each call of `append` to `effects`, a line each.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    time::Duration,
};

use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt, model::*, service::RequestContext};

struct Flaky {
    directory: PathBuf,
}

fn told(request: &CallToolRequestParams, name: &str) -> String {
    let arguments = request.arguments.as_ref();
    let value = arguments.and_then(|arguments| arguments.get(name)?.as_str());
    value.unwrap_or_default().to_owned()
}

impl ServerHandler for Flaky {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = || JsonObject::from_iter([("type".to_owned(), "object".into())]);
        let read =
            Tool::new("read", "Reads.", schema()).annotate(ToolAnnotations::new().read_only(true));
        let append = Tool::new("append", "Appends a line.", schema());
        Ok(ListToolsResult::with_all_items(vec![read, append]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let id = told(&request, "id");
        match &*request.name {
            "read" => {}
            "append" => {
                let failed =
                    |error: std::io::Error| ErrorData::internal_error(error.to_string(), None);
                let mut effects = OpenOptions::new();
                let effects = effects.append(true).create(true);
                let mut effects = effects
                    .open(self.directory.join("effects"))
                    .map_err(failed)?;
                effects
                    .write_all(format!("{id}\n").as_bytes())
                    .map_err(failed)?;
            }
            _ => return Err(ErrorData::invalid_params("no such tool", None)),
        }
        // Long enough to be killed in.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(CallToolResult::success(vec![ContentBlock::text(id)]).into())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args().nth(1).ok_or("flaky_server DIRECTORY")?);
    // Whole or not at all: the driver reads it meanwhile.
    let (new, pid) = (directory.join("pid.new"), directory.join("pid"));
    fs::write(&new, std::process::id().to_string())?;
    fs::rename(new, pid)?;
    let server = Flaky { directory }.serve(rmcp::transport::stdio()).await?;
    server.waiting().await?;
    Ok(())
}
