//! The settings of one server, in a section `[servers.NAME]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use rmcp_layers::{ChildProcess, HttpEndpoint, Lifecycle, Upstream};
use serde::Deserialize;

use crate::{Result, config::at_least_one};

/// One server: a command or a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    #[serde(default)]
    inherit_env: Vec<String>,
    #[serde(default)]
    inherit_all_env: bool,
    pub cwd: Option<PathBuf>,
    pub url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    lifecycle: Option<LifecycleName>,
    request_timeout_secs: Option<u64>,
    connect_timeout_secs: Option<u64>,
    reconnect_max_secs: Option<u64>,
    pub prefix: Option<String>,
    pub per: Option<Per>,
    pub retry: Option<bool>,
    #[serde(default)]
    pub trust_annotations: bool,
}

/// The callers that share a connection to a server.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    Session,
    Principal,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LifecycleName {
    Auto,
    MatchCaller,
    Initialize,
    Discover,
}

impl Server {
    /// Returns the server's upstream. It never receives the variables in `secrets`.
    pub fn upstream(&self, name: &str, secrets: &[&str]) -> Result<Upstream> {
        let mut builder = Upstream::builder().name(name);
        if let Some(lifecycle) = self.lifecycle {
            builder = builder.lifecycle(match lifecycle {
                LifecycleName::Auto => Lifecycle::Auto,
                LifecycleName::MatchCaller => Lifecycle::MatchCaller,
                LifecycleName::Initialize => Lifecycle::Initialize,
                LifecycleName::Discover => Lifecycle::Discover,
            });
        }
        if let Some(seconds) = self.request_timeout_secs {
            at_least_one("request_timeout_secs", seconds)?;
            builder = builder.request_timeout(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.connect_timeout_secs {
            at_least_one("connect_timeout_secs", seconds)?;
            builder = builder.connect_timeout(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.reconnect_max_secs {
            at_least_one("reconnect_max_secs", seconds)?;
            let most = Duration::from_secs(seconds);
            builder = builder.reconnect_backoff(most.min(Duration::from_millis(500)), most);
        }
        match (&self.command, &self.url) {
            (Some(command), None) if self.headers.is_empty() => {
                let child = self.child_process(command, secrets)?;
                Ok(builder.child_process(child))
            }
            (None, Some(url))
                if self.args.is_empty()
                    && self.env.is_empty()
                    && self.inherit_env.is_empty()
                    && !self.inherit_all_env
                    && self.cwd.is_none() =>
            {
                check_tls("url", url)?;
                let mut endpoint = HttpEndpoint::new(url);
                for (header, value) in &self.headers {
                    endpoint = endpoint.header(header, value);
                }
                builder
                    .http(endpoint)
                    .map_err(|error| format!("`url` or `headers`: {error}").into())
            }
            _ => Err(
                "give either `command` (with `args`, `env`, `inherit_env`, `inherit_all_env`, `cwd`) \
                 or `url` (with `headers`)"
                    .into(),
            ),
        }
    }

    fn child_process(&self, command: &str, secrets: &[&str]) -> Result<ChildProcess> {
        let inherited = self.inherit_env.iter();
        if let Some(secret) = inherited
            .map(String::as_str)
            .find(|name| secrets.contains(name))
        {
            return Err(format!(
                "`inherit_env` names {secret}, which holds a secret of the gateway's own ([auth]): \
                 leave it out, or give the server a value of its own in `env`"
            )
            .into());
        }
        if command.is_empty() {
            return Err("`command` is empty: name a program".into());
        }
        // The operating system would cut the name at the sign, or fail at each start.
        if let Some(variable) = self.env.iter().find(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        }) {
            return Err(format!(
                "`env` cannot set {:?}: a name is not empty and has no `=`, and neither it nor its \
                 value has a NUL",
                variable.0
            )
            .into());
        }
        let mut child = ChildProcess::new(command)
            .args(&self.args)
            .inherit_env(&self.inherit_env)
            .withhold_env(secrets);
        if self.inherit_all_env {
            child = child.inherit_all_env();
        }
        for (variable, value) in &self.env {
            child = child.env(variable, value);
        }
        if let Some(cwd) = &self.cwd {
            child = child.current_dir(cwd);
        }
        Ok(child)
    }
}

/// Returns an error at the start that otherwise every request would have.
pub fn check_tls(key: &str, url: &str) -> Result<()> {
    let has_tls = cfg!(any(feature = "rustls", feature = "native-tls"));
    let wants_tls = url
        .get(..6)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    match wants_tls && !has_tls {
        true => Err(format!(
            "`{key}` is an https:// URL, and this gateway is built without TLS: build it with \
             `--features rustls` or `--features native-tls`"
        )
        .into()),
        false => Ok(()),
    }
}
