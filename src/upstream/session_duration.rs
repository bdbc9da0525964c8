use std::sync::Arc;

use ::metrics::{Label, Unit, describe_histogram};
use rmcp::model::ProtocolVersion;
use tokio::time::Instant;

use super::connection::Connection;
use crate::{caller::Era, context::served_by::Endpoint, util::metrics::CLIENT_SESSION_DURATION};

/// A session with a server of a revision before 2026-07-28, whose duration goes to the recorder of
/// the `metrics` facade. Later revisions have no sessions.
pub(super) struct MeasuredSession {
    since: Instant,
    labels: Vec<Label>,
}

impl MeasuredSession {
    /// Begins to measure the session of a connection, if it has one that the upstream serves.
    pub(super) fn begin(
        connection: &Connection,
        upstream: &Arc<str>,
        endpoint: Option<&Endpoint>,
    ) -> Option<Self> {
        if connection.era != Era::Legacy || connection.is_foreign() {
            return None;
        }
        // A server may name any revision.
        let version = &connection.info.protocol_version;
        let known = ProtocolVersion::KNOWN_VERSIONS.contains(version);
        let version = if known { version.as_str() } else { "_OTHER" };
        let mut labels = vec![
            Label::new("mcp.protocol.version", version.to_owned()),
            Label::new("rmcp_layers.upstream", upstream.clone()),
        ];
        if let Some(endpoint) = endpoint {
            labels.push(Label::new("network.transport", endpoint.transport));
            let protocol = endpoint.protocol;
            labels.extend(protocol.map(|it| Label::new("network.protocol.name", it)));
            let address = endpoint.address.clone();
            labels.extend(address.map(|it| Label::new("server.address", it)));
            let port = endpoint.port;
            labels.extend(port.map(|it| Label::new("server.port", it.to_string())));
        }
        Some(Self {
            since: Instant::now(),
            labels,
        })
    }

    /// Records the duration of a session that has ended.
    pub(super) fn end(self) {
        let description = "The duration of an MCP session with a server.";
        describe_histogram!(CLIENT_SESSION_DURATION, Unit::Seconds, description);
        let duration = self.since.elapsed().as_secs_f64();
        ::metrics::histogram!(CLIENT_SESSION_DURATION, self.labels).record(duration);
    }
}
