//! Notifications on the response stream of a request.

use std::sync::Arc;

use futures::StreamExt;
use rmcp::{
    model::{JsonRpcMessage, RequestId},
    transport::common::client_side_sse::BoxedSseResponse,
};

use super::answer::{message_in, text_of};
use crate::upstream::route::Routes;

/// The text in the data of every event with a notification.
const NOTIFICATION: &[u8] = b"\"notifications/";

/// Delivers the notifications on the response stream of a request to its call. rmcp says on which
/// stream a request of the server came, but not a notification.
pub(super) fn of_call(
    stream: BoxedSseResponse,
    id: RequestId,
    routes: Arc<Routes>,
) -> BoxedSseResponse {
    let attributed = stream.map(move |event| {
        let mut event = event?;
        if let Some(event) = &event.id {
            routes.record_event(&id, event);
        }
        let may_be = |data: &String| memchr::memmem::find(data.as_bytes(), NOTIFICATION).is_some();
        if event.data.as_ref().is_some_and(may_be)
            && let Some(JsonRpcMessage::Notification(message)) =
                text_of(&event).and_then(message_in)
            && routes
                .deliver_for(Some(&id), message.notification)
                .is_none()
        {
            // The event's id is still needed, to take up the stream after it.
            event.data = None;
        }
        Ok(event)
    });
    attributed.boxed()
}
