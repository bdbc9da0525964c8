use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};

use super::{BUCKETS, convention::names};

/// Sets the bounds and the names of OpenTelemetry's convention on a Prometheus exporter.
///
/// Requires the feature `prometheus`. Without it, the exporter renders the durations as summaries.
/// The names in Prometheus have underscores for dots and end with the unit, such as
/// `mcp_server_operation_duration_seconds`.
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
/// use rmcp_layers::metrics::configure_prometheus;
///
/// let recorder = configure_prometheus(PrometheusBuilder::new())?.build_recorder();
/// let scrape = recorder.handle();
/// metrics::set_global_recorder(recorder)?;
/// // `scrape.render()` is the text of a scrape. Call `scrape.run_upkeep()` every few seconds.
/// # let _ = scrape;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// Returns the builder's error. The bounds are valid, so there is none today.
pub fn configure_prometheus(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    let durations = [
        names::SERVER_DURATION,
        names::CLIENT_DURATION,
        names::SERVER_SESSION_DURATION,
        names::CLIENT_SESSION_DURATION,
    ];
    let builder = builder.with_recommended_naming(true);
    durations.into_iter().try_fold(builder, |builder, name| {
        builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), &BUCKETS)
    })
}
