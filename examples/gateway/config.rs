//! The settings in `gateway.toml`.
//!
//! ```toml
//! listen = "127.0.0.1:8931"
//! allowed_hosts = ["gateway.example"]    # what clients may name as `Host`; by default this machine only
//! allowed_origins = ["https://app.example"]  # web pages that may use it; by default those of this machine and hosts
//! max_connections = 500                 # over HTTP; by default half of the files it may open
//! status_tool = false                   # no tool `gateway__status`
//! max_in_flight = 1024                  # requests at once; what is above is refused with -31503
//! max_in_flight_per_caller = 128        # of which this many are one principal's or session's
//!
//! [servers.files]                       # a child process
//! command = "npx"
//! args = ["-y", "@modelcontextprotocol/server-filesystem", "/srv"]
//! env = { NODE_ENV = "production" }
//! inherit_env = ["NODE_PATH"]           # or inherit_all_env = true; by default HOME, PATH and a few more
//! cwd = "/srv"
//! connect_timeout_secs = 120            # how long it may take to start (30)
//!
//! [servers.search]                      # over streamable HTTP
//! url = "http://127.0.0.1:9000/mcp"
//! headers = { x-team = "search" }
//! lifecycle = "match-caller"            # or auto, initialize, discover
//! prefix = "find"                       # `find__query` instead of `search__query`
//! per = "session"                       # a connection for each session; or "principal"
//!
//! [cache]                               # answers from memory; see cache.rs
//! tools = { "search__*" = 60 }
//!
//! [budget]                              # results cut to a context window; see budget.rs
//! total_tokens = 128000
//! ```
//!
//! `[auth]` sets who may use the gateway; see `auth.rs`. With it and without servers, it guards the
//! demo server.
//!
//! With several servers, tools have the server's name in front. With one server, they have their
//! own names. `prefix = ""` keeps their own names in both cases.
//!
//! `[retry]` and `[breaker]` are in `resilience.rs`, `[progress]` is in `progress.rs`, and `[admin]`
//! in `admin.rs`.

use std::{
    collections::BTreeMap,
    fmt::Display,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::future::{join, join_all};
use rmcp_layers::{
    Refusal, Upstream, WeakUpstream,
    budget::BudgetLayer,
    cache::CacheLayer,
    gateway::{Gateway, Member, PerCaller, Prefix},
    metrics::MetricsLayer,
    progress::ProgressLayer,
    retry::{
        RetryLayer,
        breaker::{CircuitBreakerHandle, CircuitBreakerLayer},
    },
};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneService};

use crate::{
    Limits, Result, Stack,
    admin::AdminConfig,
    auth::AuthConfig,
    budget::BudgetConfig,
    cache::Cache,
    connections,
    progress::ProgressConfig,
    reach,
    resilience::{BreakerConfig, RetryConfig},
    server::{Per, Server},
};

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default = "default_listen")]
    pub listen: String,
    /// Protects against DNS rebinding: requests to other hosts are answered with 403.
    #[serde(default)]
    pub allowed_hosts: Vec<String>,
    /// Protects against other web pages: requests with another `Origin` are answered with 403.
    pub allowed_origins: Option<Vec<String>>,
    /// The maximum number of open HTTP connections. Further ones wait.
    max_connections: Option<u64>,
    /// Adds the gateway's own tool that returns the state of the servers.
    #[serde(default = "yes")]
    pub status_tool: bool,
    /// Limits on requests in flight: of all callers, and of one caller. Requests above them are
    /// refused.
    #[serde(default = "default_max_in_flight")]
    max_in_flight: usize,
    max_in_flight_per_caller: Option<usize>,
    /// Authentication. Default: none, every caller may use the gateway.
    pub auth: Option<AuthConfig>,
    /// The response cache, if the section is present.
    cache: Option<Cache>,
    /// The context budget, if the section is present.
    budget: Option<BudgetConfig>,
    retry: Option<RetryConfig>,
    breaker: Option<BreakerConfig>,
    /// Bounds of progress and silence. Default: none.
    progress: Option<ProgressConfig>,
    /// The address for operators. Default: none.
    pub admin: Option<AdminConfig>,
    #[serde(default)]
    servers: BTreeMap<String, Server>,
}

/// A server with its layers.
struct ServerStack {
    upstream: Upstream,
    layered: Stack,
}

/// All upstreams that were created, to be closed at the end, with their breakers and the layer that
/// records their requests.
#[derive(Clone, Default)]
pub struct Upstreams {
    all: Arc<Mutex<Vec<WeakUpstream>>>,
    breakers: Arc<Mutex<Vec<(String, CircuitBreakerHandle)>>>,
    metrics: Option<MetricsLayer>,
}

/// Limit of breakers that are shown: one for each server, and for each caller of a server that has
/// its own connections.
const MAX_BREAKERS: usize = 100;

impl Upstreams {
    fn add(&self, upstream: &Upstream) {
        let mut upstreams = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.retain(|upstream| upstream.upgrade().is_some());
        upstreams.push(upstream.downgrade());
    }

    fn add_breaker(&self, server: &str, breaker: CircuitBreakerHandle) {
        let mut breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        if breakers.len() < MAX_BREAKERS {
            breakers.push((server.to_owned(), breaker));
        }
    }

    /// Returns the breakers, by the names of their servers.
    pub fn breakers(&self) -> Vec<(String, CircuitBreakerHandle)> {
        let breakers = self.breakers.lock().unwrap_or_else(PoisonError::into_inner);
        breakers.clone()
    }

    /// Returns the upstreams that still exist.
    pub fn all(&self) -> Vec<Upstream> {
        let upstreams = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.iter().filter_map(WeakUpstream::upgrade).collect()
    }
}

fn default_listen() -> String {
    "127.0.0.1:8931".to_owned()
}

fn default_max_in_flight() -> usize {
    1_024
}

/// Where `max_in_flight` is not less.
const DEFAULT_MAX_IN_FLIGHT_PER_CALLER: usize = 128;

fn yes() -> bool {
    true
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: default_listen(),
            allowed_hosts: Vec::new(),
            allowed_origins: None,
            max_connections: None,
            status_tool: yes(),
            max_in_flight: default_max_in_flight(),
            max_in_flight_per_caller: None,
            auth: None,
            cache: None,
            budget: None,
            retry: None,
            breaker: None,
            progress: None,
            admin: None,
            servers: BTreeMap::new(),
        }
    }
}

impl Config {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let config: Self =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if config.servers.is_empty() && config.auth.is_none() {
            return Err(format!("{} names no server: add [servers.NAME]", path.display()).into());
        }
        Ok(config)
    }

    /// Returns the configured servers as one gateway, and each upstream, to be closed at the end.
    /// Returns `None` without configured servers.
    pub fn gateway(&self, metrics: Option<&MetricsLayer>) -> Result<Option<(Gateway, Upstreams)>> {
        if self.servers.is_empty() {
            return Ok(None);
        }
        let mut gateway = Gateway::builder();
        let upstreams = Upstreams {
            metrics: metrics.cloned(),
            ..Upstreams::default()
        };
        for (name, server) in &self.servers {
            let default = if self.servers.len() == 1 { "" } else { name };
            let member = match server.prefix.as_deref().unwrap_or(default) {
                "" => self
                    .member(name, server, name, &upstreams)?
                    .prefix(Prefix::Never),
                prefix => self.member(name, server, prefix, &upstreams)?,
            };
            gateway = gateway.add_member(member.trust_annotations(server.trust_annotations));
        }
        let built = gateway.build().map_err(|error| {
            let reason = error.reason();
            format!("[servers]: {reason}: rename the server, or give it another `prefix`")
        });
        Ok(Some((built?, upstreams)))
    }

    /// Returns the limits on requests in flight.
    pub fn limits(&self) -> Result<Limits> {
        let all = self.max_in_flight;
        let per_caller = self
            .max_in_flight_per_caller
            .unwrap_or_else(|| all.min(DEFAULT_MAX_IN_FLIGHT_PER_CALLER));
        if all == 0 || self.max_in_flight_per_caller == Some(0) {
            return Err("`max_in_flight` and `max_in_flight_per_caller` must be at least 1".into());
        }
        if per_caller > all {
            return Err(format!(
                "`max_in_flight_per_caller` is {per_caller}, more than `max_in_flight`, {all}: lower the \
                 one or raise the other"
            )
            .into());
        }
        // More than a semaphore counts is no limit.
        Ok(Limits {
            all: all.min(Semaphore::MAX_PERMITS),
            per_caller: per_caller.min(Semaphore::MAX_PERMITS),
        })
    }

    /// Returns the maximum number of open HTTP connections.
    pub fn max_connections(&self) -> Result<usize> {
        let Some(max) = self.max_connections else {
            return Ok(connections::default_max());
        };
        at_least_one("max_connections", max)?;
        // More than a semaphore can count means no limit.
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Ok(max.min(Semaphore::MAX_PERMITS))
    }

    /// Returns the problems that the start-up checks find, one line each.
    pub async fn look(&self) -> Vec<String> {
        let servers = self.servers.iter().map(async |(name, server)| {
            let found = match (&server.command, &server.url) {
                (Some(command), _) => {
                    let path = server.env.get("PATH").map(String::as_str);
                    reach::command(command, server.cwd.as_deref(), path)
                }
                (None, Some(url)) => reach::url("url", url).await,
                (None, None) => Ok(()),
            };
            found.map_err(|why| format!("[servers.{name}]: {why}"))
        });
        let redis = self.cache.as_ref().and_then(Cache::redis);
        let budgets = self.budget.as_ref().and_then(BudgetConfig::redis);
        let jwks = self.auth.as_ref().and_then(AuthConfig::jwks_url);
        let others = [
            ("cache", "redis", redis),
            ("budget", "redis", budgets),
            ("auth", "jwks_url", jwks),
        ]
        .map(async |(section, key, url)| {
            let Some(url) = url else { return Ok(()) };
            let found = reach::url(key, url).await;
            found.map_err(|why| format!("[{section}]: {why}"))
        });
        let (servers, others) = join(join_all(servers), join_all(others)).await;
        let all = servers.into_iter().chain(others);
        all.filter_map(Result::err).collect()
    }

    /// Returns the server `name` as a member with the name `called`.
    fn member(
        &self,
        name: &str,
        server: &Server,
        called: &str,
        upstreams: &Upstreams,
    ) -> Result<Member> {
        // Invalid settings are reported now, even if each caller's stack is made later.
        let first = self.stack(name, server, upstreams)?;
        let by = match server.per {
            None => {
                upstreams.add(&first.upstream);
                return Ok(Member::new(called, first.layered));
            }
            Some(Per::Session) => PerCaller::LegacySession,
            Some(Per::Principal) if self.auth.is_none() => {
                let message =
                    "`per = \"principal\"` needs an [auth] section: else callers have no principal";
                return Err(format!("[servers.{name}]: {message}").into());
            }
            Some(Per::Principal) => PerCaller::Principal,
        };
        let (config, server) = (self.clone(), server.clone());
        let (name, upstreams) = (name.to_owned(), upstreams.clone());
        Ok(Member::per_caller(called, by, move |_context| {
            let stack = config.stack(&name, &server, &upstreams);
            let stack = stack.map_err(|error| Refusal::new("gateway", error.to_string()))?;
            upstreams.add(&stack.upstream);
            Ok(stack.layered)
        }))
    }

    fn stack(&self, name: &str, server: &Server, upstreams: &Upstreams) -> Result<ServerStack> {
        let upstream = server
            .upstream(name, &self.secret_variables())
            .map_err(|error| format!("[servers.{name}]: {error}"))?;
        let breaker = self.breaker(name)?;
        if let Some(breaker) = &breaker {
            upstreams.add_breaker(name, breaker.handle());
        }
        // Retry is outside, so that the breaker counts every attempt, and a call that the breaker
        // refuses is retried.
        let layered = ServiceBuilder::new()
            .option_layer(self.retry(server)?)
            .option_layer(breaker)
            .option_layer(upstreams.metrics.clone())
            .service(upstream.clone());
        let layered = BoxCloneService::new(layered.map_err(Into::into));
        Ok(ServerStack { upstream, layered })
    }

    /// Returns the cache over all servers.
    pub fn cache(&self) -> Result<Option<CacheLayer>> {
        let mut servers = self.servers.iter();
        let distrusted = servers.find(|(_, server)| !server.trust_annotations);
        let distrusted = distrusted.map(|(name, _)| name.as_str());
        let layer = self.cache.as_ref().map(|cache| cache.layer(distrusted));
        layer.transpose()
    }

    /// Returns the layer that bounds progress and silence.
    pub fn progress(&self) -> Result<Option<ProgressLayer>> {
        let layer = self.progress.as_ref().map(ProgressConfig::layer);
        layer.transpose()
    }

    /// Returns the context budget over all servers.
    pub fn budget(&self) -> Result<Option<BudgetLayer>> {
        self.budget.as_ref().map(BudgetConfig::layer).transpose()
    }

    /// Returns the environment variables that no server receives.
    fn secret_variables(&self) -> Vec<&str> {
        let auth = self.auth.iter();
        auth.flat_map(AuthConfig::secret_variables).collect()
    }

    fn retry(&self, server: &Server) -> Result<Option<RetryLayer>> {
        let retry = self.retry.as_ref().filter(|_| server.retry != Some(false));
        let layer = retry.map(|retry| retry.layer(server.trust_annotations));
        layer.transpose()
    }

    fn breaker(&self, name: &str) -> Result<Option<CircuitBreakerLayer>> {
        let layer = self.breaker.as_ref().map(|breaker| breaker.layer(name));
        layer.transpose()
    }
}

/// Refuses zero as the value of a key.
pub fn at_least_one(key: &str, value: u64) -> Result<()> {
    match value {
        0 => Err(format!("`{key}` is 0: give at least 1, or leave it out for the default").into()),
        _ => Ok(()),
    }
}

/// Returns a layer's configuration error with the option names of the file. `names` has pairs of
/// the layer's name and the file's.
pub fn in_the_files_words(section: &str, error: impl Display, names: &[(&str, &str)]) -> String {
    let said = names
        .iter()
        .fold(error.to_string(), |said, (layers, files)| {
            said.replace(layers, files)
        });
    let said = said.strip_prefix("refused by ").unwrap_or(&said);
    let layer = format!("{section}: ");
    format!("[{section}]: {}", said.strip_prefix(&layer).unwrap_or(said))
}
