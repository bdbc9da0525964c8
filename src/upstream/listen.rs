//! `subscriptions/listen` over a connection without it (revisions before 2026-07-28). It is built
//! from the connection's own notifications and `resources/subscribe`.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures::{
    FutureExt, StreamExt,
    future::{BoxFuture, Shared},
    stream::{self, FuturesUnordered},
};

use rmcp::model::{
    ClientRequest, ServerNotification, SubscribeRequest, SubscribeRequestParams,
    SubscriptionFilter, UnsubscribeRequest, UnsubscribeRequestParams,
};

use super::{
    call::{self, UpstreamCall},
    caller_end::{CallerEnd, Forwarding},
    errors,
    route::{CallMessage, Route},
};
use crate::{
    Error, McpRequest, McpResponse,
    listen::{RefusedSubscriptions, acknowledgment, with_subscription_id},
    util::lock,
};

/// Time limit to tell a server of an unsubscription.
const UNSUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);

/// Limit of resources that a listen subscribes to at once.
const MAX_CONCURRENT_SUBSCRIBES: usize = 16;

type Subscribing = Shared<BoxFuture<'static, Result<(), Error>>>;

/// The resources that a connection is subscribed to, each with the number of its listens.
#[derive(Default)]
pub(super) struct Subscribed {
    resources: Mutex<HashMap<String, Resource>>,
}

struct Resource {
    listens: usize,
    /// The one request that subscribes for all of them.
    subscribing: Subscribing,
}

impl Subscribed {
    fn resources(&self) -> MutexGuard<'_, HashMap<String, Resource>> {
        lock(&self.resources)
    }

    /// Adds a listen to a resource. The first listen subscribes, and the others wait for the
    /// outcome.
    fn add(&self, uri: &str, subscribe: impl FnOnce() -> Subscribing) -> Subscribing {
        let mut resources = self.resources();
        let resource = resources.entry(uri.to_owned()).or_insert_with(|| Resource {
            listens: 0,
            subscribing: subscribe(),
        });
        resource.listens += 1;
        resource.subscribing.clone()
    }

    /// Removes a listen from a resource. Returns `true` if it was the last, and the server knows of
    /// the subscription.
    fn remove(&self, uri: &str) -> bool {
        let mut resources = self.resources();
        let Some(resource) = resources.get_mut(uri) else {
            return false;
        };
        resource.listens -= 1;
        if resource.listens > 0 {
            return false;
        }
        let last = resources.remove(uri);
        drop(resources);
        // Dropping a request that is on its way cancels it, but it may have arrived already.
        last.is_some_and(|last| !matches!(last.subscribing.peek(), Some(Err(_))))
    }
}

/// Answers a listen until it is dropped or the connection is lost.
///
/// The listen gets every change it asked for, even if the server announced no such changes: some
/// servers notify of them nevertheless. The acknowledgment promises only what the server announced,
/// because callers rely on it.
pub(super) async fn run(call: UpstreamCall, request: McpRequest) -> Result<McpResponse, Error> {
    let (message, context) = request.into_parts();
    let requested = match message.into_inner() {
        ClientRequest::SubscriptionsListenRequest(listen) => listen.params.notifications,
        _ => SubscriptionFilter::new(),
    };
    let mut accepted = requested.supported_by(&call.connection.info.capabilities);
    // Some servers take subscriptions though they do not announce it.
    let uris = requested.resource_subscriptions.clone().unwrap_or_default();
    accepted.resource_subscriptions = (!uris.is_empty()).then(|| uris.clone());
    let (route, mut mailbox) = Route::new(&context.caller, true);
    let routes = &call.connection.routes;
    let mut listening = Listening {
        order: routes.enter_listener(route, requested),
        call: call.clone(),
        uris: Vec::new(),
    };
    let refused = listening.subscribe_all(uris).await?;
    if let Some(uris) = &mut accepted.resource_subscriptions {
        uris.retain(|uri| !refused.0.contains_key(uri));
    }
    let acknowledgment = acknowledgment(accepted, refused, &context.id);
    let lost = || call.connection.end().explain(errors::lost(&call.upstream));
    let caller = CallerEnd::new(context.caller.clone(), context.id.clone(), call.era);
    let mut requests = FuturesUnordered::<Forwarding<'_>>::new();
    let deliver = |notification: ServerNotification| {
        let notification = with_subscription_id(notification, &context.id);
        Box::pin(context.caller.notify(notification))
    };
    let mut delivering = Some(deliver(acknowledgment));
    loop {
        tokio::select! {
            biased;
            delivered = next(&mut delivering), if delivering.is_some() => {
                delivered?;
                delivering = None;
            }
            Some(()) = requests.next(), if !requests.is_empty() => {}
            message = mailbox.recv(), if delivering.is_none() => match message {
                Some(CallMessage::Notification(notification)) => {
                    delivering = Some(deliver(*notification));
                }
                Some(CallMessage::Request(request, reply)) => {
                    requests.extend(caller.forward(request, reply));
                }
                // An answer that was lost belongs to a call.
                Some(CallMessage::ReplyLost(_)) => {}
                None => return Err(lost()),
            },
            () = call.connection.until_lost(), if call.connection.is_foreign() => {
                return Err(lost());
            }
        }
    }
}

/// Returns the outcome of the future under way. Never resolves if there is none.
async fn next<F: Future + Unpin>(under_way: &mut Option<F>) -> F::Output {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The subscriptions of an open listen at the server. They are released on drop.
struct Listening {
    call: UpstreamCall,
    order: u64,
    uris: Vec<String>,
}

impl Listening {
    /// Subscribes to the resources, and returns those that the server refused. The other
    /// subscriptions remain.
    async fn subscribe_all(&mut self, uris: Vec<String>) -> Result<RefusedSubscriptions, Error> {
        let mut subscribing = stream::iter(uris)
            .map(|uri| self.subscribe(uri.clone()).map(|outcome| (uri, outcome)))
            .buffer_unordered(MAX_CONCURRENT_SUBSCRIBES);
        let mut refused = RefusedSubscriptions::default();
        while let Some((uri, outcome)) = subscribing.next().await {
            match outcome {
                Ok(()) => {}
                Err(error @ Error::Transport(_)) => return Err(error),
                Err(error) => drop(refused.0.insert(uri, error.into())),
            }
        }
        drop(subscribing);
        // The server is asked again when a listen asks again.
        self.uris.retain(|uri| !refused.0.contains_key(uri));
        for uri in refused.0.keys() {
            self.call.connection.subscribed.remove(uri);
        }
        Ok(refused)
    }

    fn subscribe(&mut self, uri: String) -> Subscribing {
        let subscribing = self.call.connection.subscribed.add(&uri, || {
            let call = self.call.clone();
            let request = SubscribeRequest::new(SubscribeRequestParams::new(&uri));
            let request = call::own(ClientRequest::SubscribeRequest(request));
            let subscribing = async move { call.run(request).await.map(drop) };
            subscribing.boxed().shared()
        });
        self.uris.push(uri);
        subscribing
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let connection = &self.call.connection;
        connection.routes.leave_listener(self.order);
        for uri in self.uris.drain(..) {
            if !connection.subscribed.remove(&uri) || connection.is_lost() {
                continue;
            }
            let call = self.call.clone();
            connection
                .runtime
                .spawn(async move { unsubscribe(call, uri).await });
        }
    }
}

async fn unsubscribe(call: UpstreamCall, uri: String) {
    let request = UnsubscribeRequest::new(UnsubscribeRequestParams::new(&uri));
    let request = call::own(ClientRequest::UnsubscribeRequest(request));
    let sent = tokio::time::timeout(UNSUBSCRIBE_TIMEOUT, call.run(request)).await;
    if !matches!(sent, Ok(Ok(_))) {
        tracing::debug!(uri, "the server could not be told of an unsubscription");
    }
    // Another listen may have come for the resource while the server was told.
    if call.connection.subscribed.resources().contains_key(&uri) {
        let request = SubscribeRequest::new(SubscribeRequestParams::new(&uri));
        let request = call::own(ClientRequest::SubscribeRequest(request));
        let _ = tokio::time::timeout(UNSUBSCRIBE_TIMEOUT, call.run(request)).await;
    }
}
