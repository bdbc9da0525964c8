//! The response stream of a direct request.

use std::{ops::ControlFlow, sync::Arc, task::Poll, time::Duration};

use futures::{StreamExt, future::BoxFuture};
use rmcp::{
    model::{GetExtensions, JsonRpcMessage, ServerJsonRpcMessage},
    service::{InboundStreamOrigin, ServiceError},
    transport::common::client_side_sse::BoxedSseResponse,
};
use sse_stream::Sse;

use super::{
    super::{
        answer::{self, Awaited, ResponseMessage, response_message, take_text},
        event_stream::too_long,
        response_stream::AnsweredStream,
    },
    DirectClient, answered, closed, failed, unreadable,
};
use crate::upstream::{
    direct::{Answer, AnswerStream, DirectAnswer},
    route::Routes,
};

/// The response stream of a request, and the credential it was opened with. It is resumed with the
/// same credential.
pub(super) struct ResponseStream<'a> {
    direct: &'a DirectClient,
    own: Awaited,
    stream: BoxedSseResponse,
    auth: Option<String>,
    /// The last event, and the server's waiting time. The stream is resumed after it.
    last: Option<String>,
    pause: Option<Duration>,
}

/// A message besides the answer. There is none in an event without data, for example.
type Message = Option<Box<ServerJsonRpcMessage>>;

impl<'a> ResponseStream<'a> {
    pub(super) fn new(
        direct: &'a DirectClient,
        own: Awaited,
        stream: BoxedSseResponse,
        auth: Option<String>,
    ) -> Self {
        Self {
            direct,
            own,
            stream,
            auth,
            last: None,
            pause: None,
        }
    }

    /// Reads the answer, if the stream holds nothing else.
    pub(super) async fn first(mut self) -> DirectAnswer<'a> {
        let event = match self.stream.next().await {
            Some(Ok(event)) => event,
            Some(Err(error)) => return DirectAnswer::Complete(unreadable(&error)),
            None => return DirectAnswer::Complete(Err(closed())),
        };
        match self.read(event) {
            ControlFlow::Break(answer) => {
                self.keep_to_its_end();
                DirectAnswer::Complete(answer)
            }
            ControlFlow::Continue(message) => DirectAnswer::Stream(Box::new(Following {
                response: self,
                message,
            })),
        }
    }

    /// Reads the answer, and delivers the messages before it, from this message on.
    pub(super) async fn follow(mut self, mut message: Message, routes: &Arc<Routes>) -> Answer {
        loop {
            if let Some(message) = message {
                Box::pin(self.deliver(message, routes)).await;
                // The caller takes its messages in the same task. Its mailbox would be full before
                // the end of a long piece of the stream.
                yield_to_waiting_tasks().await;
            }
            message = match self.next_message().await {
                ControlFlow::Continue(message) => message,
                ControlFlow::Break(answer) => {
                    self.keep_to_its_end();
                    return answer;
                }
            };
        }
    }

    fn keep_to_its_end(self) {
        let stream = AnsweredStream(self.stream);
        self.direct.client.answered_streams().start(stream);
    }

    /// Reads the next event. A stream that breaks off is resumed, if the server has said from
    /// where.
    async fn next_message(&mut self) -> ControlFlow<Answer, Message> {
        match self.stream.next().await {
            Some(Ok(event)) => self.read(event),
            Some(Err(error)) if too_long(&error).is_some() => {
                ControlFlow::Break(unreadable(&error))
            }
            Some(Err(_)) | None => {
                let Some(last) = &self.last else {
                    return ControlFlow::Break(Err(closed()));
                };
                let resumed = self.direct.resume(last, self.pause, &self.auth);
                match Box::pin(resumed).await {
                    Ok(stream) => self.stream = stream,
                    Err(error) => return ControlFlow::Break(Err(failed(error))),
                }
                ControlFlow::Continue(None)
            }
        }
    }

    /// Reads the answer in an event, or else the message in it.
    fn read(&mut self, mut event: Sse) -> ControlFlow<Answer, Message> {
        let text = take_text(&mut event);
        self.pause = event.retry.map(Duration::from_millis).or(self.pause);
        self.last = event.id.or(self.last.take());
        let Some(text) = text else {
            return ControlFlow::Continue(None);
        };
        match response_message(&text, &self.own) {
            ResponseMessage::Answer { answer, .. } => ControlFlow::Break(answered(answer)),
            ResponseMessage::OtherAnswer => {
                ControlFlow::Break(Err(ServiceError::McpError(answer::other_request())))
            }
            ResponseMessage::Unreadable(_) if answer::is_heartbeat(&text) => {
                ControlFlow::Continue(None)
            }
            ResponseMessage::Unreadable(why) => {
                ControlFlow::Break(Err(ServiceError::McpError(answer::unreadable(why))))
            }
            ResponseMessage::Other(message) => ControlFlow::Continue(Some(message)),
            ResponseMessage::None => ControlFlow::Continue(None),
        }
    }

    async fn deliver(&mut self, message: Box<ServerJsonRpcMessage>, routes: &Arc<Routes>) {
        let is_modern = self.direct.parts.is_modern();
        match *message {
            JsonRpcMessage::Notification(message) if is_modern => {
                routes.deliver_to(&self.own.id, message.notification);
            }
            JsonRpcMessage::Request(request) if is_modern => {
                Box::pin(self.direct.decline(request.id, &self.auth)).await;
            }
            JsonRpcMessage::Notification(mut message) => {
                let own = Some(&self.own.id);
                if let Some(kept) = routes.deliver_for(own, message.notification) {
                    message.notification = kept;
                    let message = JsonRpcMessage::Notification(message);
                    routes.pass_to_loop(message).await;
                }
            }
            JsonRpcMessage::Request(mut message) => {
                let origin = InboundStreamOrigin::OutboundRequest(self.own.id.clone());
                message.request.extensions_mut().insert(origin);
                routes.pass_to_loop(JsonRpcMessage::Request(message)).await;
            }
            _ => {}
        }
    }
}

/// A response stream that does not begin with the answer.
struct Following<'a> {
    response: ResponseStream<'a>,
    /// The message in the first event.
    message: Message,
}

impl<'a> AnswerStream<'a> for Following<'a> {
    fn read(self: Box<Self>, routes: &'a Arc<Routes>) -> BoxFuture<'a, Answer> {
        Box::pin(self.response.follow(self.message, routes))
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
