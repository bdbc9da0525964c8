//! The changes that a listen announces.

use rmcp::model::{
    PromptListChangedNotification, ResourceListChangedNotification, ResourceUpdatedNotification,
    ResourceUpdatedNotificationParam, ServerNotification, SubscriptionFilter,
    ToolListChangedNotification,
};

use super::resources::has_part;

/// A list that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
}

impl Change {
    pub(crate) const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    /// Returns the change that a notification announces, if it is one of a list.
    pub(crate) fn of(notification: &ServerNotification) -> Option<Self> {
        match notification {
            ServerNotification::ToolListChangedNotification(_) => Some(Self::Tools),
            ServerNotification::PromptListChangedNotification(_) => Some(Self::Prompts),
            ServerNotification::ResourceListChangedNotification(_) => Some(Self::Resources),
            _ => None,
        }
    }

    /// Returns `true` if the filter has this change.
    pub(crate) fn is_in(self, filter: &SubscriptionFilter) -> bool {
        let flag = match self {
            Self::Tools => filter.tools_list_changed,
            Self::Prompts => filter.prompts_list_changed,
            Self::Resources => filter.resources_list_changed,
        };
        flag == Some(true)
    }

    /// Adds this change to the filter.
    #[cfg(feature = "gateway")]
    pub(crate) fn add_to(self, filter: &mut SubscriptionFilter) {
        let flag = match self {
            Self::Tools => &mut filter.tools_list_changed,
            Self::Prompts => &mut filter.prompts_list_changed,
            Self::Resources => &mut filter.resources_list_changed,
        };
        *flag = Some(true);
    }

    pub(crate) fn notification(self) -> ServerNotification {
        match self {
            Self::Tools => ToolListChangedNotification::default().into(),
            Self::Prompts => PromptListChangedNotification::default().into(),
            Self::Resources => ResourceListChangedNotification::default().into(),
        }
    }
}

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
