//! W3C trace contexts in `_meta` and in HTTP headers.

use std::sync::LazyLock;

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapCompositePropagator, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use rmcp::model::MetaObject;
use serde_json::Value;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The layer's own propagator: the global one does nothing unless the application sets it.
static PROPAGATOR: LazyLock<TextMapCompositePropagator> = LazyLock::new(|| {
    TextMapCompositePropagator::new(vec![
        Box::new(TraceContextPropagator::new()),
        Box::new(BaggagePropagator::new()),
    ])
});

struct Meta<'a>(&'a MetaObject);

impl Extractor for Meta<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

struct MetaMut<'a>(&'a mut MetaObject);

impl Injector for MetaMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if !value.is_empty() {
            self.0.insert(key.to_owned(), Value::String(value));
        }
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// Returns the trace context in `_meta`, if there is a valid one.
pub(super) fn of_meta(meta: &MetaObject) -> Option<Context> {
    meta.get_traceparent()?;
    valid(&Meta(meta))
}

/// Returns the trace context in the headers of an HTTP request, if there is a valid one.
pub(super) fn of_headers(headers: &http::HeaderMap) -> Option<Context> {
    headers.get("traceparent")?;
    valid(&Headers(headers))
}

fn valid(from: &dyn Extractor) -> Option<Context> {
    let context = PROPAGATOR.extract_with_context(&Context::new(), from);
    context.span().span_context().is_valid().then_some(context)
}

/// Returns `true` if an OpenTelemetry layer knows the span.
pub(super) fn is_known(span: &Span) -> bool {
    span.context().span().span_context().is_valid()
}

/// Returns the trace context of a span as entries of `_meta`, for messages to the caller. The
/// baggage is left out: it came from the caller.
pub(super) fn for_caller(span: &Span) -> MetaObject {
    let mut meta = MetaObject::default();
    put(span, &mut meta);
    meta.shift_remove("baggage");
    meta
}

/// Puts the trace context of a span into `_meta`, if an OpenTelemetry layer knows the span.
pub(super) fn put(span: &Span, meta: &mut MetaObject) {
    let context = span.context();
    if !context.span().span_context().is_valid() {
        return;
    }
    meta.shift_remove("tracestate");
    PROPAGATOR.inject_context(&context, &mut MetaMut(meta));
}
