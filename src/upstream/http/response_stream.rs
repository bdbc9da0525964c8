//! The response stream of a request: its messages, and its end.

use std::{sync::Arc, time::Duration};

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
use crate::{
    upstream::route::Routes,
    util::shared_delay::{Delayed, SharedDelay},
    wire::as_sent,
};

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
    ///
    /// The stream has no end after the answer. If the end were there when rmcp's worker takes the
    /// answer, rmcp would not look for tools whose arguments go in headers. It drops the stream
    /// 50 ms after the answer.
    pub(super) fn stream(self, stream: BoxedSseResponse) -> BoxedSseResponse {
        let events = stream::unfold(
            (self, stream, false),
            async |(reader, mut events, answered)| {
                let Some(event) = events.next().await else {
                    if answered {
                        std::future::pending::<()>().await;
                    }
                    return None;
                };
                match reader.read(event) {
                    Event::Answer(answer, mut event) => {
                        let id = reader.own.id.clone();
                        let answer = for_rmcp(id, answer, reader.routes.as_deref());
                        event.data = serde_json::to_string(&answer).ok();
                        Some((Ok(event), (reader, events, true)))
                    }
                    Event::Other(event) => Some((event, (reader, events, answered))),
                }
            },
        );
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

/// Reads the answer from an event stream that holds nothing else, if it comes soon. Otherwise
/// returns the stream.
///
/// rmcp starts a task for each stream, which is a good part of the cost of a short call.
pub(super) async fn answer_at_once(
    mut stream: BoxedSseResponse,
    reader: ResponseReader,
    answered: &AnsweredStreams,
) -> Result<Answer, BoxedSseResponse> {
    let first = match tokio::time::timeout(FIRST_EVENT_LIMIT, stream.next()).await {
        Ok(Some(first)) => first,
        Ok(None) => return Err(stream::empty().boxed()),
        Err(_) => return Err(reader.stream(stream)),
    };
    match reader.read(first) {
        Event::Answer(answer, _) => {
            answered.start(AnsweredStream(stream));
            Ok(answer)
        }
        Event::Other(first) => {
            let first = stream::once(std::future::ready(first));
            Err(first.chain(reader.stream(stream)).boxed())
        }
    }
}

/// The streams whose answer has come, until their end.
///
/// A connection can be used again once the end of its stream has arrived, usually right after the
/// answer. A stream that is dropped before closes its connection.
pub(super) type AnsweredStreams = SharedDelay<AnsweredStream>;

/// The maximum number of events that are read at once after the answer.
const MAX_EVENTS: usize = 8;

pub(super) struct AnsweredStream(pub(super) BoxedSseResponse);

impl Delayed for AnsweredStream {
    /// rmcp allows the same time.
    const DELAY: Duration = Duration::from_millis(50);

    fn has_ended(&mut self) -> bool {
        for _ in 0..MAX_EVENTS {
            match self.0.next().now_or_never() {
                None => return false,
                Some(Some(Ok(_))) => {}
                Some(None | Some(Err(_))) => return true,
            }
        }
        false
    }

    fn end(self) {}
}
