//! Authentication and authorization: the `[auth]` section of `gateway.toml`.
//!
//! ```toml
//! [auth]
//! issuer = "https://issuer.example"
//! audience = "https://gateway.example/mcp"
//! jwks_url = "https://issuer.example/jwks.json"   # or jwks_file, or secret_env
//! resource = "https://gateway.example/mcp"        # how clients reach it; by default where it listens
//! reveal_forbidden = true                         # 403 with the missing scopes, rather than "unknown"
//! audit_file = "/var/log/mcp/audit.jsonl"
//! token_env = "MCP_TOKEN"                         # over stdio, where the session's token is
//!
//! [[auth.rules]]                                  # the first rule that matches holds
//! tool = "files__read_*"                          # or prompt, resource, method
//! all_of = ["files:read"]                         # or any_of
//! ```
//!
//! A request that no rule matches needs the scope in `unmatched`. Default: `admin`.

use std::{path::PathBuf, time::Duration};

use rmcp_layers::audit::{AuditFile, AuditLayer, AuditLog, SinkOptions, WhenFull};
use rmcp_layers::auth::{
    AuthLayer, Jwks, JwtVerifier, Rules, RulesBuilder, Scopes,
    http::{HttpAuthLayer, ProtectedResource},
};
use serde::Deserialize;

use crate::{Result, config::in_the_files_words, server::check_tls};

/// The time limit for writing the audit record at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// The `[auth]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    issuer: String,
    audience: String,
    /// The environment variable with the secret of HS256, HS384 and HS512.
    secret_env: Option<String>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    /// The environment variable with the token of a session over stdio.
    token_env: Option<String>,
    resource: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    reveal_forbidden: bool,
    unmatched: Option<String>,
    audit_file: Option<PathBuf>,
    audit_when_full: Option<Full>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Full {
    Block,
    Drop,
    Refuse,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    tool: Option<String>,
    prompt: Option<String>,
    resource: Option<String>,
    method: Option<String>,
    all_of: Option<Vec<String>>,
    any_of: Option<Vec<String>>,
}

/// The guards of the gateway.
pub struct Auth {
    verifier: JwtVerifier,
    rules: Rules,
    audit: Option<AuditLog>,
    issuer: String,
    resource: Option<String>,
    scopes: Vec<String>,
    token_env: Option<String>,
}

impl AuthConfig {
    /// The environment variables that hold secrets of the gateway's own.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        let variables = [&self.secret_env, &self.token_env];
        variables.into_iter().flatten().map(String::as_str)
    }

    /// Returns the URL of the issuer's keys, if it is set.
    pub fn jwks_url(&self) -> Option<&str> {
        self.jwks_url.as_deref()
    }

    pub fn build(&self) -> Result<Auth> {
        Ok(Auth {
            verifier: self.verifier()?,
            rules: self.rules()?,
            audit: self.audit()?,
            issuer: self.issuer.clone(),
            resource: self.resource.clone(),
            scopes: self.scopes.clone(),
            token_env: self.token_env.clone(),
        })
    }

    fn verifier(&self) -> Result<JwtVerifier> {
        let tokens = JwtVerifier::builder()
            .issuer(&self.issuer)
            .audience(&self.audience);
        let tokens = match (&self.secret_env, &self.jwks_file, &self.jwks_url) {
            (Some(variable), None, None) => {
                let secret = std::env::var(variable).map_err(|_| {
                    format!("[auth]: the environment variable {variable} is not set")
                })?;
                tokens.secret(secret)
            }
            (None, Some(path), None) => {
                // The file is read when it is needed. A missing file is reported at the start as a
                // probable typo.
                std::fs::File::open(path).map_err(|error| {
                    format!(
                        "[auth]: cannot read `jwks_file` {}: {error}",
                        path.display()
                    )
                })?;
                tokens.jwks(Jwks::file(path))
            }
            (None, None, Some(url)) => {
                check_tls("jwks_url", url).map_err(|error| format!("[auth]: {error}"))?;
                let jwks = Jwks::url(url);
                tokens.jwks(jwks.map_err(|error| {
                    in_the_files_words("auth", error, &[("`url`: the URL", "`jwks_url`:")])
                })?)
            }
            _ => return Err("[auth]: give one of `secret_env`, `jwks_file` and `jwks_url`".into()),
        };
        let tokens = tokens.build();
        Ok(tokens.map_err(|error| {
            in_the_files_words(
                "auth",
                error,
                &[("`secret`: the secret", "the secret of `secret_env`")],
            )
        })?)
    }

    fn rules(&self) -> Result<Rules> {
        let mut rules = Rules::builder().reveal_forbidden(self.reveal_forbidden);
        if let Some(scope) = &self.unmatched {
            rules = rules.unmatched(scope.as_str());
        }
        for rule in &self.rules {
            rules = rule.add_to(rules)?;
        }
        Ok(rules.build()?)
    }

    fn audit(&self) -> Result<Option<AuditLog>> {
        let Some(path) = &self.audit_file else {
            return match self.audit_when_full {
                Some(_) => Err("[auth]: `audit_when_full` wants an `audit_file`".into()),
                None => Ok(None),
            };
        };
        let when_full = match self.audit_when_full {
            Some(Full::Block) => WhenFull::Block,
            Some(Full::Drop) => WhenFull::Drop,
            Some(Full::Refuse) | None => WhenFull::Refuse,
        };
        let options = SinkOptions::new().when_full(when_full);
        let file = AuditFile::new(path).options(options);
        let audit = AuditLog::builder().file(file).build();
        let audit = audit.map_err(|error| format!("[auth]: `audit_file`: {error}"))?;
        Ok(Some(audit))
    }
}

impl Rule {
    fn add_to(&self, rules: RulesBuilder) -> Result<RulesBuilder> {
        let scopes = match (&self.all_of, &self.any_of) {
            (Some(all), None) => Scopes::all_of(all),
            (None, Some(any)) => Scopes::any_of(any),
            _ => return Err("[[auth.rules]]: give either `all_of` or `any_of`".into()),
        };
        match (&self.tool, &self.prompt, &self.resource, &self.method) {
            (Some(name), None, None, None) => Ok(rules.tool(name, scopes)),
            (None, Some(name), None, None) => Ok(rules.prompt(name, scopes)),
            (None, None, Some(uri), None) => Ok(rules.resource(uri, scopes)),
            (None, None, None, Some(method)) => Ok(rules.method(method, scopes)),
            _ => {
                Err("[[auth.rules]]: give one of `tool`, `prompt`, `resource` and `method`".into())
            }
        }
    }
}

impl Auth {
    /// Returns the layer of the stack. Over stdio, the session's token is read from the
    /// environment, if `token_env` is set.
    pub fn layer(&self, stdio: bool) -> Result<AuthLayer> {
        let mut layer = AuthLayer::builder(self.verifier.clone()).rules(self.rules.clone());
        if let Some(variable) = self.token_env.as_ref().filter(|_| stdio) {
            layer = layer.token_from_env(variable);
        }
        Ok(layer.build()?)
    }

    /// Returns the layer that keeps the record, if there is an audit file.
    pub fn audit_layer(&self) -> Option<AuditLayer> {
        self.audit.as_ref().map(AuditLog::layer)
    }

    /// Returns the layer in front of HTTP, for a gateway that listens at `url`.
    pub fn guard(&self, url: &str) -> Result<HttpAuthLayer> {
        let resource = ProtectedResource::new(self.resource.as_deref().unwrap_or(url))
            .map_err(|error| format!("[auth]: {error}"))?
            .authorization_server(&self.issuer)
            .scopes_supported(&self.scopes);
        let mut guard = HttpAuthLayer::builder(self.verifier.clone())
            .resource(resource)
            .rules(self.rules.clone());
        if let Some(audit) = &self.audit {
            guard = guard.on_refusal(audit.clone());
        }
        Ok(guard.build()?)
    }

    /// Waits until the audit record is written.
    pub async fn close(self) {
        let Some(audit) = self.audit else { return };
        let flushed = tokio::time::timeout(FLUSH, audit.handle().flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("not all of the audit could be written");
        }
    }
}
