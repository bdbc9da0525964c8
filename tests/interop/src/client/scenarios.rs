//! What to do in each client scenario of the suite.
//!
//! Left out are the `auth/*` scenarios: they test a client's OAuth flows, and getting a token is the
//! business of whoever builds the transport, above or beside this crate, never of a layer.

use rmcp::model::*;
use rmcp::service::ClientLifecycleMode;
use serde::Deserialize;
use serde_json::Value;

use super::user::sample;
use super::{Driver, User};
use crate::serve::Result;

/// What the suite tells a client, by its environment and its one argument.
pub struct Assignment {
    pub scenario: String,
    pub url: String,
    pub revision: ProtocolVersion,
    pub calls: Vec<ToCall>,
}

/// A tool call the scenario prescribes.
#[derive(Deserialize)]
pub struct ToCall {
    name: String,
    #[serde(default)]
    arguments: Option<JsonObject>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Context {
    tool_calls: Vec<ToCall>,
}

impl Assignment {
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(format!("MCP_CONFORMANCE_{name}"));
        let revision = variable("PROTOCOL_VERSION").unwrap_or_else(|_| "2025-11-25".to_owned());
        let context: Context = match variable("CONTEXT") {
            Ok(context) => serde_json::from_str(&context)?,
            Err(_) => Context::default(),
        };
        Ok(Self {
            scenario: variable("SCENARIO")?,
            url: std::env::args()
                .nth(1)
                .ok_or("the server's URL is missing")?,
            revision: serde_json::from_value(Value::String(revision))?,
            calls: context.tool_calls,
        })
    }

    /// Since 2026-07-28 there is no handshake to begin with.
    fn lifecycle(&self) -> ClientLifecycleMode {
        if self.revision.as_str() < ProtocolVersion::V_2026_07_28.as_str() {
            return ClientLifecycleMode::Initialize;
        }
        // The rest are for a server that turns the first down.
        let others = ProtocolVersion::KNOWN_VERSIONS.iter().rev();
        let others = others.filter(|known| **known != self.revision).cloned();
        ClientLifecycleMode::Discover {
            preferred_versions: [self.revision.clone()].into_iter().chain(others).collect(),
        }
    }
}

/// Plays the assigned scenario with the client under test.
pub async fn play<D: Driver>(assigned: &Assignment) -> Result<()> {
    let driver = D::connect(&assigned.url, User, assigned.lifecycle()).await?;
    match assigned.scenario.as_str() {
        "initialize" | "json-schema-ref-no-deref" => {
            driver.tools().await?;
        }
        "tools_call"
        | "elicitation-sep1034-client-defaults"
        | "sse-retry"
        | "request-metadata"
        | "sep-2322-client-request-state"
        | "http-invalid-tool-headers" => call_every_tool(&driver).await?,
        "http-custom-headers" => call_as_told(&driver, &assigned.calls).await?,
        "http-standard-headers" => use_everything(&driver).await?,
        "json-schema-2020-12-preservation" => send_a_schema_back(&driver).await?,
        "sep-2640-client-no-prefetch" => {
            driver.skills().await?;
        }
        "sep-2640-client-verify-digest"
        | "sep-2640-client-verify-size"
        | "sep-2640-client-verify-frontmatter" => load_skills(&driver).await?,
        other => return Err(format!("no part to play in {other:?}").into()),
    }
    driver.close().await
}

/// Tools whose definition is against the rules are not listed, so not called either.
async fn call_every_tool<D: Driver>(driver: &D) -> Result<()> {
    for tool in driver.tools().await? {
        let arguments = arguments_for(&tool);
        let call = CallToolRequestParams::new(tool.name).with_arguments(arguments);
        driver.call(call).await?;
    }
    Ok(())
}

async fn call_as_told<D: Driver>(driver: &D, calls: &[ToCall]) -> Result<()> {
    // A parameter goes into a header because the tool's definition says so: it must be known.
    driver.tools().await?;
    for to_call in calls {
        let call = CallToolRequestParams::new(to_call.name.clone());
        let arguments = to_call.arguments.clone().unwrap_or_default();
        driver.call(call.with_arguments(arguments)).await?;
    }
    Ok(())
}

async fn use_everything<D: Driver>(driver: &D) -> Result<()> {
    call_every_tool(driver).await?;
    for resource in driver.resources().await? {
        driver.read(&resource.uri).await?;
    }
    for prompt in driver.prompts().await? {
        driver.prompt(&prompt.name).await?;
    }
    Ok(())
}

/// The suite compares the schema it gets back with the one it sent.
async fn send_a_schema_back<D: Driver>(driver: &D) -> Result<()> {
    let tools = driver.tools().await?;
    let takes_schema = |tool: &&Tool| {
        let properties = tool.input_schema.get("properties");
        properties.is_some_and(|properties| properties.get("schema").is_some())
    };
    let echo = tools
        .iter()
        .find(takes_schema)
        .ok_or("no tool takes a schema")?;
    let rich = tools.iter().find(|tool| tool.name != echo.name);
    let rich = rich.ok_or("no tool has a schema to send back")?;
    let schema = Value::Object((*rich.input_schema).clone());
    let arguments = JsonObject::from_iter([("schema".to_owned(), schema)]);
    let call = CallToolRequestParams::new(echo.name.clone()).with_arguments(arguments);
    driver.call(call).await?;
    Ok(())
}

/// Loads each skill, `SKILL.md` first, and stops at a file that is not what its entry says.
async fn load_skills<D: Driver>(driver: &D) -> Result<()> {
    for skill in driver.skills().await? {
        let SkillResources::Files(files) = &skill.resources else {
            continue;
        };
        let (first, others): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| file.uri == skill.uri);
        for file in first.into_iter().chain(others) {
            let text = text_of(driver.read(&file.uri).await?)?;
            file.verify(text.as_bytes())?;
            if file.uri == skill.uri && !front_matter_is(&text, &skill.frontmatter)? {
                return Err(format!("{} is not the skill that was listed", skill.uri).into());
            }
        }
    }
    Ok(())
}

fn text_of(result: ReadResourceResult) -> Result<String> {
    match result.contents.into_iter().next() {
        Some(ResourceContents::TextResourceContents { text, .. }) => Ok(text),
        _ => Err("a skill's file has no text".into()),
    }
}

/// Compares front matter of `key: value` lines, all that the suite's skills use of YAML.
fn front_matter_is(text: &str, listed: &SkillFrontmatter) -> Result<bool> {
    let (front_matter, _) = text
        .strip_prefix("---\n")
        .and_then(|rest| rest.split_once("\n---\n"))
        .ok_or("a SKILL.md has no front matter")?;
    let said: JsonObject = front_matter
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_owned(), Value::String(value.to_owned())))
        .collect();
    Ok(serde_json::to_value(listed)? == Value::Object(said))
}

/// A value of the right type for each argument a tool requires.
fn arguments_for(tool: &Tool) -> JsonObject {
    let required = tool.input_schema.get("required").and_then(Value::as_array);
    let properties = tool.input_schema.get("properties");
    required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|name| {
            let field = properties.and_then(|properties| properties.get(name));
            (name.to_owned(), sample(field.unwrap_or(&Value::Null)))
        })
        .collect()
}
