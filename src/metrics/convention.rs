//! The names of OpenTelemetry's semantic conventions for MCP, and of the crate's own metrics.

use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// The target of the spans and of the log events of calls.
pub(super) const TARGET: &str = "rmcp_layers::metrics";

/// A label value that stands for all others.
pub(super) const OTHER: &str = "_OTHER";

/// The bounds of the duration histograms, in seconds, by OpenTelemetry's semantic conventions for
/// MCP.
///
/// The `metrics` facade has no bounds, so the application sets them on its exporter. For a
/// Prometheus exporter, `configure_prometheus` of the feature `prometheus` does so.
pub const BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0,
];

/// The names of the metrics that a [`MetricsLayer`](super::MetricsLayer) records.
pub mod names {
    /// A histogram of the durations of requests that a server answers, in seconds.
    pub const SERVER_DURATION: &str = "mcp.server.operation.duration";
    /// A histogram of the durations of requests that a client makes, in seconds.
    pub const CLIENT_DURATION: &str = "mcp.client.operation.duration";
    /// A histogram of the durations of callers' sessions of revisions before 2026-07-28, in seconds.
    pub const SERVER_SESSION_DURATION: &str = "mcp.server.session.duration";
    /// A histogram of the durations of sessions with servers of revisions before 2026-07-28, in
    /// seconds. Each [`Upstream`](crate::Upstream) records it, with and without a layer.
    pub const CLIENT_SESSION_DURATION: &str = crate::util::metrics::CLIENT_SESSION_DURATION;
    /// A counter of the tokens that a budget further in has charged for results.
    pub const RESULT_TOKENS: &str = "rmcp_layers.result.tokens";
    /// A gauge of the requests in flight, without listens.
    pub const IN_FLIGHT: &str = "rmcp_layers.requests.in_flight";
    /// A counter of the requests that a layer refused, by the layer's name and the side. Layers of
    /// both sides count a refusal from further in.
    pub const REFUSALS: &str = "rmcp_layers.refusals";
}

/// The end of the stack that the layer measures for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Side {
    /// Requests that callers send to this process.
    #[default]
    Server,
    /// Requests that this process sends to a server.
    Client,
}

impl Side {
    /// Returns the name of the side, which is also the kind of its spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    pub(super) fn duration(self) -> &'static str {
        match self {
            Self::Server => names::SERVER_DURATION,
            Self::Client => names::CLIENT_DURATION,
        }
    }
}

/// Describes the metrics to the recorder.
pub(super) fn describe() {
    let operation = "The duration of an MCP request, until its result or error.";
    describe_histogram!(names::SERVER_DURATION, Unit::Seconds, operation);
    describe_histogram!(names::CLIENT_DURATION, Unit::Seconds, operation);
    describe_histogram!(
        names::SERVER_SESSION_DURATION,
        Unit::Seconds,
        "The duration of an MCP session."
    );
    describe_counter!(
        names::RESULT_TOKENS,
        Unit::Count,
        "The tokens that a budget has charged for results."
    );
    describe_gauge!(
        names::IN_FLIGHT,
        Unit::Count,
        "The MCP requests in flight, without listens."
    );
    describe_counter!(
        names::REFUSALS,
        Unit::Count,
        "The MCP requests that a layer refused."
    );
}
