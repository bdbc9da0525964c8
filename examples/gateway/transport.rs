//! The configuration of rmcp's service for streamable HTTP.

use rmcp::transport::StreamableHttpServerConfig;

/// Returns the configuration. `hosts` are the permitted `Host` headers; if there are none, those of
/// this machine. `origins` are the permitted web pages; `None` stands for those of this machine and
/// of `hosts` (MCP 2026-07-28, basic/transports: servers MUST validate `Origin`).
///
/// # Errors
///
/// Fails if a host or an origin is malformed. rmcp would ignore it.
pub fn config(
    hosts: &[String],
    origins: Option<&[String]>,
) -> Result<StreamableHttpServerConfig, String> {
    let origins = match origins {
        Some(origins) => origins
            .iter()
            .map(|origin| with_port(origin))
            .collect::<Result<Vec<_>, _>>()?,
        None => own_origins(hosts),
    };
    if let Some(host) = hosts.iter().find(|host| !is_host(host)) {
        return Err(format!(
            "`allowed_hosts`: `{host}` is not a host: give the name alone, \"mcp.example\", or with \
             a port, \"mcp.example:8443\""
        ));
    }
    // A caller on 2026-07-28 receives a result as one body where nothing came before it, because
    // some clients refuse events of more than 1 MiB. Sessions, which only earlier revisions have,
    // are answered with events.
    let config = StreamableHttpServerConfig::default()
        .with_json_response(true)
        .with_allowed_origins(origins)
        .enforce_origin_validation();
    Ok(match hosts {
        [] => config,
        hosts => config.with_allowed_hosts(hosts),
    })
}

fn own_origins(hosts: &[String]) -> Vec<String> {
    const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
    let hosts = hosts.iter().map(String::as_str);
    let hosts = LOOPBACK.into_iter().chain(hosts);
    hosts
        .flat_map(|host| {
            let host = match host.parse::<std::net::Ipv6Addr>() {
                Ok(address) => format!("[{address}]"),
                Err(_) => host.to_owned(),
            };
            // A host with a port is reached at that port.
            let any = if has_port(&host) { "" } else { ":*" };
            ["http", "https"].map(|scheme| format!("{scheme}://{host}{any}"))
        })
        .collect()
}

/// Without a port, an origin has its scheme's default port (RFC 6454, section 6.2). rmcp matches it
/// with any port.
fn with_port(origin: &str) -> Result<String, String> {
    if origin == "null" {
        return Ok(origin.to_owned());
    }
    let malformed = || {
        format!(
            "`allowed_origins`: `{origin}` is no origin: give it as browsers do, \
             \"https://app.example\" or \"http://localhost:*\""
        )
    };
    let (scheme, authority) = origin.split_once("://").ok_or_else(malformed)?;
    let host = authority.strip_suffix(":*").unwrap_or(authority);
    let parsed: http::uri::Authority = host.parse().map_err(|_| malformed())?;
    let is_host = !parsed.host().is_empty() && !host.contains('@') && !host.ends_with(':');
    match (scheme, authority == host && !has_port(host)) {
        _ if !is_host => Err(malformed()),
        ("http", true) => Ok(format!("{origin}:80")),
        ("https", true) => Ok(format!("{origin}:443")),
        ("http" | "https", false) => Ok(origin.to_owned()),
        _ => Err(malformed()),
    }
}

fn is_host(host: &str) -> bool {
    let is_address = host.parse::<std::net::Ipv6Addr>().is_ok();
    let authority = host.parse::<http::uri::Authority>();
    is_address
        || authority
            .is_ok_and(|authority| !authority.host().is_empty() && !host.contains(['@', '*']))
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}
