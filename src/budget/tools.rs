use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rmcp::model::{JsonObject, Tool};
use serde_json::Value;
use tokio::time::Instant;

use super::{fit::OutputSchema, read_result::reads_kept_results};
use crate::Audience;

/// Maximum number of audiences. Beyond it, all tools are dropped and learned again from the next
/// lists.
const MAX_AUDIENCES: usize = 1_024;
/// Maximum number of tools for one audience. Further ones are asked for at cuts.
const MAX_TOOLS: usize = 10_000;
/// The time for which a tool that is in no list is not asked for again.
const ABSENCE: Duration = Duration::from_secs(30);

/// The tools in the lists of the inner stack that have passed, by audience.
#[derive(Default)]
pub(super) struct KnownTools(RwLock<HashMap<Audience, Known>>);

/// The tools that an audience was shown.
#[derive(Default)]
struct Known {
    tools: HashMap<Arc<str>, KnownTool>,
    /// The time at which the layer has last asked for all of them.
    asked_at: Option<Instant>,
}

#[derive(Clone)]
struct KnownTool {
    schema: Option<KnownSchema>,
    /// `true` for the tool by which an inner budget reads its kept results.
    reads_kept_results: bool,
}

#[derive(Clone)]
struct KnownSchema {
    json: Arc<JsonObject>,
    schema: Arc<OutputSchema>,
}

impl KnownTools {
    /// Learns the tools of a page of a list.
    pub(super) fn learn(&self, audience: &Audience, tools: &[Tool]) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut all, audience);
        for tool in tools {
            let name: &str = &tool.name;
            let schema = tool.output_schema.as_ref().map(|json| {
                // Most callers are shown the same tools: they share one schema.
                let mut others = all
                    .values()
                    .filter_map(|known| known.tools.get(name)?.schema.as_ref());
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
            let reads_kept_results = reads_kept_results(tool);
            let tools = &mut all.entry(audience.clone()).or_default().tools;
            if tools.len() < MAX_TOOLS || tools.contains_key(name) {
                tools.insert(
                    name.into(),
                    KnownTool {
                        schema,
                        reads_kept_results,
                    },
                );
            }
        }
    }

    /// Returns the schema of a tool. Returns `None` if the tool was not listed.
    pub(super) fn schema(
        &self,
        audience: &Audience,
        tool: &str,
    ) -> Option<Option<Arc<OutputSchema>>> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(audience)?.tools.get(tool)?;
        Some(known.schema.as_ref().map(|known| known.schema.clone()))
    }

    /// Returns whether an inner budget reads its kept results by this tool. Returns `None` if the
    /// tool was not listed.
    pub(super) fn reads_kept_results(&self, audience: &Audience, tool: &str) -> Option<bool> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(audience)?.tools.get(tool)?;
        Some(known.reads_kept_results)
    }

    /// Notes that the layer has asked for all tools.
    pub(super) fn note_asked(&self, audience: &Audience) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        make_room(&mut all, audience);
        all.entry(audience.clone()).or_default().asked_at = Some(Instant::now());
    }

    /// Returns `true` if a tool is not known, and the layer has not asked for it of late.
    pub(super) fn is_to_be_asked_for(&self, audience: &Audience, tool: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(audience)
            .is_none_or(|known| !known.tools.contains_key(tool) && !known.was_asked())
    }

    /// Returns `true` if the layer has asked for all tools within the last 30 s. A tool that is not
    /// known is in no list then.
    pub(super) fn was_asked(&self, audience: &Audience) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(audience).is_some_and(Known::was_asked)
    }
}

impl Known {
    fn was_asked(&self) -> bool {
        let asked_at = self.asked_at;
        asked_at.is_some_and(|asked_at| asked_at.elapsed() < ABSENCE)
    }
}

fn make_room(all: &mut HashMap<Audience, Known>, audience: &Audience) {
    if all.len() >= MAX_AUDIENCES && !all.contains_key(audience) {
        all.clear();
    }
}
