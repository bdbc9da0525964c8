//! Guards a server: API keys, a scope for each tool, and an audit record of each call.
//!
//! Output of `cargo run --example server_auth`:
//!
//! ```text
//! reader sees: read
//! reader calls read: ok
//! reader calls write: refused with -32602
//! writer calls write: ok
//! no key calls read: refused with -31401
//! audit: reader read Allowed
//! audit: reader write Concealed
//! audit: writer write Allowed
//! audit: - read Unauthenticated
//! ```

use rmcp::{tool, tool_router};
use rmcp_layers::{
    Error, Handler, McpClient, McpRequest, McpServer, Principal, ServiceBuilderExt, Stack,
    Upstream,
    audit::AuditLog,
    auth::{ApiKeys, AuthLayer, Rules, TOKEN_META_KEY},
};
use tower::ServiceBuilder;

#[derive(Clone)]
struct Files;

#[tool_router(server_handler)]
impl Files {
    #[tool(description = "Reads the file")]
    fn read(&self) -> String {
        "contents".to_owned()
    }

    #[tool(description = "Writes the file")]
    fn write(&self) -> String {
        "written".to_owned()
    }
}

/// A client of the server that sends this key with each request.
fn client(server: &McpServer<impl Stack>, key: Option<&'static str>) -> McpClient<impl Stack> {
    let stack = ServiceBuilder::new()
        .map_request(move |mut request: McpRequest| {
            if let Some(key) = key {
                let meta = &mut request.context.meta;
                meta.insert(TOKEN_META_KEY.to_owned(), key.into());
            }
            request
        })
        .service(Upstream::in_process(server.clone()));
    McpClient::new(stack)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scopes = |name, scopes: &[&str]| Principal::new(name).with_scopes(scopes.iter().copied());
    let keys = ApiKeys::new()
        .key("k-reader-3f9a5c1e77d0", scopes("reader", &["files:read"]))?
        .key(
            "k-writer-77d04b2a3f9a",
            scopes("writer", &["files:read", "files:write"]),
        )?;
    let rules = Rules::builder()
        .tool("read", "files:read")
        .tool("write", "files:write")
        .build()?;
    let audit = AuditLog::builder().memory(100).build()?;
    let records = audit.handle();
    let auth = AuthLayer::builder(keys)
        .rules(rules)
        .allow_unauthenticated(["server/discover"]);
    let stack = ServiceBuilder::new()
        .audit(audit.layer())
        .auth(auth.build()?)
        .service(Handler::new(Files));
    // `server.serve(transport)` serves it over stdio or a socket, rmcp's `StreamableHttpService`
    // over HTTP.
    let server = McpServer::new(stack);

    let reader = client(&server, Some("k-reader-3f9a5c1e77d0"));
    for tool in reader.list_all_tools().await? {
        println!("reader sees: {}", tool.name);
    }
    let writer = client(&server, Some("k-writer-77d04b2a3f9a"));
    let nameless = client(&server, None);
    show("reader calls read", reader.call_tool("read").await);
    show("reader calls write", reader.call_tool("write").await);
    show("writer calls write", writer.call_tool("write").await);
    show("no key calls read", nameless.call_tool("read").await);

    // The latest is first.
    for record in records.recent(100).iter().rev() {
        if let Some(tool) = &record.name {
            let caller = record.principal.as_ref().map_or("-", |who| &who.subject);
            println!("audit: {caller} {tool} {:?}", record.decision);
        }
    }
    Ok(())
}

fn show<T>(call: &str, answer: Result<T, Error>) {
    match answer {
        Ok(_) => println!("{call}: ok"),
        Err(Error::Protocol(error)) => println!("{call}: refused with {}", error.code.0),
        Err(error) => println!("{call}: {error}"),
    }
}
