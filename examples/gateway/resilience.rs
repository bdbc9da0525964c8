//! Retries and circuit breakers: the `[retry]` and `[breaker]` sections of `gateway.toml`.
//!
//! ```toml
//! [retry]                               # repeats calls that failed, where that does no harm
//! max_retries = 3
//! base_delay_ms = 1000
//! max_delay_ms = 30000
//! budget_per_sec = 10                   # retries there may be in a second, besides one for five successes
//! safe_tools = ["read_*", "search"]     # may run twice, by the server's own names
//! unsafe_tools = ["read_and_clear"]     # must not, whatever they say of themselves
//! rate_limits = true                    # safe tools whose result speaks of a rate limit
//!
//! [breaker]                             # stops calling what is down
//! failures = 5                          # in a row
//! open_secs = 60
//! per = "tool"                          # or "server"
//!
//! [servers.search]
//! url = "http://127.0.0.1:9000/mcp"
//! trust_annotations = true              # its `readOnlyHint` and `idempotentHint` are believed
//! retry = false                         # nothing of this server is repeated
//! ```

use std::time::Duration;

use rmcp_layers::retry::{
    RetryBudget, RetryLayer, RetryPolicy,
    breaker::{CircuitBreakerLayer, CircuitBreakerPolicy},
};
use serde::Deserialize;

use crate::{Result, config::in_the_files_words};

/// The `[retry]` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryConfig {
    max_retries: Option<u32>,
    base_delay_ms: Option<u64>,
    max_delay_ms: Option<u64>,
    budget_per_sec: Option<u32>,
    #[serde(default)]
    safe_tools: Vec<String>,
    #[serde(default)]
    unsafe_tools: Vec<String>,
    #[serde(default)]
    rate_limits: bool,
}

impl RetryConfig {
    /// Returns the layer over one server.
    pub fn layer(&self, trust_annotations: bool) -> Result<RetryLayer> {
        let mut policy = RetryPolicy::new();
        if let Some(retries) = self.max_retries {
            policy = policy.max_retries(retries);
        }
        if let Some(delay) = self.base_delay_ms {
            policy = policy.base_delay(Duration::from_millis(delay));
        }
        if let Some(delay) = self.max_delay_ms {
            policy = policy.max_delay(Duration::from_millis(delay));
        }
        if self.rate_limits {
            policy = policy.retry_rate_limits();
        }
        let mut layer = RetryLayer::builder().trust_annotations(trust_annotations);
        for names in &self.unsafe_tools {
            layer = layer.tool(names, policy.clone().safe_to_repeat(false));
        }
        for names in &self.safe_tools {
            layer = layer.tool(names, policy.clone().safe_to_repeat(true));
        }
        if let Some(retries) = self.budget_per_sec {
            layer = layer.budget(RetryBudget::new().min_per_second(retries));
        }
        let layer = layer.policy(policy).build();
        let names = [
            (
                "for retries without delays, use Strategy::Immediate",
                "give at least 1",
            ),
            ("base_delay", "base_delay_ms"),
            ("max_delay", "max_delay_ms"),
            ("`budget`: min_per_second", "`budget_per_sec`: it"),
        ];
        layer.map_err(|error| in_the_files_words("retry", error, &names).into())
    }
}

/// The `[breaker]` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerConfig {
    failures: Option<u32>,
    open_secs: Option<u64>,
    #[serde(default)]
    per: Per,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Per {
    #[default]
    Tool,
    Server,
}

impl BreakerConfig {
    /// Returns the layer over the server of this name.
    pub fn layer(&self, server: &str) -> Result<CircuitBreakerLayer> {
        let mut policy = CircuitBreakerPolicy::new();
        if let Some(failures) = self.failures {
            policy = policy.consecutive_failures(failures);
        }
        if let Some(seconds) = self.open_secs {
            policy = policy.open_for(Duration::from_secs(seconds));
        }
        let mut layer = CircuitBreakerLayer::builder().policy(policy);
        if let Per::Server = self.per {
            layer = layer.one_key(server);
        }
        let layer = layer.build();
        let names = [
            ("consecutive_failures", "failures"),
            ("open_for", "open_secs"),
        ];
        layer.map_err(|error| in_the_files_words("breaker", error, &names).into())
    }
}
