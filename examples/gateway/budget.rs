//! The `[budget]` section of `gateway.toml`: results counted in tokens, and cut to what is left of a
//! caller's context window.
//!
//! ```toml
//! [budget]
//! total_tokens = 128000
//! model = "gpt-5"                          # whose tokens are counted
//! max_fraction = 0.3                       # of what is left, for one result
//! tools = { "files__read_*" = 0.5 }        # another fraction for these
//! exempt = ["gateway__status"]             # neither counted nor cut
//! conversation_header = "x-conversation"   # names the conversation, in place of the session
//! redis = "redis://127.0.0.1:6379"
//! ```

use std::{collections::BTreeMap, time::Duration};

use rmcp_layers::{
    McpRequest,
    budget::{BudgetLayer, BudgetLayerBuilder, ContextBudget, KeptText, OnSchemaMisfit},
    store::RedisStore,
};
use serde::Deserialize;

use crate::{Result, config::in_the_files_words};

/// The `[budget]` section. A missing setting has the layer's default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetConfig {
    total_tokens: u64,
    reserved_for_response: Option<u64>,
    reserved_for_system: Option<u64>,
    model: Option<String>,
    max_fraction: Option<f64>,
    #[serde(default)]
    tools: BTreeMap<String, f64>,
    #[serde(default)]
    exempt: Vec<String>,
    min_to_call: Option<u64>,
    conversation_header: Option<String>,
    idle_secs: Option<u64>,
    keep_results: Option<bool>,
    kept_mib: Option<usize>,
    kept_secs: Option<u64>,
    page_tokens: Option<u64>,
    kept_text: Option<Kept>,
    on_schema_misfit: Option<Misfit>,
    #[serde(default)]
    count_definitions: bool,
    redis: Option<String>,
    redis_prefix: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kept {
    Head,
    Tail,
    Both,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Misfit {
    ToolError,
    DropStructured,
}

impl BudgetConfig {
    /// Returns the URL of Redis.
    pub fn redis(&self) -> Option<&str> {
        self.redis.as_deref()
    }

    /// Returns the layer of the section, over all servers.
    pub fn layer(&self) -> Result<BudgetLayer> {
        let names = [("max_fraction", "max_fraction or tools")];
        let layer = self.builder()?.build();
        Ok(layer.map_err(|error| in_the_files_words("budget", error, &names))?)
    }

    fn builder(&self) -> Result<BudgetLayerBuilder> {
        let mut window = ContextBudget::new(self.total_tokens);
        if let Some(tokens) = self.reserved_for_response {
            window = window.with_reserved_for_response(tokens);
        }
        if let Some(tokens) = self.reserved_for_system {
            window = window.with_reserved_for_system(tokens);
        }
        let mut builder = BudgetLayer::builder(window).count_definitions(self.count_definitions);
        if let Some(model) = &self.model {
            builder = builder.model(model);
        }
        if let Some(fraction) = self.max_fraction {
            builder = builder.max_fraction(fraction);
        }
        for (tool, fraction) in &self.tools {
            builder = builder.max_fraction_of_tool(tool, *fraction);
        }
        for tool in &self.exempt {
            builder = builder.exempt_tool(tool);
        }
        if let Some(tokens) = self.min_to_call {
            builder = builder.min_to_call(tokens);
        }
        if let Some(secs) = self.idle_secs {
            builder = builder.idle_timeout(Duration::from_secs(secs));
        }
        if let Some(header) = self.conversation_header.clone() {
            builder = builder.conversation_by(move |request| in_header(request, &header));
        }
        self.stored(self.cut(builder))
    }

    /// Adds the settings of cuts and of the results that were cut.
    fn cut(&self, mut builder: BudgetLayerBuilder) -> BudgetLayerBuilder {
        if let Some(keep) = self.keep_results {
            builder = builder.keep_results(keep);
        }
        if let Some(mib) = self.kept_mib {
            let bytes = mib.saturating_mul(1024 * 1024);
            // One caller, and one result, may use all of it.
            builder = builder
                .max_kept_bytes(bytes)
                .max_kept_bytes_per_caller(bytes)
                .max_kept_item_bytes(bytes);
        }
        if let Some(secs) = self.kept_secs {
            builder = builder.kept_time_to_live(Duration::from_secs(secs));
        }
        if let Some(tokens) = self.page_tokens {
            builder = builder.page_tokens(tokens);
        }
        if let Some(kept) = self.kept_text {
            builder = builder.kept_text(match kept {
                Kept::Head => KeptText::Head,
                Kept::Tail => KeptText::Tail,
                Kept::Both => KeptText::Both,
            });
        }
        if let Some(misfit) = self.on_schema_misfit {
            builder = builder.on_schema_misfit(match misfit {
                Misfit::ToolError => OnSchemaMisfit::ToolError,
                Misfit::DropStructured => OnSchemaMisfit::DropStructured,
            });
        }
        builder
    }

    fn stored(&self, builder: BudgetLayerBuilder) -> Result<BudgetLayerBuilder> {
        let Some(url) = &self.redis else {
            return match self.redis_prefix {
                None => Ok(builder),
                Some(_) => Err("[budget]: `redis_prefix` is for a Redis: give `redis` too".into()),
            };
        };
        let mut store = RedisStore::builder(url);
        if let Some(prefix) = &self.redis_prefix {
            store = store.prefix(prefix);
        }
        let store = store.build();
        Ok(builder.store(store.map_err(|error| format!("[budget] redis: {error}"))?))
    }
}

/// Returns the value of a header of the request.
fn in_header(request: &McpRequest, name: &str) -> Option<String> {
    let head = request.context.extensions.get::<http::request::Parts>()?;
    let value = head.headers.get(name)?.to_str().ok()?;
    Some(value.to_owned())
}
