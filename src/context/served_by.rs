#[cfg(feature = "metrics")]
use std::sync::Mutex;
use std::sync::{Arc, OnceLock};

use rmcp::model::Extensions;
#[cfg(feature = "metrics")]
use rmcp::model::ProtocolVersion;

#[cfg(feature = "metrics")]
use crate::util::lock;

/// The name of the upstream that serves a call. An outer layer puts this slot into a request's
/// extensions. The gateway (with the member's name) or an [`Upstream`](crate::Upstream) sets it
/// when the call goes there.
///
/// The name is also set for a call that fails or is dropped. The slot stays empty if no single
/// upstream serves the call, as for a merged list or a cached response. Without a slot nothing is
/// recorded, at no cost.
///
/// ```
/// use rmcp_layers::{McpRequest, ServedBy, Upstream};
/// use tower::ServiceExt;
/// # struct Echo;
/// # impl rmcp::ServerHandler for Echo {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let upstream = Upstream::builder().name("echo").in_process(Echo);
/// let mut request = McpRequest::list_tools();
/// let served_by = ServedBy::slot(&mut request.context.extensions);
/// let _ = upstream.oneshot(request).await;
/// assert_eq!(served_by.name().as_deref(), Some("echo"));
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ServedBy(Arc<Facts>);

#[derive(Debug, Default)]
struct Facts {
    name: OnceLock<Arc<str>>,
    endpoint: OnceLock<Arc<Endpoint>>,
    #[cfg(feature = "metrics")]
    version: OnceLock<ProtocolVersion>,
    #[cfg(feature = "metrics")]
    session: Mutex<Option<Arc<str>>>,
}

/// The network facts of an upstream, as OpenTelemetry names them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
pub(crate) struct Endpoint {
    /// `pipe` for a child process, `tcp` for HTTP.
    pub(crate) transport: &'static str,
    /// `http`, or nothing.
    pub(crate) protocol: Option<&'static str>,
    /// The host of the URL.
    pub(crate) address: Option<String>,
    pub(crate) port: Option<u16>,
}

impl ServedBy {
    /// Returns the slot in these extensions, and adds one if there is none.
    pub fn slot(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Returns the name of the upstream that serves the call. The first name is kept: of a
    /// gateway's member and the upstream behind it, the member.
    pub fn name(&self) -> Option<Arc<str>> {
        self.0.name.get().cloned()
    }

    /// Sets the name, if these extensions have an empty slot. A bottom or a layer that chooses the
    /// upstream of a call calls this.
    pub fn set(extensions: &Extensions, name: &Arc<str>) {
        if let Some(slot) = extensions.get::<Self>() {
            slot.0.name.get_or_init(|| name.clone());
        }
    }

    /// Sets the network facts of the upstream that the call reaches, if these extensions have a
    /// slot without any.
    pub(crate) fn set_endpoint(extensions: &Extensions, endpoint: &Arc<Endpoint>) {
        if let Some(slot) = extensions.get::<Self>() {
            slot.0.endpoint.get_or_init(|| endpoint.clone());
        }
    }

    /// Sets the revision that the upstream speaks, if these extensions have a slot without one.
    #[cfg(feature = "metrics")]
    pub(crate) fn set_version(extensions: &Extensions, version: &ProtocolVersion) {
        if let Some(slot) = extensions.get::<Self>() {
            slot.0.version.get_or_init(|| version.clone());
        }
    }

    /// Sets the id of the session that the call goes to, if these extensions have a slot with the
    /// same endpoint. The last id is kept: a call is sent again in a new session if the server has
    /// forgotten the first one.
    #[cfg(feature = "metrics")]
    pub(crate) fn set_session(
        extensions: &Extensions,
        endpoint: &Arc<Endpoint>,
        session: &Arc<str>,
    ) {
        if let Some(Self(facts)) = extensions.get::<Self>()
            && let Some(own) = facts.endpoint.get()
            && Arc::ptr_eq(own, endpoint)
        {
            *lock(&facts.session) = Some(session.clone());
        }
    }

    /// Returns the id of the session with the upstream, if there is one over HTTP.
    #[cfg(feature = "metrics")]
    pub(crate) fn session(&self) -> Option<Arc<str>> {
        lock(&self.0.session).clone()
    }

    /// Returns the revision that the upstream speaks, if it is known.
    #[cfg(feature = "metrics")]
    pub(crate) fn version(&self) -> Option<&ProtocolVersion> {
        self.0.version.get()
    }

    /// Returns the network facts of the upstream, if they are known.
    #[cfg(feature = "metrics")]
    pub(crate) fn endpoint(&self) -> Option<&Endpoint> {
        self.0.endpoint.get().map(|endpoint| &**endpoint)
    }
}
