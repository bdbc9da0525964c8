//! What is asked of an authorization server over HTTP.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Url, redirect};

use super::rules::impossible;
use crate::Error;

/// How long a connection to an authorization server may take to come about.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A URL that secrets and keys may travel to and from: over TLS, or on this machine.
pub(super) fn secure_url(url: &str) -> Result<Url, Error> {
    let url =
        Url::parse(url).map_err(|error| impossible(format!("the URL is malformed: {error}")))?;
    let is_local = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        _ => Err(impossible(
            "the URL of an authorization server has to be https://, or lead to this machine"
                .to_owned(),
        )),
    }
}

pub(super) fn client() -> Result<Client, Error> {
    Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT_WITHIN)
        .timeout(ANSWER_WITHIN)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| impossible(format!("cannot set up an HTTP client: {error}")))
}

/// The body of a successful answer. Errors do not quote it, nor the URL.
pub(super) async fn body(request: RequestBuilder, limit: usize) -> Result<Vec<u8>, String> {
    let said = |error: reqwest::Error| error.without_url().to_string();
    let mut response = request.send().await.map_err(said)?;
    if !response.status().is_success() {
        return Err(format!(
            "it answered with HTTP status {}",
            response.status()
        ));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("its answer has more than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
