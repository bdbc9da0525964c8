//! The messages of a listen.

use rmcp::model::{
    ClientRequest, GetExtensions, NotificationMetaObject, RequestId, ServerNotification,
    SubscriptionFilter, SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams, SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
};

use super::RefusedSubscriptions;
use crate::{CallContext, McpRequest};

/// Returns the request that opens a listen.
pub(crate) fn request(filter: SubscriptionFilter, context: CallContext) -> McpRequest {
    let message = SubscriptionsListenRequest::new(SubscriptionsListenRequestParams::new(filter));
    McpRequest::from_parts(ClientRequest::from(message), context)
}

/// Returns the acknowledgment of the listen with this id.
pub(crate) fn acknowledgment(
    accepted: SubscriptionFilter,
    refused: RefusedSubscriptions,
    id: &RequestId,
) -> ServerNotification {
    let params = SubscriptionsAcknowledgedNotificationParams::new(accepted);
    let mut acknowledgment = SubscriptionsAcknowledgedNotification::new(params);
    acknowledgment.extensions.insert(refused);
    with_subscription_id(acknowledgment.into(), id)
}

/// Returns the notification as one of the listen with this id.
pub(crate) fn with_subscription_id(
    mut notification: ServerNotification,
    id: &RequestId,
) -> ServerNotification {
    notification
        .extensions_mut()
        .get_or_insert_with(NotificationMetaObject::new)
        .set_subscription_id(id.clone());
    notification
}
