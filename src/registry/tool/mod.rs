mod builder;

use std::{fmt, sync::Arc};

use futures::future::BoxFuture;
use rmcp::model::Tool;
use semver::Version;

pub use self::builder::RegisteredToolBuilder;
use super::{
    health::{Check, HealthPolicy},
    schema::Schema,
};
use crate::{Error, McpRequest, McpResponse};

pub(in crate::registry) type Handler =
    Box<dyn Fn(McpRequest) -> BoxFuture<'static, Result<McpResponse, Error>> + Send + Sync>;

/// A tool that can be [registered](super::RegistryHandle::register): its definition and its
/// handler.
///
/// Cloning is one reference count.
///
/// ```
/// use rmcp::schemars::{self, JsonSchema};
/// use rmcp_layers::registry::{RegisteredTool, RegistryError};
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Division {
///     dividend: f64,
///     divisor: f64,
/// }
///
/// let divide = RegisteredTool::builder("divide")
///     .description("Divides one number by another")
///     .version("1.0.0")
///     .tag("arithmetic")
///     .handler(|Division { dividend, divisor }, _context| async move {
///         if divisor == 0.0 {
///             return Err("nothing can be divided by zero");
///         }
///         Ok((dividend / divisor).to_string())
///     })
///     .build()?;
/// assert_eq!(divide.name(), "divide");
/// assert!(divide.definition().input_schema["properties"]["divisor"].is_object());
///
/// let error = RegisteredTool::builder("divide it").handler(|_: Division, _| async {
///     Ok::<_, RegistryError>(String::new())
/// });
/// assert!(matches!(error.build(), Err(RegistryError::InvalidName { .. })));
/// # Ok::<(), RegistryError>(())
/// ```
#[derive(Clone)]
pub struct RegisteredTool(Arc<Parts>);

pub(in crate::registry) struct Parts {
    pub(in crate::registry) definition: Tool,
    pub(in crate::registry) version: Option<Version>,
    pub(in crate::registry) tags: Vec<String>,
    /// The schemas that are checked.
    pub(in crate::registry) input: Option<Schema>,
    pub(in crate::registry) output: Option<Schema>,
    pub(in crate::registry) handler: Handler,
    pub(in crate::registry) check: Option<Check>,
    pub(in crate::registry) health: Option<HealthPolicy>,
}

impl RegisteredTool {
    /// Returns a builder for a tool with this name. Limit: 1 to 128 of the characters
    /// `A-Z a-z 0-9 _ - .` (MCP 2026-07-28, Tools, "Tool Names").
    pub fn builder(name: impl Into<String>) -> RegisteredToolBuilder {
        RegisteredToolBuilder::new(name.into())
    }

    /// Returns the tool's name.
    pub fn name(&self) -> &str {
        &self.0.definition.name
    }

    /// Returns the tool's version, if it has one.
    pub fn version(&self) -> Option<&Version> {
        self.0.version.as_ref()
    }

    /// Returns the tool's tags.
    pub fn tags(&self) -> &[String] {
        &self.0.tags
    }

    /// Returns the tool as `tools/list` shows it, without the registry's own `_meta` entries.
    pub fn definition(&self) -> &Tool {
        &self.0.definition
    }

    pub(in crate::registry) fn parts(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for RegisteredTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredTool")
            .field("name", &self.name())
            .field("version", &self.0.version)
            .field("tags", &self.0.tags)
            .finish_non_exhaustive()
    }
}
