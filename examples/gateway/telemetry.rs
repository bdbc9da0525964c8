//! The log on standard error, and spans over OTLP where the environment names a collector.

use std::env;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::Result;

/// The variables by which OpenTelemetry's SDKs find a collector.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// Sends the spans that are still to be sent when it is dropped.
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Returns `true` if spans are sent to a collector.
    pub fn has_collector(&self) -> bool {
        self.0.is_some()
    }
}

/// Starts the log, and the sender of spans if there is a collector.
pub fn start() -> Result<Telemetry> {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,rmcp=error,rmcp_layers=warn".into());
    let log = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_filter(filter);
    let has_collector = ENDPOINTS
        .iter()
        .any(|name| env::var_os(name).is_some_and(|value| !value.is_empty()));
    let provider = has_collector.then(provider).transpose()?;
    let spans = provider.as_ref().map(|provider| {
        // The spans of the gateway's layers, and none of the libraries'.
        let only = EnvFilter::new("off,rmcp_layers::metrics=info");
        let tracer = provider.tracer("rmcp-layers");
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_filter(only)
    });
    tracing_subscriber::registry().with(log).with(spans).init();
    Ok(Telemetry(provider))
}

fn provider() -> Result<SdkTracerProvider> {
    // The blocking client runs on the thread of the batch processor.
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .build()?;
    let name = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "gateway".to_owned());
    let resource = Resource::builder().with_service_name(name).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = self.0.take()
            && let Err(error) = provider.shutdown()
        {
            eprintln!("gateway: the last spans could not be sent: {error}");
        }
    }
}
