//! Removes the parts of a message that rmcp added, before the message leaves.

use rmcp::model::{GetExtensions, NotificationMetaObject, RequestMetaObject};

/// Marks a request whose sender gave no progress token. rmcp gives one to each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WithoutProgress;

/// Removes the progress token of a [marked](WithoutProgress) request, and `_meta` if it is empty
/// then.
pub(crate) fn trim_request(request: &mut impl GetExtensions) {
    let extensions = request.extensions_mut();
    if extensions.remove::<WithoutProgress>().is_none() {
        return;
    }
    if let Some(meta) = extensions.get_mut::<RequestMetaObject>() {
        meta.shift_remove("progressToken");
        if meta.is_empty() {
            extensions.remove::<RequestMetaObject>();
        }
    }
}

/// Removes an empty `_meta`: reading or changing it may have created it.
pub(crate) fn trim_notification(notification: &mut impl GetExtensions) {
    let extensions = notification.extensions_mut();
    let meta = extensions.get::<NotificationMetaObject>();
    if meta.is_some_and(|meta| meta.is_empty()) {
        extensions.remove::<NotificationMetaObject>();
    }
}
