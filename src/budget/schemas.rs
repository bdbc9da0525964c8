use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;

use super::fit::OutputSchema;
use crate::Audience;

/// Maximum number of audiences. Beyond it, all schemas are dropped and learned again from the next
/// lists.
const MAX_AUDIENCES: usize = 1_024;
/// Maximum number of tools for one audience. Further ones are asked for at each cut.
const MAX_TOOLS: usize = 10_000;

/// The output schemas of the tools in the lists that have passed, by audience.
#[derive(Default)]
pub(super) struct KnownSchemas(RwLock<ByAudience>);

type ByAudience = HashMap<Audience, HashMap<Arc<str>, Option<KnownSchema>>>;

#[derive(Clone)]
struct KnownSchema {
    json: Arc<JsonObject>,
    schema: Arc<OutputSchema>,
}

impl KnownSchemas {
    /// Learns the schemas of a page of a list.
    pub(super) fn learn(&self, audience: &Audience, tools: &[Tool]) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_AUDIENCES && !all.contains_key(audience) {
            all.clear();
        }
        for tool in tools {
            let name: &str = &tool.name;
            let known = tool.output_schema.as_ref().map(|json| {
                // Most callers are shown the same tools: they share one schema.
                let mut others = all.values().filter_map(|tools| tools.get(name)?.as_ref());
                others
                    .find(|other| *other.json == **json)
                    .cloned()
                    .unwrap_or_else(|| {
                        let schema = OutputSchema::new(Value::Object((**json).clone()));
                        KnownSchema {
                            json: json.clone(),
                            schema: Arc::new(schema),
                        }
                    })
            });
            let tools = all.entry(audience.clone()).or_default();
            if tools.len() < MAX_TOOLS || tools.contains_key(name) {
                tools.insert(name.into(), known);
            }
        }
    }

    /// Returns the schema of a tool. Returns `None` if the tool was not listed.
    pub(super) fn get(&self, audience: &Audience, tool: &str) -> Option<Option<Arc<OutputSchema>>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(audience)?.get(tool)?;
        Some(known.as_ref().map(|known| known.schema.clone()))
    }
}
