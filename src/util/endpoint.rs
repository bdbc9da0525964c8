//! Properties of an HTTP server that its URL tells.

use reqwest::{ClientBuilder, Url};

/// Returns `true` if a URL leads to this machine, by its address or as `localhost`.
pub(crate) fn is_local(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback()),
        None => false,
    }
}

/// Bypasses the proxy that the environment names (`HTTP_PROXY` and others), if the URL leads to
/// this machine: `localhost` means another machine to the proxy.
pub(crate) fn direct_if_local(client: ClientBuilder, url: &Url) -> ClientBuilder {
    if is_local(url) {
        client.no_proxy()
    } else {
        client
    }
}

/// Returns the missing feature, if a client of this build cannot reach a URL.
pub(crate) fn missing_tls(url: &Url) -> Option<&'static str> {
    let has_tls = cfg!(any(feature = "rustls", feature = "native-tls"));
    (url.scheme() == "https" && !has_tls).then_some(
        "the URL is https://, and rmcp-layers is built without TLS; enable its feature `rustls` or `native-tls`",
    )
}
