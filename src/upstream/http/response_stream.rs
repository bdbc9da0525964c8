//! The response stream of a request: its notifications, and its end.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use rmcp::{
    model::{JsonRpcMessage, RequestId},
    transport::{
        common::client_side_sse::BoxedSseResponse,
        streamable_http_client::StreamableHttpPostResponse,
    },
};

use super::answer::{self, ResponseMessage, message_in, response_message, text_of};
use crate::{lines::LineError, upstream::route::Routes, wire::answers::Expected};

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

/// The time within which an answer is read without a task for its stream. A request that waits so
/// counts as one that waits for its response headers.
const FIRST_EVENT_LIMIT: Duration = Duration::from_millis(20);

/// The time until a stream ends whose answer has come. rmcp allows the same time.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// Reads the answer from an event stream that holds nothing else, if it comes soon.
///
/// rmcp starts a task for each stream, which is a good part of the cost of a short call. Of other
/// streams, rmcp sees only the answers for this request.
pub(super) async fn answer_at_once(
    mut stream: BoxedSseResponse,
    session_id: Option<String>,
    own: Option<(RequestId, Expected)>,
    routes: Option<Arc<Routes>>,
) -> StreamableHttpPostResponse {
    let first = match tokio::time::timeout(FIRST_EVENT_LIMIT, stream.next()).await {
        Ok(Some(first)) => Some(first),
        Ok(None) => return StreamableHttpPostResponse::Sse(stream::empty().boxed(), session_id),
        Err(_) => None,
    };
    let event = first.as_ref().and_then(|event| event.as_ref().ok());
    let text = event.and_then(text_of);
    let said = own
        .as_ref()
        .zip(text)
        .and_then(|((id, expected), text)| response_message(text, id, *expected));
    let error = |error| JsonRpcMessage::error(error, own.as_ref().map(|(id, _)| id.clone()));
    let answer = match said {
        Some(ResponseMessage::Answer { message, .. }) => message,
        Some(ResponseMessage::OtherAnswer) => error(answer::other_request()),
        Some(ResponseMessage::Unreadable) => error(answer::unreadable(LineError::NoMessage)),
        Some(ResponseMessage::Other(_)) | None => {
            let whole = stream::iter(first).chain(stream);
            let addressed =
                whole.map(move |event| answer::for_request(event, own.as_ref(), routes.as_deref()));
            return StreamableHttpPostResponse::Sse(addressed.boxed(), session_id);
        }
    };
    drain_before_answer(stream).await;
    StreamableHttpPostResponse::Json(answer, session_id)
}

/// Reads the rest of a stream whose answer has come, so that its connection can be used again.
/// Usually the end has arrived already.
pub(super) fn drain(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        tokio::spawn(async move {
            let rest = async { while stream.next().await.is_some() {} };
            let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
        });
    }
}

/// Reads the rest of a stream before its answer is passed on. The task that reads the connection
/// gets a turn first, so that usually the end is there and no task or timer is needed.
///
/// The turn also makes the answer go on like that of a task that has just been woken. rmcp's server
/// then has finished the event stream before it is written: the answer and the end of the stream go
/// in one piece instead of two.
pub(super) async fn drain_before_answer(mut stream: BoxedSseResponse) {
    if stream.next().now_or_never().is_none() {
        yield_to_waiting_tasks().await;
        drain(stream);
    }
}

/// Lets the waiting tasks run first. Unlike `yield_now`, it does not wait until the runtime has
/// nothing else to do.
async fn yield_to_waiting_tasks() {
    let mut others_first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut others_first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}
