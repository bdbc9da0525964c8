use tracing::Span;

use super::Side;
#[cfg(feature = "otel")]
use super::trace_context;
use crate::McpRequest;

/// The origin of a request: the span, or the trace context of another process, that caused it.
pub(super) struct Origin {
    current: Span,
    /// The current span is the parent.
    is_parent: bool,
    #[cfg(feature = "otel")]
    remote: Option<opentelemetry::Context>,
    /// The trace context of the HTTP request, beside that of the message.
    #[cfg(feature = "otel")]
    linked: Option<opentelemetry::Context>,
}

impl Origin {
    #[cfg(not(feature = "otel"))]
    pub(super) fn of(_: Side, _: &McpRequest) -> Self {
        let current = Span::current();
        Self {
            is_parent: !is_of_session(&current),
            current,
        }
    }

    /// Finds the origin. rmcp serves all requests of a session in one span, which is never the
    /// parent: it would keep the spans from being exported until the session ends.
    #[cfg(feature = "otel")]
    pub(super) fn of(side: Side, request: &McpRequest) -> Self {
        use rmcp::model::GetMeta;
        let current = Span::current();
        let is_usable = !current.is_disabled() && !is_of_session(&current);
        let of_message = match request.as_notification() {
            Some(notification) => trace_context::of_meta(notification.get_meta()),
            None => trace_context::of_meta(&request.context.meta),
        };
        let head = request.context.extensions.get::<http::request::Parts>();
        let of_http = match side {
            Side::Server => head.and_then(|head| trace_context::of_headers(&head.headers)),
            Side::Client => None,
        };
        let is_parent = is_usable && (side == Side::Client || of_message.is_none());
        let has_remote = of_message.is_some() || of_http.is_some();
        // A span that a filter keeps from OpenTelemetry carries no trace on.
        let carries_trace = is_parent && (!has_remote || trace_context::is_known(&current));
        let (remote, linked) = match (carries_trace, of_message) {
            (true, _) => (None, of_http),
            (false, Some(context)) => (Some(context), of_http),
            (false, None) => (of_http, None),
        };
        Self {
            current,
            is_parent,
            remote,
            linked,
        }
    }

    /// Returns the parent, if it is a span of this process.
    pub(super) fn parent(&self) -> Option<tracing::Id> {
        self.current.id().filter(|_| self.is_parent)
    }

    #[cfg(not(feature = "otel"))]
    pub(super) fn apply(self, _span: &Span) {}

    /// Sets the parent and the links from other processes.
    #[cfg(feature = "otel")]
    pub(super) fn apply(self, span: &Span) {
        use opentelemetry::trace::TraceContextExt;
        use tracing_opentelemetry::OpenTelemetrySpanExt;
        let is_remote = self.remote.is_some();
        if let Some(remote) = self.remote {
            // It fails only without an OpenTelemetry layer: the span has just been made.
            let _ = span.set_parent(remote);
        }
        if let Some(linked) = self.linked {
            span.add_link(linked.span().span_context().clone());
        }
        if is_remote && !self.is_parent {
            span.follows_from(self.current.id());
        }
    }
}

/// Returns `true` for the span in which rmcp serves a whole session.
fn is_of_session(span: &Span) -> bool {
    let metadata = span.metadata();
    metadata.is_some_and(|it| it.name() == "serve_inner" && it.target().starts_with("rmcp"))
}
