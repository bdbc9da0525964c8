//! Heads of HTTP requests that are kept.

use http::{HeaderMap, HeaderValue, Uri, request::Parts};
use rmcp::model::Extensions;

/// Copies the head among a request's extensions out of the buffer that the server has read it into.
/// As long as one value of it is kept, so is the whole buffer, of 8 KiB and more.
pub(crate) fn copy_out(extensions: &mut Extensions) {
    let Some(parts) = extensions.get_mut::<Parts>() else {
        return;
    };
    let shared = std::mem::take(&mut parts.headers);
    let mut headers = HeaderMap::with_capacity(shared.keys_len());
    let mut last = None;
    for (name, value) in shared {
        // Only the first value of a name comes with it.
        last = name.or(last);
        if let Some(name) = &last {
            headers.append(name.clone(), copy_of(&value));
        }
    }
    parts.headers = headers;
    if let Ok(uri) = parts.uri.to_string().parse::<Uri>() {
        parts.uri = uri;
    }
}

/// Returns a value with a buffer of its own.
pub(crate) fn copy_of(value: &HeaderValue) -> HeaderValue {
    let copy = HeaderValue::from_bytes(value.as_bytes());
    copy.map_or_else(
        |_| value.clone(),
        |mut copy| {
            copy.set_sensitive(value.is_sensitive());
            copy
        },
    )
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[test]
    fn a_copied_head_is_the_same_head() {
        let request = Request::get("http://localhost/a?b=c")
            .header("x-a", "1")
            .header("x-a", "2")
            .header("host", "localhost");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let secret = parts.headers.get_mut("host").unwrap();
        secret.set_sensitive(true);
        let mut extensions = Extensions::new();
        extensions.insert(parts.clone());
        copy_out(&mut extensions);
        let copied: &Parts = extensions.get().unwrap();
        assert_eq!(copied.headers, parts.headers);
        assert_eq!(copied.uri, parts.uri);
        assert!(copied.headers["host"].is_sensitive());
    }
}
