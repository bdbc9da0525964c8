/// A histogram of the durations of sessions with servers, in seconds. An upstream records it.
#[cfg(feature = "metrics")]
pub(crate) const CLIENT_SESSION_DURATION: &str = "mcp.client.session.duration";

/// Counts an event, for `tracing` subscribers that turn events into metrics, and with the feature
/// `metrics` for the recorder of the `metrics` facade.
///
/// `count!(cache.hits, 1, method)` is an event at the level TRACE with the field
/// `monotonic_counter.rmcp_layers.cache.hits`, the form that `tracing-opentelemetry` reads, and the
/// counter `rmcp_layers.cache.hits` of the facade. Labels must have few values: a method, an outcome
/// or a state, but not a name that a peer chooses.
macro_rules! count {
    ($($name:ident).+, $times:expr $(, $label:ident = $value:expr)* $(,)?) => {{
        #[cfg(feature = "metrics")]
        ::metrics::counter!(
            concat!("rmcp_layers", $(".", stringify!($name)),+)
            $(, stringify!($label) => $value)*
        )
        .increment($times);
        tracing::event!(
            tracing::Level::TRACE,
            monotonic_counter.rmcp_layers.$($name).+ = $times,
            $($label = $value,)*
        );
    }};
}
pub(crate) use count;
