use rmcp::model::*;

/// Whether a notification speaks of one connection and of the ids and tokens on it, which mean something else
/// on every other connection.
fn belongs_to_hop(method: &str) -> bool {
    [
        CancelledNotificationMethod::VALUE,
        ProgressNotificationMethod::VALUE,
        InitializedNotificationMethod::VALUE,
        SubscriptionsAcknowledgedNotificationMethod::VALUE,
    ]
    .contains(&method)
}

/// Whether a notification names a thing of which layers decide who may hear.
fn names_something(method: &str) -> bool {
    [
        ResourceUpdatedNotificationMethod::VALUE,
        TaskStatusNotificationMethod::VALUE,
    ]
    .contains(&method)
}

/// Returns a client's notification, unless it is one of the caller's own connection that could not be read.
/// A cancellation would otherwise reach an upstream with an id that is another call's there.
pub(crate) fn from_client(notification: ClientNotification) -> Option<ClientNotification> {
    match &notification {
        ClientNotification::CustomNotification(custom) if belongs_to_hop(&custom.method) => {
            tracing::debug!(
                method = custom.method,
                "a client's notification is dropped: its params do not fit, and it concerns this \
                 connection only"
            );
            None
        }
        _ => Some(notification),
    }
}

/// Returns a server's notification that may go to a caller, if it may. Dropped are cancellations, which
/// concern the server's connection; acknowledgments of no subscription; and notifications that could not be
/// read, where ids or tokens would need to be translated, or layers decide who may hear them.
pub(crate) fn from_server(notification: ServerNotification) -> Option<ServerNotification> {
    let method = match &notification {
        ServerNotification::CustomNotification(custom)
            if belongs_to_hop(&custom.method) || names_something(&custom.method) =>
        {
            &custom.method
        }
        ServerNotification::CancelledNotification(_) => CancelledNotificationMethod::VALUE,
        ServerNotification::SubscriptionsAcknowledgedNotification(_)
            if notification.get_meta().subscription_id().is_none() =>
        {
            SubscriptionsAcknowledgedNotificationMethod::VALUE
        }
        _ => return Some(notification),
    };
    tracing::debug!(
        method,
        "a server's notification is dropped: no caller can make sense of it"
    );
    None
}
