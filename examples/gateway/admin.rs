//! The `[admin]` section of `gateway.toml`: an address of its own for operators, with metrics for
//! Prometheus, a page that shows the state of the gateway, and checks for orchestrators.
//!
//! ```toml
//! [admin]
//! listen = "127.0.0.1:9464"
//! expose = false             # `true` lets it listen beyond loopback, where anyone can read it
//! allowed_hosts = []         # names that requests may give as `Host`, beside `localhost` and addresses
//! ```
//!
//! | Path | Answer |
//! |---|---|
//! | `/metrics` | metrics in the text format of Prometheus |
//! | `/status` | a page for people, which renews itself every second |
//! | `/status.json` | the same numbers |
//! | `/healthz` | 200 as long as the process serves |
//! | `/readyz` | 200 if a server can be reached and the gateway is not about to end, else 503 |

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rmcp_layers::{
    budget::BudgetHandle,
    cache::CacheHandle,
    gateway::{GatewayHandle, MemberState},
    metrics::{MetricsHandle, MetricsLayer, Side, configure_prometheus},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{Result, config::Upstreams, connections, status::Server};

/// The page for people.
const PAGE: &str = include_str!("status.html");

/// Limit of connections to the admin address.
const MAX_CONNECTIONS: usize = 64;

/// The time after which recorded samples are put into their histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// The `[admin]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    #[serde(default = "default_listen")]
    listen: String,
    #[serde(default)]
    expose: bool,
    #[serde(default)]
    allowed_hosts: Vec<String>,
}

fn default_listen() -> String {
    "127.0.0.1:9464".to_owned()
}

/// The layers that record the requests of callers, and those to the servers.
#[derive(Clone)]
pub struct Recorders {
    pub callers: MetricsLayer,
    pub servers: MetricsLayer,
}

impl Recorders {
    pub fn new() -> Result<Self> {
        let windows = [60, 300].map(Duration::from_secs);
        let builder = MetricsLayer::builder().windows(windows);
        Ok(Self {
            callers: builder.clone().build()?,
            servers: builder.side(Side::Client).build()?,
        })
    }
}

/// The handles of all that the page shows.
#[derive(Clone)]
pub struct Shown {
    pub gateway: Option<GatewayHandle>,
    pub cache: Option<CacheHandle>,
    pub budget: Option<BudgetHandle>,
    pub upstreams: Upstreams,
    pub callers: MetricsHandle,
    pub servers: MetricsHandle,
    /// Cancelled when the gateway is told to stop.
    pub stopping: CancellationToken,
}

/// The admin address, before it serves.
pub struct Admin {
    listener: TcpListener,
    hosts: Vec<String>,
    scrape: PrometheusHandle,
}

struct Shared {
    shown: Shown,
    hosts: Vec<String>,
    scrape: PrometheusHandle,
}

impl AdminConfig {
    /// Takes the address, and installs the recorder of metrics. It must come before the first
    /// request.
    pub async fn open(&self) -> Result<Admin> {
        let listener = TcpListener::bind(&self.listen).await.map_err(|error| {
            let listen = &self.listen;
            format!(
                "[admin]: cannot listen at {listen}: {error}: give a free ADDRESS:PORT by `listen`"
            )
        })?;
        let address: SocketAddr = listener.local_addr()?;
        if !address.ip().is_loopback() && !self.expose {
            return Err(format!(
                "[admin]: {address} is reachable from other machines, and shows names of tools and servers: \
                 say `expose = true` if that is meant"
            )
            .into());
        }
        let recorder = configure_prometheus(PrometheusBuilder::new())?.build_recorder();
        let scrape = recorder.handle();
        metrics::set_global_recorder(recorder)?;
        eprintln!("gateway: status at http://{address}/status");
        Ok(Admin {
            listener,
            hosts: self.allowed_hosts.clone(),
            scrape,
        })
    }
}

impl Admin {
    /// Serves until `stop`.
    pub async fn serve(self, shown: Shown, stop: CancellationToken) {
        let scrape = self.scrape.clone();
        let upkeep = async {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                scrape.run_upkeep();
            }
        };
        let shared = Arc::new(Shared {
            shown,
            hosts: self.hosts,
            scrape: self.scrape.clone(),
        });
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/status", get(page))
            .route("/status.json", get(status))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .layer(axum::middleware::from_fn_with_state(
                shared.clone(),
                check_host,
            ))
            .with_state(shared);
        let served = connections::serve(self.listener, router, MAX_CONNECTIONS, stop);
        tokio::select! {
            () = served => {}
            () = upkeep => {}
        }
    }
}

/// Protects against pages of other sites whose names lead here (DNS rebinding): their requests give
/// that name as `Host`. An address is no such name. Probes of orchestrators give one.
async fn check_host(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    // An IPv6 address has colons of its own.
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    let is_allowed = |allowed: &str| allowed.eq_ignore_ascii_case(name);
    let mut names = shared.hosts.iter().map(String::as_str).chain(["localhost"]);
    if !is_address && !names.any(is_allowed) {
        let message = "this `Host` is not allowed; name it in [admin] allowed_hosts\n";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let format = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, format)], shared.scrape.render()).into_response()
}

async fn page() -> Response {
    let mut headers = HeaderMap::new();
    let mut set = |name, value| headers.insert(name, header::HeaderValue::from_static(value));
    set(header::CONTENT_TYPE, "text/html; charset=utf-8");
    set(header::CACHE_CONTROL, "no-store");
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
         connect-src 'self'; img-src data:; frame-ancestors 'none'; base-uri 'none'",
    );
    (headers, PAGE).into_response()
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    let shown = &shared.shown;
    let breakers = shown.upstreams.breakers();
    let breakers: Vec<Value> = breakers
        .iter()
        .flat_map(|(server, breaker)| {
            let states = breaker.statuses().into_iter();
            states.map(move |it| {
                json!({
                    "server": server,
                    "key": it.key,
                    "state": it.state.as_str(),
                    "retry_after_s": it.retry_after.map(|after| after.as_secs_f64()),
                })
            })
        })
        .collect();
    let cache = shown.cache.as_ref().map(|cache| {
        let stats = cache.stats();
        json!({
            "hits": stats.hits + stats.stale_hits + stats.shared,
            "misses": stats.misses,
            "entries": stats.entries,
            "bytes": stats.bytes,
        })
    });
    let budget = shown.budget.as_ref().map(|budget| {
        let stats = budget.stats();
        json!({
            "charged_tokens": stats.charged_tokens,
            "saved_tokens": stats.saved_tokens,
            "cuts": stats.cuts,
            "refused": stats.refused,
            "conversations": stats.conversations,
            "kept_results": stats.kept_results,
        })
    });
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stopping": shown.stopping.is_cancelled(),
        "members": members(shown),
        "breakers": breakers,
        "cache": cache,
        "budget": budget,
        "callers": shown.callers.summary(),
        "servers": shown.servers.summary(),
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body.to_string()).into_response()
}

fn members(shown: &Shown) -> Vec<Server> {
    let members = shown.gateway.as_ref().map(GatewayHandle::members);
    members.map_or_else(
        || vec![Server::demo()],
        |members| members.into_iter().map(Server::from).collect(),
    )
}

async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    let shown = &shared.shown;
    if shown.stopping.is_cancelled() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "the gateway is about to end\n",
        )
            .into_response();
    }
    let members = shown.gateway.as_ref().map(GatewayHandle::members);
    let is_up = |state: &MemberState| !matches!(state, MemberState::Failed { .. });
    let can_serve = members.is_none_or(|members| members.iter().any(|member| is_up(&member.state)));
    match can_serve {
        true => "ready\n".into_response(),
        false => {
            let message = "no server can be reached; /status has the reasons\n";
            (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
        }
    }
}
