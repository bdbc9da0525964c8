use std::{
    any::TypeId,
    fmt,
    future::Future,
    sync::{Arc, Mutex},
};

use rmcp::{
    handler::server::{
        common::schema_for_empty_input,
        tool::{schema_for_input, schema_for_output},
    },
    model::{ClientRequest, Icon, JsonObject, MetaObject, Tool, ToolAnnotations},
    schemars::JsonSchema,
};
use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::{BoxError, ServiceExt};

use super::{
    super::{
        RegistryError,
        health::{Check, HealthPolicy},
        schema::Schema,
        tool_result::{IntoToolResult, finish, tool_error},
    },
    Handler, Parts, RegisteredTool,
};
use crate::{CallContext, Stack, util::lock};

/// The schema of a type.
struct SchemaOfType {
    of: TypeId,
    schema: Result<Arc<JsonObject>, String>,
}

/// Builds a [`RegisteredTool`].
#[must_use = "call `build` to make the tool"]
pub struct RegisteredToolBuilder {
    definition: Tool,
    /// An explicit schema, which overrides that of the handler's type.
    input: Option<Arc<JsonObject>>,
    of_type: Option<SchemaOfType>,
    /// The type that the handler reads the arguments as.
    read_as: Option<TypeId>,
    unchecked: bool,
    version: Option<String>,
    tags: Vec<String>,
    handler: Option<Handler>,
    check: Option<Check>,
    health: Option<HealthPolicy>,
}

impl RegisteredToolBuilder {
    pub(super) fn new(name: String) -> Self {
        Self {
            definition: Tool::new_with_raw(name, None, JsonObject::new()),
            input: None,
            of_type: None,
            read_as: None,
            unchecked: false,
            version: None,
            tags: Vec::new(),
            handler: None,
            check: None,
            health: None,
        }
    }

    /// Sets the name that is shown to people.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.definition.title = Some(title.into());
        self
    }

    /// Sets the description that tells a model what the tool is for.
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.definition.description = Some(description.into().into());
        self
    }

    /// Sets the behaviour hints of the tool. Default: none.
    pub fn annotations(mut self, annotations: ToolAnnotations) -> Self {
        self.definition.annotations = Some(annotations);
        self
    }

    /// Sets the icons that are shown to people. Default: none.
    pub fn icons(mut self, icons: Vec<Icon>) -> Self {
        self.definition.icons = Some(icons);
        self
    }

    /// Sets the definition's `_meta`. Default: none.
    pub fn meta(mut self, meta: MetaObject) -> Self {
        self.definition.meta = Some(meta);
        self
    }

    /// Sets the version, by Semantic Versioning 2.0. Default: none, which counts as older than any
    /// version.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a search tag.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds search tags.
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Sets the schema of the arguments: JSON Schema 2020-12, or the dialect its `$schema` names.
    /// Its root must have `"type": "object"`. Default: the schema of the [handler](Self::handler)'s
    /// arguments.
    pub fn input_schema(mut self, schema: impl Into<Arc<JsonObject>>) -> Self {
        self.input = Some(schema.into());
        self
    }

    /// Sets the schema of the arguments to that of a type.
    pub fn input_schema_of<T: JsonSchema + 'static>(mut self) -> Self {
        self.of_type = Some(SchemaOfType {
            of: TypeId::of::<T>(),
            schema: schema_for_input::<T>(),
        });
        self
    }

    /// Sets the schema of the structured content. Default: none.
    ///
    /// A result without structured content, or with content that does not fit, becomes a tool
    /// error.
    pub fn output_schema(mut self, schema: impl Into<Arc<JsonObject>>) -> Self {
        self.definition.output_schema = Some(schema.into());
        self
    }

    /// Sets the schema of the structured content to that of a type.
    pub fn output_schema_of<T: JsonSchema + 'static>(mut self) -> Self {
        self.definition.output_schema = Some(schema_for_output::<T>());
        self
    }

    /// Does not check arguments and results against the schemas: the handler does, or the model is
    /// trusted. Default: they are checked.
    ///
    /// Arguments that do not fit the type of the [handler](Self::handler) never reach it in either
    /// case. Without the feature `json-schema`, a tool with an [`input_schema`](Self::input_schema),
    /// with an [`output_schema`](Self::output_schema), or with an input schema of another type than
    /// its handler's, needs this setting.
    pub fn unchecked_schemas(mut self) -> Self {
        self.unchecked = true;
        self
    }

    /// Sets the handler of calls: an async closure over the tool's arguments.
    ///
    /// The arguments are any type that has a JSON schema, or `()` for a tool without arguments.
    /// `JsonObject` accepts all arguments that fit the [`input_schema`](Self::input_schema). The
    /// closure returns a tool result, or a `Result` of one; see [`IntoToolResult`].
    ///
    /// An error becomes a result with `isError` and the error's message. A panic does too, but its
    /// text is in the log only.
    ///
    /// ```
    /// use rmcp_layers::registry::RegisteredTool;
    ///
    /// let ping = RegisteredTool::builder("ping")
    ///     .handler(|(), _context| async { "pong" })
    ///     .build()?;
    /// # let _ = ping;
    /// # Ok::<(), rmcp_layers::registry::RegistryError>(())
    /// ```
    ///
    /// The future is dropped when the caller cancels. Through the [`CallContext`], the closure can
    /// send progress and log messages to the caller.
    pub fn handler<T, F, Fut>(mut self, handler: F) -> Self
    where
        T: JsonSchema + DeserializeOwned + 'static,
        F: Fn(T, CallContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: IntoToolResult> + Send + 'static,
    {
        // serde reads `()` from `null`.
        let takes_none = TypeId::of::<T>() == TypeId::of::<()>();
        if self.of_type.is_none() {
            self.of_type = Some(SchemaOfType {
                of: TypeId::of::<T>(),
                schema: match takes_none {
                    true => Ok(schema_for_empty_input()),
                    false => schema_for_input::<T>(),
                },
            });
        }
        self.read_as = Some(TypeId::of::<T>());
        self.handler = Some(Box::new(move |request| {
            let later_round = request.is_mrtr_round();
            let (message, mut context) = request.into_parts();
            let arguments = match message.into_inner() {
                ClientRequest::CallToolRequest(mut call) => {
                    let arguments = call.params.arguments.take();
                    if later_round {
                        context.extensions.insert(call.params);
                    }
                    arguments.unwrap_or_default()
                }
                _ => JsonObject::new(),
            };
            let arguments = match takes_none {
                true => Value::Null,
                false => Value::Object(arguments),
            };
            match serde_json::from_value(arguments) {
                Ok(arguments) => Box::pin(finish(handler(arguments, context))),
                Err(error) => {
                    let answer = tool_error(format!("Invalid arguments: {error}"));
                    Box::pin(std::future::ready(Ok(answer)))
                }
            }
        }));
        self
    }

    /// Sets the handler of calls: a stack, or any tower service. It receives the whole request,
    /// under the tool's plain name, so it can respond in rounds (MRTR, SEP-2322) or with a task
    /// (SEP-2663).
    ///
    /// Its errors stay typed and reach the layers around the registry unchanged. A panic becomes a
    /// result with `isError`. The service is cloned for each call, which waits until the clone is
    /// ready. An [`input_schema`](Self::input_schema) is required.
    pub fn service<S>(mut self, service: S) -> Self
    where
        S: Stack,
    {
        let service = Mutex::new(service);
        self.handler = Some(Box::new(move |request| {
            let service = lock(&service).clone();
            Box::pin(async move { service.oneshot(request).await.map_err(Into::into) })
        }));
        self
    }

    /// Sets the health check. Default: none, so only real calls count.
    ///
    /// An error means that the tool does not work. Callers see the error's text.
    ///
    /// A check that holds a [`RegistryHandle`](crate::registry::RegistryHandle) keeps the registry alive for
    /// ever.
    pub fn health_check<F, Fut, E>(mut self, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<BoxError>,
    {
        self.check = Some(Check::new(check));
        self
    }

    /// Sets the health policy. Default: the [registry's](crate::registry::RegistryLayerBuilder::health).
    pub fn health(mut self, policy: HealthPolicy) -> Self {
        self.health = Some(policy);
        self
    }

    /// Returns `true` if the handler checks the arguments by reading them as the type that the
    /// input schema is of. Every object fits the schema of `JsonObject`.
    fn is_checked_by_reading(&self) -> bool {
        let of_type = self.of_type.as_ref().map(|of_type| of_type.of);
        self.input.is_none()
            && (of_type == self.read_as || of_type == Some(TypeId::of::<JsonObject>()))
    }

    /// Makes the tool.
    ///
    /// # Errors
    ///
    /// Returns an error if the name, the version, a schema or the health policy is invalid, or if
    /// there is no handler.
    pub fn build(self) -> Result<RegisteredTool, RegistryError> {
        let checks_input = cfg!(feature = "json-schema") || !self.is_checked_by_reading();
        let mut definition = self.definition;
        let tool = definition.name.to_string();
        check_name(&tool)?;
        let invalid = |role, reason| RegistryError::InvalidSchema {
            tool: tool.clone(),
            role,
            reason,
        };
        definition.input_schema = match (self.input, self.of_type) {
            (Some(given), _) => given,
            (None, Some(of_type)) => of_type.schema.map_err(|reason| invalid("input", reason))?,
            (None, None) => return Err(invalid("input", "there is none".to_owned())),
        };
        if definition.input_schema.get("type").and_then(Value::as_str) != Some("object") {
            return Err(invalid(
                "input",
                "at /type: it has to be \"object\"".to_owned(),
            ));
        }
        let compile = |role, schema: &Arc<JsonObject>| {
            Schema::compile(schema).map_err(|reason| invalid(role, reason))
        };
        let input = (checks_input && !self.unchecked)
            .then(|| compile("input", &definition.input_schema))
            .transpose()?;
        let output = definition.output_schema.as_ref();
        let output = output
            .filter(|_| !self.unchecked)
            .map(|schema| compile("output", schema))
            .transpose()?;
        let version = match self.version {
            Some(version) => {
                let parsed = Version::parse(&version);
                Some(parsed.map_err(|error| RegistryError::InvalidVersion {
                    tool: tool.clone(),
                    version,
                    reason: error.to_string(),
                })?)
            }
            None => None,
        };
        if let Some(health) = &self.health {
            health.check()?;
        }
        let handler = self.handler.ok_or(RegistryError::NoHandler { tool })?;
        Ok(RegisteredTool(Arc::new(Parts {
            definition,
            version,
            tags: self.tags,
            input,
            output,
            handler,
            check: self.check,
            health: self.health,
        })))
    }
}

impl fmt::Debug for RegisteredToolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredToolBuilder")
            .field("name", &self.definition.name)
            .finish_non_exhaustive()
    }
}

fn check_name(name: &str) -> Result<(), RegistryError> {
    const MAX: usize = 128;
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let reason = if name.is_empty() {
        "it is empty".to_owned()
    } else if name.chars().count() > MAX {
        format!(
            "it has {} characters, more than {MAX}",
            name.chars().count()
        )
    } else if let Some(other) = name.chars().find(|c| !allowed(c)) {
        format!("it contains {other:?}, and only A-Z, a-z, 0-9, _, - and . are allowed")
    } else {
        return Ok(());
    };
    Err(RegistryError::InvalidName {
        name: name.to_owned(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use rmcp::{model::CallToolResult, schemars};

    use super::*;
    use crate::{Error, McpRequest, McpResponse};

    #[derive(serde::Deserialize, JsonSchema)]
    struct Sum {
        _a: u32,
    }

    #[test]
    fn a_handler_checks_only_the_type_that_it_reads() {
        let tool = || RegisteredTool::builder("sum");
        let service = || {
            tower::service_fn(|_: McpRequest| async {
                Ok::<_, Error>(McpResponse::new(CallToolResult::success(Vec::new())))
            })
        };
        let sum = |_: Sum, _: CallContext| async {};
        let any = |_: JsonObject, _: CallContext| async {};
        assert!(tool().handler(sum).is_checked_by_reading());
        assert!(tool().handler(any).is_checked_by_reading());
        assert!(tool().handler(|(), _| async {}).is_checked_by_reading());
        let of_sum = || tool().input_schema_of::<Sum>();
        assert!(of_sum().handler(sum).is_checked_by_reading());
        assert!(!of_sum().handler(any).is_checked_by_reading());
        assert!(
            !tool()
                .handler(any)
                .input_schema_of::<Sum>()
                .is_checked_by_reading()
        );
        assert!(!of_sum().service(service()).is_checked_by_reading());
        let of_any = tool().input_schema_of::<JsonObject>();
        assert!(of_any.service(service()).is_checked_by_reading());
        let given = tool().input_schema(JsonObject::new());
        assert!(!given.handler(any).is_checked_by_reading());
    }
}
