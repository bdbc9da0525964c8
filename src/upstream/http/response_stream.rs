//! The response stream of a request: its messages, and its end.

use std::{sync::Arc, task::Poll, time::Duration};

use futures::{FutureExt, StreamExt, stream};
use rmcp::{
    model::JsonRpcMessage,
    transport::{common::client_side_sse::BoxedSseResponse, streamable_http_client::SseError},
};
use sse_stream::Sse;

use super::{
    answer::{self, Answer, Awaited, ResponseMessage, for_rmcp, response_message, take_text},
    event_stream::too_long,
};
use crate::{upstream::route::Routes, wire::as_sent};

/// The reader of a request's response stream. Each message on it belongs to the request, but for
/// those that name another.
#[derive(Clone)]
pub(super) struct ResponseReader {
    pub(super) own: Awaited,
    pub(super) routes: Option<Arc<Routes>>,
}

/// An event of a response stream.
enum Event {
    Answer(Answer, Sse),
    /// Anything else, as rmcp is to see it.
    Other(Result<Sse, SseError>),
}

impl ResponseReader {
    /// Returns the stream for rmcp's client. Notifications have gone to their call, and the result
    /// [goes around rmcp](for_rmcp).
    pub(super) fn stream(self, stream: BoxedSseResponse) -> BoxedSseResponse {
        let events = stream.map(move |event| match self.read(event) {
            Event::Answer(answer, mut event) => {
                let answer = for_rmcp(self.own.id.clone(), answer, self.routes.as_deref());
                event.data = serde_json::to_string(&answer).ok();
                Ok(event)
            }
            Event::Other(event) => event,
        });
        events.boxed()
    }

    fn read(&self, event: Result<Sse, SseError>) -> Event {
        let mut event = match event {
            Ok(event) => event,
            Err(error) => {
                return match too_long(&error) {
                    Some(why) => Event::Answer(Err(answer::unreadable(why)), Sse::default()),
                    None => Event::Other(Err(error)),
                };
            }
        };
        if let (Some(id), Some(routes)) = (&event.id, &self.routes) {
            routes.record_event(&self.own.id, id);
        }
        let Some(text) = take_text(&mut event) else {
            return Event::Other(Ok(event));
        };
        match response_message(&text, &self.own) {
            ResponseMessage::Answer { answer, .. } => return Event::Answer(answer, event),
            ResponseMessage::OtherAnswer => {
                return Event::Answer(Err(answer::other_request()), event);
            }
            ResponseMessage::Unreadable(_) if answer::is_heartbeat(&text) => {}
            ResponseMessage::Unreadable(why) => {
                return Event::Answer(Err(answer::unreadable(why)), event);
            }
            ResponseMessage::Other(message) => match (*message, &self.routes) {
                // rmcp says on which stream a request of the server came, but not a notification.
                (JsonRpcMessage::Notification(message), Some(routes)) => {
                    let own = Some(&self.own.id);
                    let kept = routes.deliver_for(own, message.notification);
                    if kept.is_some() {
                        answer::put_back(&mut event, text);
                    }
                }
                (message, _) => event.data = as_sent::text_for_rmcp(message, text),
            },
            ResponseMessage::None => {}
        }
        Event::Other(Ok(event))
    }
}

/// The time within which an answer is read without a task for its stream. A request that waits so
/// counts as one that waits for its response headers.
const FIRST_EVENT_LIMIT: Duration = Duration::from_millis(20);

/// The time until a stream ends whose answer has come. rmcp allows the same time.
const DRAIN_LIMIT: Duration = Duration::from_millis(50);

/// Reads the answer from an event stream that holds nothing else, if it comes soon. Otherwise
/// returns the stream.
///
/// rmcp starts a task for each stream, which is a good part of the cost of a short call.
pub(super) async fn answer_at_once(
    mut stream: BoxedSseResponse,
    reader: ResponseReader,
) -> Result<Answer, BoxedSseResponse> {
    let first = match tokio::time::timeout(FIRST_EVENT_LIMIT, stream.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return Err(stream::empty().boxed()),
        Err(_) => return Err(reader.stream(stream)),
    };
    match reader.read(first) {
        Event::Answer(answer, _) => {
            drain_before_answer(stream).await;
            Ok(answer)
        }
        Event::Other(first) => {
            let first = stream::once(std::future::ready(first));
            Err(first.chain(reader.stream(stream)).boxed())
        }
    }
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
pub(super) async fn yield_to_waiting_tasks() {
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
