//! The changes that a listen announces.

use rmcp::model::{
    ResourceUpdatedNotification, ResourceUpdatedNotificationParam, ServerNotification,
    SubscriptionFilter,
};

use super::resources::has_part;
pub(crate) use crate::protocol::notifications::Change;

/// Returns the filter for the changes of all lists.
pub(crate) fn list_changes() -> SubscriptionFilter {
    SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed()
        .build()
}

/// Returns a notification of each change in the filter.
pub(crate) fn changes_in(
    filter: &SubscriptionFilter,
) -> impl Iterator<Item = ServerNotification> + '_ {
    let lists = Change::ALL
        .into_iter()
        .filter(|change| change.is_in(filter));
    let uris = filter.resource_subscriptions.iter().flatten();
    lists.map(Change::notification).chain(uris.map(|uri| {
        let params = ResourceUpdatedNotificationParam::new(uri);
        ResourceUpdatedNotification::new(params).into()
    }))
}

/// Returns `true` if the notification announces a change of a list or a resource.
pub(crate) fn is_change(notification: &ServerNotification) -> bool {
    Change::of(notification).is_some()
        || matches!(
            notification,
            ServerNotification::ResourceUpdatedNotification(_)
        )
}

/// Returns `true` if a listen with this filter is to receive this change.
pub(crate) fn wants(filter: &SubscriptionFilter, notification: &ServerNotification) -> bool {
    match notification {
        ServerNotification::ResourceUpdatedNotification(update) => filter
            .resource_subscriptions
            .iter()
            .flatten()
            .any(|uri| has_part(uri, &update.params.uri)),
        other => Change::of(other).is_some_and(|change| change.is_in(filter)),
    }
}
