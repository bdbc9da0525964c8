//! The one who answers when a server asks: agrees to everything, and takes every default.

use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ClientHandler, ErrorData, RoleClient};
use serde_json::{Value, json};

#[derive(Clone, Default)]
pub struct User;

impl ClientHandler for User {
    fn get_info(&self) -> ClientInfo {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_elicitation_schema_validation()
            .enable_roots()
            .enable_sampling()
            .build();
        let name = Implementation::new("rmcp-layers-conformance", env!("CARGO_PKG_VERSION"));
        ClientInfo::new(capabilities, name)
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let accept = ElicitResult::new(ElicitationAction::Accept);
        Ok(match request {
            ElicitRequestParams::FormElicitationParams {
                requested_schema, ..
            } => accept.with_content(fill_in(&requested_schema)),
            _ => accept,
        })
    }

    async fn create_message(
        &self,
        _request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let text = SamplingMessage::assistant_text("A model would say something here.");
        Ok(CreateMessageResult::new(text, "no-model".to_owned())
            .with_stop_reason(CreateMessageResult::STOP_REASON_END_TURN))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///work")]))
    }
}

/// Fills in a form: the default of each field, and for one that is required and has none, a value
/// of its type.
fn fill_in(form: &ElicitationSchema) -> Value {
    // Read off the JSON: the schema's type has a variant for each way to write a field, and here
    // they are all alike.
    let schema = serde_json::to_value(form).unwrap_or_default();
    let is_required = |name: &String| {
        let required = schema.get("required").and_then(Value::as_array);
        required.is_some_and(|names| names.contains(&json!(name)))
    };
    let fields = schema.get("properties").and_then(Value::as_object);
    fields
        .into_iter()
        .flatten()
        .filter_map(|(name, field)| match field.get("default") {
            Some(default) => Some((name.clone(), default.clone())),
            None => is_required(name).then(|| (name.clone(), sample(field))),
        })
        .collect::<JsonObject>()
        .into()
}

/// A value of a field's type.
pub fn sample(field: &Value) -> Value {
    match field.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => json!(1),
        Some("boolean") => json!(true),
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some("null") => Value::Null,
        _ => json!("something"),
    }
}
