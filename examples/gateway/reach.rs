//! Checks at the start for configuration that will not work, so that the operator learns of it
//! before a caller does. Each problem is printed as a line. The gateway starts anyway, because a
//! server may come up later.

use std::{
    env, io,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::Uri;
use tokio::net::TcpStream;

/// The time limit of a connection attempt.
const LIMIT: Duration = Duration::from_secs(3);

/// Returns an error if a command cannot be started in `cwd`.
pub fn command(command: &str, cwd: Option<&Path>, path: Option<&str>) -> Result<(), String> {
    if let Some(cwd) = cwd.filter(|cwd| !cwd.is_dir()) {
        return Err(format!("`cwd` {} is not a directory", cwd.display()));
    }
    // On Windows, a command may lack its extension.
    if cfg!(windows) {
        return Ok(());
    }
    if command.contains('/') {
        let file = cwd.unwrap_or(Path::new("")).join(command);
        // A relative path is resolved against one directory or the other, depending on the system.
        return match is_program(&file) || is_program(Path::new(command)) {
            true => Ok(()),
            false => Err(format!(
                "`command` {command} is not a file that may be executed"
            )),
        };
    }
    let path = path.map(Into::into).or_else(|| env::var_os("PATH"));
    let found = |directory: PathBuf| is_program(&directory.join(command));
    match path.is_some_and(|path| env::split_paths(&path).any(found)) {
        true => Ok(()),
        false => Err(format!("`command` {command} is not found in PATH")),
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// Returns an error if no server listens at a URL.
pub async fn url(key: &str, url: &str) -> Result<(), String> {
    let Ok(uri) = url.parse::<Uri>() else {
        return Ok(());
    };
    let (scheme, Some(host)) = (uri.scheme_str().unwrap_or_default(), uri.host()) else {
        return Ok(());
    };
    let (default, proxy) = match scheme {
        "http" => (80, "HTTP_PROXY"),
        "https" => (443, "HTTPS_PROXY"),
        "redis" | "rediss" => (6379, ""),
        _ => return Ok(()),
    };
    // Servers behind a proxy cannot be checked from here.
    let proxied = [
        proxy.to_owned(),
        proxy.to_lowercase(),
        "ALL_PROXY".to_owned(),
    ];
    if !proxy.is_empty() && proxied.iter().any(|name| env::var_os(name).is_some()) {
        return Ok(());
    }
    let port = uri.port_u16().unwrap_or(default);
    let host = host.trim_matches(['[', ']']);
    let connecting = tokio::time::timeout(LIMIT, TcpStream::connect((host, port)));
    let connected = connecting
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")));
    match connected {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("`{key}`: {host}:{port} cannot be reached: {error}")),
    }
}
