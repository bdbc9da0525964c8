//! A gateway: MCP servers behind a stack of layers, served over streamable HTTP or standard input
//! and output.
//!
//! ```sh
//! cargo run --example gateway                          # embedded demo server, over HTTP on loopback
//! cargo run --example gateway -- --demo                # the same, and a short session against it
//! cargo run --example gateway -- --config gateway.toml # servers of your own behind it
//! cargo run --example gateway -- --stdio               # over standard input and output
//! ```

mod admin;
mod auth;
mod budget;
mod cache;
mod config;
mod connections;
mod demo;
mod progress;
mod reach;
mod resilience;
mod serve;
mod server;
mod session;
mod status;
mod telemetry;
mod transport;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use futures::future::join_all;
use rmcp_layers::{
    CallerLimitLayer, Error, ExceptListensLayer, Handler, McpRequest, McpResponse, Upstream,
    audit::AuditLayer, auth::AuthLayer, budget::BudgetLayer, cache::CacheLayer,
    metrics::MetricsLayer, progress::ProgressLayer, registry::RegistryLayer,
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, util::BoxCloneService};

use crate::{
    admin::{Admin, Recorders, Shown},
    auth::Auth,
    config::{Config, Upstreams},
    demo::Demo,
    serve::{Doors, Told},
    telemetry::Telemetry,
};

/// The result of a step of the program.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The stack that is served, with any bottom.
type Stack = BoxCloneService<McpRequest, McpResponse, Error>;

/// The time for dropping the remaining tasks.
const LAST: Duration = Duration::from_millis(100);

const USAGE: &str = "\
Usage: gateway [--config FILE] [--listen ADDRESS] [--stdio] [--demo]

  --config FILE      put the servers of this gateway.toml behind the gateway,
                     instead of the embedded demo server
  --listen ADDRESS   serve streamable HTTP at this address (default 127.0.0.1:8931;
                     port 0 takes a free one)
  --stdio            serve over standard input and output instead
  --demo             drive a short session against the gateway, print what happened, and end";

#[derive(Default)]
struct Options {
    config: Option<PathBuf>,
    listen: Option<String>,
    stdio: bool,
    demo: bool,
    help: bool,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .ok_or_else(|| format!("{arg} wants a value\n\n{USAGE}"))
        };
        match arg.as_str() {
            "--config" => options.config = Some(value()?.into()),
            "--listen" => options.listen = Some(value()?),
            "--stdio" => options.stdio = true,
            "--demo" => options.demo = true,
            "--help" | "-h" => options.help = true,
            other => return Err(format!("unknown argument {other}\n\n{USAGE}").into()),
        }
    }
    if options.stdio && (options.demo || options.listen.is_some()) {
        return Err("--stdio goes with neither --demo nor --listen".into());
    }
    Ok(options)
}

fn main() -> ExitCode {
    let outcome = telemetry::start().and_then(|telemetry| {
        let runtime = tokio::runtime::Runtime::new()?;
        let outcome = runtime.block_on(run(&telemetry));
        // A read of standard input cannot be cancelled, so the exit does not wait for it. All
        // other tasks are dropped, which also kills child processes.
        runtime.shutdown_timeout(LAST);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(telemetry: &Telemetry) -> Result<()> {
    let options = options(std::env::args().skip(1))?;
    if options.help {
        println!("{USAGE}");
        return Ok(());
    }
    let config = match &options.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let told = serve::told_to_stop()?;
    tokio::select! {
        outcome = serve(options, config, &told, telemetry) => outcome,
        () = told.twice.cancelled() => Err("told to stop twice, so it ends at once".into()),
    }
}

async fn serve(options: Options, config: Config, told: &Told, telemetry: &Telemetry) -> Result<()> {
    // It installs the recorder, and so comes before all that records.
    let admin = match &config.admin {
        Some(admin) => Some(admin.open().await?),
        None => None,
    };
    let recorders = (admin.is_some() || telemetry.has_collector())
        .then(Recorders::new)
        .transpose()?;
    let of_servers = recorders.as_ref().map(|recorders| &recorders.servers);
    let (bottom, handle, upstreams) = match config.gateway(of_servers)? {
        Some((gateway, upstreams)) => {
            let handle = gateway.handle();
            (BoxCloneService::new(gateway), Some(handle), upstreams)
        }
        None => {
            let demo = BoxCloneService::new(Handler::new(Demo));
            (demo, None, Upstreams::default())
        }
    };
    let auth = config.auth.as_ref().map(|auth| auth.build()).transpose()?;
    if auth.is_some() && options.demo {
        return Err("--demo has no token, and the gateway has [auth]".into());
    }
    let cache = config.cache()?;
    let budget = config.budget()?;
    let closing = CancellationToken::new();
    let admin = admin.zip(recorders.clone()).map(|(admin, recorders)| {
        let shown = Shown {
            gateway: handle.clone(),
            cache: cache.as_ref().map(CacheLayer::handle),
            budget: budget.as_ref().map(BudgetLayer::handle),
            upstreams: upstreams.clone(),
            callers: recorders.callers.handle(),
            servers: recorders.servers.handle(),
            stopping: told.once.clone(),
        };
        tokio::spawn(Admin::serve(admin, shown, closing.clone()))
    });
    let layers = Layers {
        metrics: recorders.map(|recorders| recorders.callers),
        progress: config.progress()?,
        audit: auth.as_ref().and_then(Auth::audit_layer),
        auth: auth
            .as_ref()
            .map(|auth| auth.layer(options.stdio))
            .transpose()?,
        budget,
        status: config
            .status_tool
            .then(|| status::layer(handle))
            .transpose()?,
        cache,
        limits: config.limits()?,
    };
    let stack = stack(layers, bottom);
    // Connections are closed at the end, not after the last session.
    let open = stack.clone();
    let config = Arc::new(config);
    let looking = config.clone();
    // It runs in the background, because a connection may take a while.
    tokio::spawn(async move {
        for line in looking.look().await {
            eprintln!("gateway: {line}");
        }
    });

    let outcome = if options.stdio {
        serve::stdio(stack, told).await
    } else {
        let demo = options.demo.then_some(session::drive);
        let listen = match (options.listen, options.demo) {
            (Some(address), _) => address,
            (None, true) => "127.0.0.1:0".to_owned(),
            (None, false) => config.listen.clone(),
        };
        let doors = Doors {
            hosts: &config.allowed_hosts,
            origins: config.allowed_origins.as_deref(),
            auth: auth.as_ref(),
            max_connections: config.max_connections()?,
        };
        serve::http(&listen, doors, stack, told, demo).await
    };
    // From here on, one more signal stops the gateway immediately.
    told.once.cancel();
    let upstreams = upstreams.all();
    drop(open);
    join_all(upstreams.iter().map(Upstream::close)).await;
    if let Some(auth) = auth {
        auth.close().await;
    }
    // Until now, it shows that the gateway is about to end.
    closing.cancel();
    if let Some(admin) = admin {
        let _ = tokio::time::timeout(LAST, admin).await;
    }
    outcome
}

/// The configured layers.
struct Layers {
    metrics: Option<MetricsLayer>,
    progress: Option<ProgressLayer>,
    audit: Option<AuditLayer>,
    auth: Option<AuthLayer>,
    budget: Option<BudgetLayer>,
    status: Option<RegistryLayer>,
    cache: Option<CacheLayer>,
    limits: Limits,
}

/// Limits on requests in flight. Listens are not counted, because they are open as long as their
/// sessions.
struct Limits {
    all: usize,
    per_caller: usize,
}

/// Builds the layers in the recommended order, outermost first, over the configured servers or the
/// demo server. Other orders are safe too, but this one does the least work.
///
/// - `metrics` is outermost, so that it records every call, refused ones included.
/// - The common limit includes every call. A call above the limit is refused at once.
/// - The limit on one caller's calls is well below the common limit, so that no caller uses it up.
///   It is inside of `auth`, which identifies the caller.
/// - `audit` is outside of `auth`, so that refused calls are on record too.
/// - `auth` is outside of every other layer that answers or acts, so that nothing is done for an
///   unauthenticated caller. Its rules also guard the gateway's own tool, and inner layers know the
///   principal.
/// - `progress` is outside of all that makes calls, so that a call and its repetitions have one
///   timeout.
/// - `budget` is outside of all layers whose results a model reads, so that it pays for each of them
///   once. It is inside of `auth`, because budgets and kept results are a principal's.
/// - `registry` is outside of the cache, so that its tool returns the servers' current state.
/// - `cache` is over the gateway: a cached answer is neither routed nor sent. It uses outward
///   names.
/// - `retry` and its breaker are below the gateway, over each server (`config.rs`). A failing
///   server therefore does not stop calls to other servers, and trust is set for each. Retry is the
///   outer one, so that the breaker counts every attempt.
fn stack(layers: Layers, bottom: Stack) -> Stack {
    let limits = layers.limits;
    let common = ServiceBuilder::new()
        .load_shed()
        .concurrency_limit(limits.all);
    let stack = ServiceBuilder::new()
        .option_layer(layers.metrics)
        .layer(ExceptListensLayer::new(common))
        .option_layer(layers.audit)
        .option_layer(layers.auth)
        .layer(ExceptListensLayer::new(CallerLimitLayer::new(
            limits.per_caller,
        )))
        .option_layer(layers.progress)
        .option_layer(layers.budget)
        .option_layer(layers.status)
        .option_layer(layers.cache)
        .service(bottom);
    BoxCloneService::new(stack)
}
