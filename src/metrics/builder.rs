use std::{
    borrow::Cow,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    MetricsLayer, PrincipalRecord, Side, finished::Recent, known_names::KnownNames,
    series::AllSeries, sessions::Sessions, shared::Shared, span::SpanSettings,
};
use crate::{ArgumentRules, ConfigError};

/// Limit of windows of the summary.
const MAX_WINDOWS: usize = 4;
/// Limit of `max_series`.
const MOST_SERIES: usize = 100_000;
/// The least of `max_series`: one label set beside those of all others.
const FEWEST_SERIES: usize = 3;
/// Limit of `keep_failures`.
const MOST_FAILURES: usize = 100_000;

/// Builds a [`MetricsLayer`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to make the layer"]
pub struct MetricsLayerBuilder {
    side: Side,
    spans: SpanSettings,
    known_tools: Vec<Arc<str>>,
    max_series: usize,
    windows: Vec<Duration>,
    failures: usize,
    logs_calls: bool,
}

impl Default for MetricsLayerBuilder {
    fn default() -> Self {
        Self {
            side: Side::Server,
            spans: SpanSettings::default(),
            known_tools: Vec::new(),
            max_series: 1_000,
            windows: vec![Duration::from_secs(5 * 60)],
            failures: 100,
            logs_calls: false,
        }
    }
}

impl MetricsLayerBuilder {
    /// Sets the side that is measured: the requests that callers send to this process, or those
    /// that it sends to a server. Default: [`Side::Server`].
    pub fn side(mut self, side: Side) -> Self {
        self.side = side;
        self
    }

    /// Adds tools whose names are labels before a list has shown them.
    pub fn known_tools(mut self, names: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        self.known_tools.extend(names.into_iter().map(Into::into));
        self
    }

    /// Sets the number of combinations of labels. Default: 1,000. Limit: 100,000. Requests with
    /// further combinations are recorded with the method `_OTHER` and no other label.
    pub fn max_series(mut self, max: usize) -> Self {
        self.max_series = max;
        self
    }

    /// Sets the windows of the [summary](super::Summary), beside all time. Default: 5 minutes.
    /// Limit: 4.
    pub fn windows(mut self, lengths: impl IntoIterator<Item = Duration>) -> Self {
        self.windows = lengths.into_iter().collect();
        self
    }

    /// Sets the number of latest failures that are kept. Default: 100. Limit: 100,000.
    pub fn keep_failures(mut self, count: usize) -> Self {
        self.failures = count;
        self
    }

    /// Sets whether the end of each request is a log event, at the level INFO with the target
    /// `rmcp_layers::metrics`. Default: no.
    ///
    /// With `tracing_subscriber::fmt().json()`, each event is a line of JSON.
    pub fn log_calls(mut self, yes: bool) -> Self {
        self.logs_calls = yes;
        self
    }

    /// Puts arguments into spans, as `gen_ai.tool.call.arguments`, as far as the rules keep them.
    /// Default: their hash only.
    pub fn keep_arguments(mut self, rules: ArgumentRules) -> Self {
        self.spans.arguments = Some(rules);
        self
    }

    /// Puts results of tools into spans, as `gen_ai.tool.call.result`, as far as the rules keep
    /// them. Default: none.
    pub fn keep_results(mut self, rules: ArgumentRules) -> Self {
        self.spans.results = Some(rules);
        self
    }

    /// Sets the form of the principal in spans. Default: [`PrincipalRecord::Hashed`].
    pub fn principal(mut self, record: PrincipalRecord) -> Self {
        self.spans.principal = record;
        self
    }

    /// Sets whether the attributes of a call of a tool are added to the current span instead of a
    /// second one, where the current span has a field `gen_ai.operation.name`. Default: no. Spans of
    /// this layer are not joined.
    ///
    /// With the feature `otel`, all attributes are added. Without it, those are whose fields the
    /// span has.
    pub fn join_outer_span(mut self, yes: bool) -> Self {
        self.spans.join_outer = yes;
        self
    }

    /// Sets `network.transport` of requests that do not come over HTTP, such as `pipe` or `unix`.
    /// Default: none.
    pub fn transport(mut self, transport: impl Into<Cow<'static, str>>) -> Self {
        self.spans.transport = Some(transport.into());
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is beyond its limit.
    pub fn build(self) -> Result<MetricsLayer, ConfigError> {
        let refuse = |option, reason: String| Err(ConfigError::new("metrics", option, reason));
        if !(FEWEST_SERIES..=MOST_SERIES).contains(&self.max_series) {
            let reason = format!(
                "{} is not between {FEWEST_SERIES} and {MOST_SERIES}",
                self.max_series
            );
            return refuse("max_series", reason);
        }
        if self.failures > MOST_FAILURES {
            let reason = format!("{} is more than {MOST_FAILURES}", self.failures);
            return refuse("keep_failures", reason);
        }
        if self.windows.len() > MAX_WINDOWS {
            let reason = format!("{} are more than {MAX_WINDOWS}", self.windows.len());
            return refuse("windows", reason);
        }
        if self.windows.iter().any(Duration::is_zero) {
            return refuse(
                "windows",
                "a window of no length has no requests".to_owned(),
            );
        }
        for (option, rules) in [
            ("keep_arguments", &self.spans.arguments),
            ("keep_results", &self.spans.results),
        ] {
            if let Some(reason) = rules.as_ref().and_then(ArgumentRules::invalid) {
                return refuse(option, reason);
            }
        }
        Ok(self.made())
    }

    pub(super) fn made(self) -> MetricsLayer {
        MetricsLayer {
            shared: Arc::new(Shared {
                side: self.side,
                spans: self.spans,
                names: KnownNames::new(self.known_tools),
                series: AllSeries::new(self.side, self.max_series, self.windows),
                recent: Recent::new(self.failures),
                sessions: Sessions::new(self.side),
                logs_calls: self.logs_calls,
                since: Instant::now(),
                in_flight: AtomicU64::new(0),
                gauge: OnceLock::new(),
                calls: AtomicU64::new(0),
                failed: AtomicU64::new(0),
                folded: AtomicU64::new(0),
            }),
        }
    }
}
