//! Subscriptions to resources.

use std::collections::HashMap;

use rmcp::model::{ErrorData, SubscriptionsAcknowledgedNotification};

/// The reasons why the server refused subscriptions of a listen, by URI. They are in the extensions
/// of the listen's acknowledgment, which has no field for them in the protocol.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefusedSubscriptions(pub(crate) HashMap<String, ErrorData>);

impl RefusedSubscriptions {
    pub(crate) fn of(acknowledgment: &SubscriptionsAcknowledgedNotification) -> Self {
        acknowledgment.extensions.get().cloned().unwrap_or_default()
    }
}

/// Returns `true` if `uri` is this resource, or a part of it. A subscriber may be notified of a
/// changed part (MCP 2025-11-25, schema, `ResourceUpdatedNotificationParams`).
pub(crate) fn has_part(resource: &str, uri: &str) -> bool {
    uri.strip_prefix(resource).is_some_and(|rest| {
        rest.is_empty() || resource.ends_with('/') || rest.starts_with(['/', '?', '#'])
    })
}
