use std::{borrow::Cow, net::SocketAddr, sync::OnceLock};

use rmcp::model::{CallToolResult, ProtocolVersion};
use serde_json::Value;
use tracing::{
    Level, Span,
    field::{self, AsField, Field},
};

#[cfg(feature = "otel")]
use super::trace_context;
use super::{
    Side,
    convention::TARGET,
    labels::{EXECUTE_TOOL, End, TOOLS_CALL},
    origin::Origin,
};
use crate::{
    ArgumentRules, Audience, CallContext, McpRequest, McpResponse, Principal, arguments,
    caller::Era,
    context::{bounded_id, served_by::Endpoint},
    protocol::methods,
    util::text::{cut, hex, start_of},
};

/// The name of the spans' metadata.
const NAME: &str = "mcp.request";

/// Limit of a text that a caller chose, in bytes.
pub(super) const MAX_TEXT: usize = 256;

/// Limit of the name of a revision, in bytes.
const MAX_VERSION: usize = 32;

/// Settings of the spans.
#[derive(Clone, Debug, Default)]
pub(super) struct SpanSettings {
    pub(super) arguments: Option<ArgumentRules>,
    pub(super) results: Option<ArgumentRules>,
    pub(super) principal: PrincipalRecord,
    pub(super) join_outer: bool,
    pub(super) transport: Option<Cow<'static, str>>,
}

/// The form of the principal in spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrincipalRecord {
    /// It is left out.
    Omitted,
    /// The start of the SHA-256 hash of its issuer and subject, as `rmcp_layers.principal.hash`. It
    /// hides the principal only if its subject cannot be guessed.
    #[default]
    Hashed,
    /// Its subject, as `enduser.id`.
    Plain,
}

/// The span of one request.
#[derive(Debug)]
pub(super) struct CallSpan {
    span: Span,
    /// The span is the caller's own, which covers the call already.
    is_outer: bool,
}

/// Defines the fields that are recorded at the end of a request.
macro_rules! late_fields {
    ($($Field:ident $name:literal)*) => {
        #[derive(Clone, Copy, Debug)]
        enum Late {
            $($Field,)*
        }

        impl Late {
            const NAMES: &'static [&'static str] = &[$($name),*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$Field => $name,)*
                }
            }
        }
    };
}

late_fields! {
    Status "otel.status_code"
    ErrorType "error.type"
    Code "rpc.response.status_code"
    Outcome "rmcp_layers.outcome"
    Duration "rmcp_layers.duration_ms"
    Cache "rmcp_layers.cache.status"
    Attempts "rmcp_layers.attempts"
    Tokens "rmcp_layers.result.tokens"
    Upstream "rmcp_layers.upstream"
    PrincipalHash "rmcp_layers.principal.hash"
    Principal "enduser.id"
    Address "server.address"
    Port "server.port"
    Version "mcp.protocol.version"
    Session "mcp.session.id"
    Transport "network.transport"
    Protocol "network.protocol.name"
    Result "gen_ai.tool.call.result"
}

/// The facts of a finished request that its span records.
pub(super) struct SpanEnd<'a> {
    pub(super) end: End,
    pub(super) duration: std::time::Duration,
    pub(super) cache: Option<&'static str>,
    pub(super) attempts: u32,
    pub(super) tokens: Option<u64>,
    pub(super) upstream: Option<&'a str>,
    pub(super) endpoint: Option<&'a Endpoint>,
    /// The revision that the upstream speaks.
    pub(super) version: Option<&'a ProtocolVersion>,
    /// The session with the upstream.
    pub(super) session: Option<&'a str>,
    /// The principal that a layer further in has authenticated.
    pub(super) principal: Option<&'a Principal>,
    pub(super) response: Option<&'a McpResponse>,
}

impl CallSpan {
    pub(super) fn none() -> Self {
        Self {
            span: Span::none(),
            is_outer: false,
        }
    }

    /// Begins the span of a request, if its target is enabled. The name is bounded.
    pub(super) fn begin(
        settings: &SpanSettings,
        side: Side,
        request: &mut McpRequest,
        method: &'static str,
        name: Option<&str>,
    ) -> Self {
        if !tracing::span_enabled!(target: TARGET, Level::INFO) {
            return Self::none();
        }
        let may_join = settings.join_outer && request.as_tool_call().is_some();
        let outer = may_join.then(outer_span).flatten();
        let span = match outer {
            Some(span) => {
                let joined = Self {
                    span,
                    is_outer: true,
                };
                joined.record_start(request, name);
                joined
            }
            None => Self {
                span: new_span(settings, side, request, method, name),
                is_outer: false,
            },
        };
        #[cfg(feature = "otel")]
        span.put_context(side, request);
        span
    }

    pub(super) fn is_enabled(&self) -> bool {
        !self.span.is_disabled()
    }

    pub(super) fn get(&self) -> &Span {
        &self.span
    }

    /// Puts the trace context of the span into the `_meta` of the request, for the next hop, and of
    /// messages to the caller of this process.
    #[cfg(feature = "otel")]
    fn put_context(&self, side: Side, request: &mut McpRequest) {
        use rmcp::model::GetMeta;
        if side == Side::Server && request.context.notification.is_none() {
            let entries = trace_context::for_caller(&self.span);
            request.context.caller.add_to_meta(entries);
        }
        match &mut request.context.notification {
            Some(notification) => trace_context::put(&self.span, notification.get_meta_mut()),
            None => trace_context::put(&self.span, &mut request.context.meta),
        }
    }

    /// Adds the attributes of the convention to a span that covers the call already.
    fn record_start(&self, request: &McpRequest, name: Option<&str>) {
        self.add("mcp.method.name", Attribute::Text(request.method()));
        if let Some(name) = name {
            self.add("gen_ai.tool.name", Attribute::Text(name));
        }
        let id = request.context.id.to_string();
        self.add("jsonrpc.request.id", Attribute::Text(&id));
    }

    /// Records the end of the request.
    pub(super) fn end(&self, settings: &SpanSettings, facts: &SpanEnd<'_>) {
        if self.span.is_disabled() {
            return;
        }
        self.text(Late::Outcome, facts.end.outcome);
        if let Some(error) = facts.end.error_type() {
            self.text(Late::Status, "ERROR");
            self.text(Late::ErrorType, &error);
        }
        if let Some(code) = facts.end.code {
            self.text(Late::Code, &code.to_string());
        }
        let millis = facts.duration.as_secs_f64() * 1_000.0;
        self.record(Late::Duration, Attribute::Fraction(millis));
        if let Some(status) = facts.cache {
            self.text(Late::Cache, status);
        }
        if facts.attempts > 1 {
            self.number(Late::Attempts, facts.attempts.into());
        }
        if let Some(tokens) = facts.tokens {
            self.number(Late::Tokens, i64::try_from(tokens).unwrap_or(i64::MAX));
        }
        if let Some(upstream) = facts.upstream {
            self.text(Late::Upstream, upstream);
        }
        if let Some(endpoint) = facts.endpoint {
            self.endpoint(endpoint);
        }
        if let Some(version) = facts.version {
            self.text(Late::Version, start_of(version.as_str(), MAX_VERSION));
        }
        if let Some(session) = facts.session {
            self.text(Late::Session, &cut(session, MAX_TEXT));
        }
        if let Some(principal) = facts.principal {
            match settings.principal {
                PrincipalRecord::Omitted => {}
                PrincipalRecord::Hashed => self.text(Late::PrincipalHash, &hash(principal)),
                PrincipalRecord::Plain => {
                    self.text(Late::Principal, &cut(principal.subject(), MAX_TEXT));
                }
            }
        }
        if let Some(rules) = &settings.results
            && let Some(result) = facts.response.and_then(McpResponse::as_tool_result)
            && let Some(result) = kept_result(rules, result)
        {
            self.text(Late::Result, &result);
        }
    }

    fn endpoint(&self, endpoint: &Endpoint) {
        self.text(Late::Transport, endpoint.transport);
        if let Some(protocol) = endpoint.protocol {
            self.text(Late::Protocol, protocol);
        }
        if let Some(address) = &endpoint.address {
            self.text(Late::Address, address);
        }
        if let Some(port) = endpoint.port {
            self.number(Late::Port, port.into());
        }
    }

    fn text(&self, field: Late, value: &str) {
        self.record(field, Attribute::Text(value));
    }

    fn number(&self, field: Late, value: i64) {
        self.record(field, Attribute::Number(value));
    }

    fn record(&self, field: Late, value: Attribute<'_>) {
        if self.is_outer {
            return self.add(field.name(), value);
        }
        // The fields of all spans are the same, so that they are looked up once.
        static FIELDS: OnceLock<Vec<Field>> = OnceLock::new();
        let fields = FIELDS.get_or_init(|| {
            let known = Late::NAMES.iter().map(|name| self.span.field(*name));
            known.collect::<Option<_>>().unwrap_or_default()
        });
        if let Some(field) = fields.get(field as usize) {
            value.record(&self.span, field);
        }
    }

    /// Adds an attribute to the caller's span, which may lack a field of this name.
    fn add(&self, name: &'static str, value: Attribute<'_>) {
        value.record(&self.span, name);
        #[cfg(feature = "otel")]
        tracing_opentelemetry::OpenTelemetrySpanExt::set_attribute(&self.span, name, value);
    }
}

/// The value of an attribute.
#[derive(Clone, Copy)]
enum Attribute<'a> {
    Text(&'a str),
    Number(i64),
    Fraction(f64),
}

impl Attribute<'_> {
    fn record(self, span: &Span, field: &(impl AsField + ?Sized)) {
        match self {
            Self::Text(text) => span.record(field, text),
            Self::Number(number) => span.record(field, number),
            Self::Fraction(fraction) => span.record(field, fraction),
        };
    }
}

#[cfg(feature = "otel")]
impl From<Attribute<'_>> for opentelemetry::Value {
    fn from(attribute: Attribute<'_>) -> Self {
        match attribute {
            Attribute::Text(text) => text.to_owned().into(),
            Attribute::Number(number) => number.into(),
            Attribute::Fraction(fraction) => fraction.into(),
        }
    }
}

/// Returns the current span, if it covers the call by OpenTelemetry's conventions for generative
/// AI. The span of another layer of this kind covers another hop.
fn outer_span() -> Option<Span> {
    let current = Span::current();
    let is_of_gen_ai = current.has_field("gen_ai.operation.name");
    let metadata = current.metadata();
    let is_own = metadata.is_some_and(|it| it.target() == TARGET && it.name() == NAME);
    (is_of_gen_ai && !is_own).then_some(current)
}

/// The texts of a request's span.
struct Texts {
    name: String,
    version: Option<String>,
    session: Option<String>,
    id: Option<String>,
    http_version: Option<&'static str>,
    transport: Option<String>,
    client: Option<(String, i64)>,
    hash: Option<String>,
    arguments: Option<String>,
}

impl Texts {
    fn of(
        settings: &SpanSettings,
        side: Side,
        request: &McpRequest,
        method: &str,
        name: Option<&str>,
    ) -> Self {
        let context = &request.context;
        let head = match side {
            Side::Server => context.extensions.get::<http::request::Parts>(),
            Side::Client => None,
        };
        let peer = head.and_then(|head| head.extensions.get::<SocketAddr>());
        let given = methods::arguments(&request.message).flatten();
        let kept = settings.arguments.as_ref().zip(given);
        let transport = settings.transport.as_deref();
        Self {
            name: match name {
                Some(name) => [method, " ", name].concat(),
                None => method.to_owned(),
            },
            // On the side of a client, both would be those of another hop.
            version: match side {
                Side::Server => context.protocol_version(),
                Side::Client => None,
            }
            .map(|it| start_of(it.as_str(), MAX_VERSION).to_owned()),
            session: match side {
                Side::Server => session_id(context, head),
                Side::Client => None,
            },
            id: request
                .as_notification()
                .is_none()
                .then(|| bounded_id(&context.id, MAX_TEXT).to_string()),
            http_version: head.and_then(|head| http_version(head.version)),
            transport: head.map(|_| "tcp").or(transport).map(str::to_owned),
            client: peer.map(|peer| (peer.ip().to_string(), i64::from(peer.port()))),
            hash: given
                .filter(|given| !arguments::are_large(given))
                .and_then(arguments::hash),
            arguments: kept.map(|(rules, given)| rules.keep(given).to_string()),
        }
    }
}

fn session_id(context: &CallContext, head: Option<&http::request::Parts>) -> Option<String> {
    let of_http = head.and_then(|head| head.headers.get("mcp-session-id"));
    if let Some(id) = of_http.and_then(|id| id.to_str().ok()) {
        return Some(cut(id, MAX_TEXT));
    }
    let legacy = context.era() == Era::Legacy;
    let number = context.caller.session_id().filter(|_| legacy)?;
    Some(number.to_string())
}

fn http_version(version: http::Version) -> Option<&'static str> {
    Some(match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_11 => "1.1",
        http::Version::HTTP_2 => "2",
        http::Version::HTTP_3 => "3",
        _ => return None,
    })
}

fn new_span(
    settings: &SpanSettings,
    side: Side,
    request: &McpRequest,
    method: &'static str,
    name: Option<&str>,
) -> Span {
    let texts = Texts::of(settings, side, request, method, name);
    let is_tool_call = method == TOOLS_CALL;
    let origin = Origin::of(side, request);
    let span = tracing::info_span!(
        target: TARGET,
        parent: origin.parent(),
        NAME,
        "otel.name" = texts.name.as_str(),
        "otel.kind" = side.as_str(),
        "otel.status_code" = field::Empty,
        "mcp.method.name" = method,
        "mcp.protocol.version" = texts.version.as_deref(),
        "mcp.session.id" = texts.session.as_deref(),
        "mcp.resource.uri" = resource(request).as_deref(),
        "gen_ai.tool.name" = name.filter(|_| is_tool_call),
        "gen_ai.prompt.name" = name.filter(|_| !is_tool_call),
        "gen_ai.operation.name" = is_tool_call.then_some(EXECUTE_TOOL),
        "gen_ai.tool.call.arguments" = texts.arguments.as_deref(),
        "gen_ai.tool.call.result" = field::Empty,
        "jsonrpc.request.id" = texts.id.as_deref(),
        "error.type" = field::Empty,
        "rpc.response.status_code" = field::Empty,
        "network.transport" = texts.transport.as_deref(),
        "network.protocol.name" = texts.http_version.map(|_| "http"),
        "network.protocol.version" = texts.http_version,
        "server.address" = field::Empty,
        "server.port" = field::Empty,
        "client.address" = texts.client.as_ref().map(|client| client.0.as_str()),
        "client.port" = texts.client.as_ref().map(|client| client.1),
        "enduser.id" = field::Empty,
        "rmcp_layers.arguments.hash" = texts.hash.as_deref(),
        "rmcp_layers.principal.hash" = field::Empty,
        "rmcp_layers.outcome" = field::Empty,
        "rmcp_layers.duration_ms" = field::Empty,
        "rmcp_layers.cache.status" = field::Empty,
        "rmcp_layers.attempts" = field::Empty,
        "rmcp_layers.result.tokens" = field::Empty,
        "rmcp_layers.upstream" = field::Empty,
    );
    origin.apply(&span);
    span
}

fn resource(request: &McpRequest) -> Option<String> {
    use crate::protocol::target::TargetKind;
    let target = methods::target(&request.message)?;
    (target.kind == TargetKind::Resource).then(|| cut(target.name, 1_024))
}

/// Returns the start of a hash of a principal's identity.
fn hash(principal: &Principal) -> String {
    use sha2::{Digest, Sha256};
    let bytes = Audience::principal(principal).to_bytes();
    let digest = Sha256::digest(bytes);
    hex(digest.get(..8).unwrap_or_default())
}

/// Returns the part of a result that is kept.
fn kept_result(rules: &ArgumentRules, result: &CallToolResult) -> Option<String> {
    let Ok(Value::Object(result)) = serde_json::to_value(result) else {
        return None;
    };
    Some(rules.keep(&result).to_string())
}
