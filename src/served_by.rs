use std::sync::{Arc, OnceLock};

use rmcp::model::Extensions;

/// Who serves a call, as far as it has a name: a slot that an outer layer puts into a request's extensions, and
/// that the gateway (the member's name) or an [`Upstream`](crate::Upstream) fills in when the call goes there.
///
/// It says so too of a call that fails, or is dropped. What no single upstream serves (a merged list, an answer
/// from memory) leaves it empty. Without a slot nothing is noted, and nothing is paid.
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
pub struct ServedBy(Arc<OnceLock<Arc<str>>>);

impl ServedBy {
    /// The slot in these extensions, put there if there is none.
    pub fn slot(extensions: &mut Extensions) -> Self {
        extensions.get_or_insert_default::<Self>().clone()
    }

    /// Who serves the call. The first who said so: of a gateway's member and the upstream behind it, the member.
    pub fn name(&self) -> Option<Arc<str>> {
        self.0.get().cloned()
    }

    /// Fills in the slot, if there is one that is empty.
    pub(crate) fn say(extensions: &Extensions, name: &Arc<str>) {
        if let Some(slot) = extensions.get::<Self>() {
            slot.0.get_or_init(|| name.clone());
        }
    }
}
