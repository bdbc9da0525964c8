use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ALLOW, CACHE_CONTROL, CONTENT_TYPE,
    },
};
use serde::Serialize;

use crate::ConfigError;

/// The well-known path of a protected resource's metadata (RFC 9728, section 3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The metadata from which a client learns where to get a token (RFC 9728, section 2; MCP
/// 2026-07-28, Authorization, "Authorization Server Discovery").
///
/// ```
/// use rmcp_layers::auth::http::ProtectedResource;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let resource = ProtectedResource::new("https://mcp.example/mcp")?
///     .authorization_server("https://issuer.example")
///     .scopes_supported(["files:read"]);
/// assert_eq!(
///     resource.metadata_url(),
///     "https://mcp.example/.well-known/oauth-protected-resource/mcp"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProtectedResource {
    document: Document,
    url: String,
    path: String,
}

#[derive(Clone, Debug, Serialize)]
struct Document {
    resource: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    scopes_supported: Vec<String>,
    bearer_methods_supported: [&'static str; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_documentation: Option<String>,
}

impl ProtectedResource {
    /// Creates the metadata of the resource at this URL. Pass the URL that clients use to reach the
    /// server. It is never taken from a request, because a caller can choose the `Host` header.
    ///
    /// # Errors
    ///
    /// The URL is not an absolute `http` or `https` URL, or it has a query, a fragment or user
    /// information.
    pub fn new(resource: impl Into<String>) -> Result<Self, ConfigError> {
        let resource = resource.into();
        let wrong = || {
            ConfigError::new(
                super::NAME,
                "resource",
                format!("`{resource}` is not the URL of one; give it as https://mcp.example/mcp"),
            )
        };
        let uri: Uri = resource.parse().map_err(|_| wrong())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        if !matches!(scheme, "http" | "https")
            || uri.query().is_some()
            || resource.contains('#')
            || authority.as_str().contains('@')
        {
            return Err(wrong());
        }
        // A path of `/` alone counts as empty (RFC 9728, section 3.1).
        let path = format!("{WELL_KNOWN}{}", uri.path().trim_end_matches('/'));
        Ok(Self {
            url: format!("{scheme}://{authority}{path}"),
            path,
            document: Document {
                resource,
                authorization_servers: Vec::new(),
                scopes_supported: Vec::new(),
                bearer_methods_supported: ["header"],
                resource_name: None,
                resource_documentation: None,
            },
        })
    }

    /// Adds the issuer of an authorization server that issues tokens for this resource.
    #[must_use]
    pub fn authorization_server(mut self, issuer: impl Into<String>) -> Self {
        self.document.authorization_servers.push(issuer.into());
        self
    }

    /// Sets the scopes that a client asks for at first: the minimum to start with. They are public,
    /// so none are derived from the rules.
    #[must_use]
    pub fn scopes_supported(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.document.scopes_supported = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the human-readable name of the resource.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.document.resource_name = Some(name.into());
        self
    }

    /// Sets the URL of the documentation for developers.
    #[must_use]
    pub fn documentation(mut self, url: impl Into<String>) -> Self {
        self.document.resource_documentation = Some(url.into());
        self
    }

    /// Returns the URL of the metadata, which is the `resource_metadata` of a challenge.
    pub fn metadata_url(&self) -> &str {
        &self.url
    }

    /// Returns the scopes that a client asks for at first.
    pub(super) fn scopes(&self) -> &[String] {
        &self.document.scopes_supported
    }

    /// Returns `true` if a request for this path asks for the metadata. The path is that of the
    /// resource, or that of the host, which clients try next.
    pub(super) fn is_at(&self, path: &str) -> bool {
        path == self.path || path == WELL_KNOWN
    }

    /// Returns the document as JSON.
    pub(super) fn encoded(&self) -> Bytes {
        serde_json::to_vec(&self.document)
            .unwrap_or_default()
            .into()
    }
}

/// Answers a request for the metadata. It is public, so any browser may read it.
pub(super) fn answer(method: &Method, document: &Bytes) -> Response<Bytes> {
    let (status, body) = match *method {
        Method::GET => (StatusCode::OK, document.clone()),
        Method::HEAD => (StatusCode::OK, Bytes::new()),
        Method::OPTIONS => (StatusCode::NO_CONTENT, Bytes::new()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    match status {
        StatusCode::OK => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(
                CACHE_CONTROL,
                HeaderValue::from_static("public, max-age=300"),
            );
        }
        StatusCode::NO_CONTENT => {
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, HEAD"),
            );
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, any);
        }
        _ => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
        }
    }
    response
}
