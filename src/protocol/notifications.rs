use rmcp::model::*;

/// Returns `true` if a notification is about one connection and its ids and tokens, which have
/// another meaning on every other connection.
fn belongs_to_hop(method: &str) -> bool {
    [
        CancelledNotificationMethod::VALUE,
        ProgressNotificationMethod::VALUE,
        InitializedNotificationMethod::VALUE,
        SubscriptionsAcknowledgedNotificationMethod::VALUE,
    ]
    .contains(&method)
}

/// Returns `true` if a notification names an item that layers may hide from a caller.
fn names_something(method: &str) -> bool {
    [
        ResourceUpdatedNotificationMethod::VALUE,
        TaskStatusNotificationMethod::VALUE,
    ]
    .contains(&method)
}

/// Returns a client's notification, unless it is about the caller's own connection and could not be
/// read. Such a cancellation would reach an upstream with the id of another call.
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

/// Returns a server's notification, if it may go to a caller. Dropped are:
///
/// - cancellations, which concern the server's connection,
/// - acknowledgements without a subscription,
/// - notifications that could not be read, if their ids or tokens would need translation or layers
///   decide who may receive them.
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
