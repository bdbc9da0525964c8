//! The table of notifications: a row for each notification of a client or a server.

use rmcp::model::*;

/// A part of the protocol that a notification concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// One connection, and its ids and tokens, which have another meaning on every other
    /// connection.
    Connection,
    /// An item that layers may hide from a caller.
    Item,
    /// Every receiver.
    All,
}

macro_rules! notifications {
    (
        both { $($both_name:literal $Both:ident { scope: $both_scope:ident })* }
        client { $($client_name:literal $Client:ident { scope: $client_scope:ident })* }
        server { $($server_name:literal $Server:ident { scope: $server_scope:ident })* }
        list changes {
            $($list_name:literal $List:ident { list: $Change:ident, filter: $filter:ident })*
        }
    ) => {
        /// Returns the method of a client's notification.
        pub(crate) fn client_method(notification: &ClientNotification) -> &str {
            match notification {
                $(ClientNotification::$Both(_) => $both_name,)*
                $(ClientNotification::$Client(_) => $client_name,)*
                ClientNotification::CustomNotification(custom) => &custom.method,
                _ => "notifications/unknown",
            }
        }

        /// Returns the method of a client's notification, if the protocol has it.
        #[cfg(feature = "metrics")]
        pub(crate) fn known_client_method(
            notification: &ClientNotification,
        ) -> Option<&'static str> {
            Some(match notification {
                $(ClientNotification::$Both(_) => $both_name,)*
                $(ClientNotification::$Client(_) => $client_name,)*
                _ => return None,
            })
        }

        /// Returns `true` if a client has a notification of this method.
        pub(super) fn is_of_client(method: &str) -> bool {
            matches!(method, $($both_name)|* | $($client_name)|*)
        }

        /// Returns the scope of the notification of this method. Returns `None` if the protocol
        /// does not have it.
        fn scope(method: &str) -> Option<Scope> {
            Some(match method {
                $($both_name => Scope::$both_scope,)*
                $($client_name => Scope::$client_scope,)*
                $($server_name => Scope::$server_scope,)*
                $($list_name => Scope::All,)*
                _ => return None,
            })
        }

        /// A list of a server that has changed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Change {
            $($Change,)*
        }

        impl Change {
            pub(crate) const ALL: [Self; 3] = [$(Self::$Change),*];

            /// Returns the change that a notification announces, if it is one of a list.
            pub(crate) fn of(notification: &ServerNotification) -> Option<Self> {
                Some(match notification {
                    $(ServerNotification::$List(_) => Self::$Change,)*
                    _ => return None,
                })
            }

            /// Returns the notification of this change.
            pub(crate) fn notification(self) -> ServerNotification {
                match self {
                    $(Self::$Change => $List::default().into(),)*
                }
            }

            /// Returns `true` if the filter has this change.
            pub(crate) fn is_in(self, filter: &SubscriptionFilter) -> bool {
                match self {
                    $(Self::$Change => filter.$filter == Some(true),)*
                }
            }

            /// Adds this change to the filter.
            pub(crate) fn add_to(self, filter: &mut SubscriptionFilter) {
                match self {
                    $(Self::$Change => filter.$filter = Some(true),)*
                }
            }
        }

        #[cfg(test)]
        pub(super) const METHODS: &[(&str, &[&str])] = &[
            ("both", &[$($both_name),*]),
            ("client", &[$($client_name),*]),
            ("server", &[$($server_name,)* $($list_name),*]),
        ];
    };
}

notifications! {
    both {
        "notifications/cancelled" CancelledNotification { scope: Connection }
        "notifications/progress" ProgressNotification { scope: Connection }
    }
    client {
        "notifications/initialized" InitializedNotification { scope: Connection }
        "notifications/roots/list_changed" RootsListChangedNotification { scope: All }
    }
    server {
        "notifications/message" LoggingMessageNotification { scope: All }
        "notifications/resources/updated" ResourceUpdatedNotification { scope: Item }
        "notifications/subscriptions/acknowledged" SubscriptionsAcknowledgedNotification {
            scope: Connection
        }
        "notifications/tasks" TaskStatusNotification { scope: Item }
    }
    list changes {
        "notifications/tools/list_changed" ToolListChangedNotification {
            list: Tools, filter: tools_list_changed
        }
        "notifications/prompts/list_changed" PromptListChangedNotification {
            list: Prompts, filter: prompts_list_changed
        }
        "notifications/resources/list_changed" ResourceListChangedNotification {
            list: Resources, filter: resources_list_changed
        }
    }
}

/// Returns a client's notification, unless it is about the caller's own connection and could not be
/// read. Such a cancellation would reach an upstream with the id of another call.
pub(crate) fn from_client(notification: ClientNotification) -> Option<ClientNotification> {
    match &notification {
        ClientNotification::CustomNotification(custom)
            if scope(&custom.method) == Some(Scope::Connection) =>
        {
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
            if matches!(scope(&custom.method), Some(Scope::Connection | Scope::Item)) =>
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
