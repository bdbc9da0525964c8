//! The `[progress]` section of `gateway.toml`: how often callers hear of progress, and how long
//! calls may be silent.
//!
//! ```toml
//! [progress]
//! max_per_second = 10        # notifications of one call; the latest waits for its time
//! idle_timeout_secs = 60     # a call that says nothing for so long fails
//! timeout_secs = 600         # and one that takes longer, whatever it says
//! heartbeat_secs = 30        # tells callers that a silent call still runs
//! ```

use std::time::Duration;

use rmcp_layers::progress::ProgressLayer;
use serde::Deserialize;

use crate::{
    Result,
    config::{at_least_one, in_the_files_words},
};

/// The `[progress]` section. A missing setting has the layer's default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProgressConfig {
    max_per_second: Option<u32>,
    idle_timeout_secs: Option<u64>,
    timeout_secs: Option<u64>,
    heartbeat_secs: Option<u64>,
}

impl ProgressConfig {
    /// Returns the layer of the section.
    pub fn layer(&self) -> Result<ProgressLayer> {
        for (key, value) in [
            ("[progress] idle_timeout_secs", self.idle_timeout_secs),
            ("[progress] timeout_secs", self.timeout_secs),
            ("[progress] heartbeat_secs", self.heartbeat_secs),
        ] {
            at_least_one(key, value.unwrap_or(1))?;
        }
        let seconds = |setting: Option<u64>| setting.map(Duration::from_secs);
        let mut layer = ProgressLayer::builder()
            .idle_timeout(seconds(self.idle_timeout_secs))
            .timeout(seconds(self.timeout_secs))
            .heartbeat(seconds(self.heartbeat_secs));
        if let Some(rate) = self.max_per_second {
            layer = layer.max_per_second(rate);
        }
        let built = layer.build();
        Ok(built.map_err(|error| in_the_files_words("progress", error, &[]))?)
    }
}
