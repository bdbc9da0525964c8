//! Requests to an authorization server over HTTP.

mod exchange;
mod introspection;

use std::{borrow::Cow, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode, Url, redirect};
use serde_json::{Map, Value};

pub use exchange::TokenExchange;
pub use introspection::{Introspection, IntrospectionBuilder};

use super::{AuthError, verifier::Secret};
use crate::{ConfigError, util::endpoint};

/// Timeout for the connection to an authorization server.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Timeout of a request to an authorization server.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Parses the URL of `option`, which may carry secrets and keys: over TLS, or on this machine.
pub(super) fn secure_url(option: &'static str, url: &str) -> Result<Url, ConfigError> {
    let wrong = |reason: Cow<'static, str>| ConfigError::new("auth", option, reason);
    let url = Url::parse(url).map_err(|error| {
        wrong(
            format!("the URL is malformed: {error}; give it as https://issuer.example/path").into(),
        )
    })?;
    if let Some(missing) = endpoint::missing_tls(&url) {
        return Err(wrong(missing.into()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if endpoint::is_local(&url) => Ok(url),
        _ => Err(wrong(
            "the URL of an authorization server has to be https://, or lead to this machine".into(),
        )),
    }
}

/// Builds a client for the URL of `option`.
pub(super) fn client(option: &'static str, url: &Url) -> Result<Client, ConfigError> {
    endpoint::direct_if_local(Client::builder(), url)
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| {
            let reason = format!("an HTTP client cannot be set up: {error}");
            ConfigError::new("auth", option, reason)
        })
}

/// Returns the body of a successful response. Errors contain neither the body nor the URL.
#[cfg(feature = "jwt")]
pub(super) async fn body(request: RequestBuilder, limit: usize) -> Result<Vec<u8>, String> {
    let response = request.send().await.map_err(said)?;
    if !response.status().is_success() {
        return Err(format!("HTTP status {}", response.status()));
    }
    read(response, limit).await
}

fn said(error: reqwest::Error) -> String {
    error.without_url().to_string()
}

async fn read(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("the answer has more than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Limit of a response about a token, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Returns the JSON object of the authorization server's response. Status 400, 401 or 403 means
/// that the server refused the request. Every other failure is independent of the caller.
async fn answer(request: RequestBuilder) -> Result<Map<String, Value>, AuthError> {
    let failed = |what: String| {
        AuthError::unavailable(format!("the authorization server: {what}"))
            .with_retry_after(Duration::from_secs(1))
    };
    let response = request.send().await.map_err(|error| failed(said(error)))?;
    let status = response.status();
    match status {
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            const NONE: [&str; 0] = [];
            let reason = format!("the authorization server answered with HTTP status {status}");
            return Err(AuthError::insufficient_scope(NONE).with_reason(reason));
        }
        status if !status.is_success() => return Err(failed(format!("HTTP status {status}"))),
        _ => {}
    }
    let body = read(response, MAX_ANSWER).await.map_err(failed)?;
    serde_json::from_slice(&body).map_err(|_| failed("its answer is no JSON object".to_owned()))
}

/// The credentials of this server at an authorization server.
#[derive(Clone, Debug)]
struct Account {
    id: String,
    secret: Secret,
}

impl Account {
    fn new(id: String, secret: &str) -> Self {
        Self {
            id,
            secret: Secret::new(secret),
        }
    }

    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.id, Some(self.secret.reveal()))
    }
}
