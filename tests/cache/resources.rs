//! What becomes of resources that change while no caller listens for them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::*,
    service::{Peer, RequestContext, SubscriptionContext, SubscriptionSink},
};
use rmcp_layers::{
    Error, Lifecycle, McpRequest, Refusal, TransportError, Upstream,
    cache::{Cache, CacheHandle, CacheLayer, CacheLayerBuilder},
    code,
};
use tokio::sync::{Notify, watch};
use tower::{Layer, ServiceExt, service_fn};

use super::{
    common::{Stack, soon},
    lab::text,
};

/// A server of resources, whose revision is how often each was changed.
#[derive(Clone, Default)]
pub struct Files(Arc<Inner>);

#[derive(Default)]
struct Inner {
    deaf: bool,
    /// How long a subscription takes.
    slow: Duration,
    reads: AtomicUsize,
    asked: AtomicUsize,
    files: Mutex<BTreeMap<String, usize>>,
    sessions: Mutex<Vec<(String, Peer<RoleServer>)>>,
    listens: Mutex<Vec<(u64, SubscriptionSink)>>,
    next: AtomicUsize,
    /// The resources that somebody is told of now.
    told: watch::Sender<Vec<String>>,
}

const REFUSED: &str = "file:///secret";

impl Files {
    fn retell(&self) {
        let listens = self.0.listens.lock().unwrap();
        let listened = listens
            .iter()
            .flat_map(|(_, sink)| sink.accepted().resource_subscriptions.clone())
            .flatten();
        let sessions = self.0.sessions.lock().unwrap();
        let subscribed = sessions.iter().map(|(uri, _)| uri.clone());
        let mut told: Vec<String> = listened.chain(subscribed).collect();
        told.sort();
        told.dedup();
        self.0.told.send_replace(told);
    }

    /// Waits until exactly these are told of.
    pub async fn telling(&self, uris: &[&str]) {
        let mut told = self.0.told.subscribe();
        let told = told.wait_for(|told| told == uris);
        soon("the subscriptions", told).await.unwrap();
    }

    /// Changes a resource, and says so.
    pub async fn change(&self, uri: &str) {
        *self
            .0
            .files
            .lock()
            .unwrap()
            .entry(uri.to_owned())
            .or_default() += 1;
        let params = ResourceUpdatedNotificationParam::new(uri);
        let sessions = self.0.sessions.lock().unwrap().clone();
        for (_, peer) in sessions.iter().filter(|(of, _)| of == uri) {
            peer.notify_resource_updated(params.clone()).await.unwrap();
        }
        let listens = self.0.listens.lock().unwrap().clone();
        for (_, sink) in listens {
            let update = ResourceUpdatedNotification::new(params.clone());
            let _ = sink.send(update.into()).await;
        }
    }
}

struct Open(Files, u64);

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .0
            .listens
            .lock()
            .unwrap()
            .retain(|(key, _)| *key != self.1);
        self.0.retell();
    }
}

impl ServerHandler for Files {
    fn get_info(&self) -> ServerConfig {
        let mut capabilities = ServerCapabilities::builder()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .build();
        if self.0.deaf {
            capabilities = ServerCapabilities::builder().enable_resources().build();
        }
        ServerConfig::new(capabilities)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        self.0.reads.fetch_add(1, Ordering::SeqCst);
        let revision = self.0.files.lock().unwrap().get(&request.uri).copied();
        let said = format!("revision {}", revision.unwrap_or(0));
        let contents = vec![ResourceContents::text(said, request.uri)];
        Ok(ReadResourceResult::new(contents).with_ttl_ms(20_000).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.0.slow).await;
        if request.uri == REFUSED {
            return Err(ErrorData::invalid_params("not for you", None));
        }
        self.0
            .sessions
            .lock()
            .unwrap()
            .push((request.uri, context.peer));
        self.retell();
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0
            .sessions
            .lock()
            .unwrap()
            .retain(|(uri, _)| *uri != request.uri);
        self.retell();
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        let mut accepted = requested.clone();
        if let Some(uris) = &mut accepted.resource_subscriptions {
            uris.retain(|uri| uri != REFUSED);
        }
        Some(accepted)
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        if context.accepted().resource_subscriptions.is_some() {
            self.0.asked.fetch_add(1, Ordering::SeqCst);
        }
        let key = self.0.next.fetch_add(1, Ordering::SeqCst) as u64;
        let open = (key, context.sink().clone());
        self.0.listens.lock().unwrap().push(open);
        self.retell();
        let _open = Open(self.clone(), key);
        context.cancelled().await;
        Ok(())
    }
}

struct Setup {
    files: Files,
    stack: Cache<Upstream>,
    cache: CacheHandle,
}

const BOTH: [Lifecycle; 2] = [Lifecycle::Initialize, Lifecycle::Discover];

impl Setup {
    fn new(files: Files, lifecycle: Lifecycle, builder: CacheLayerBuilder) -> Self {
        let layer = builder.build().unwrap();
        let upstream = Upstream::builder()
            .lifecycle(lifecycle)
            .in_process(files.clone());
        Self {
            files,
            cache: layer.handle(),
            stack: layer.layer(upstream),
        }
    }

    async fn read(&self, uri: &str) -> String {
        let read = self.stack.clone().oneshot(McpRequest::read_resource(uri));
        text(&soon("an answer", read).await.unwrap())
    }

    fn reads(&self) -> usize {
        self.files.0.reads.load(Ordering::SeqCst)
    }

    async fn gone(&self, entries: usize) {
        let gone = async {
            while self.cache.stats().entries > entries {
                tokio::task::yield_now().await;
            }
        };
        soon("the eviction", gone).await;
    }
}

#[tokio::test]
async fn a_resource_that_is_updated_is_forgotten_though_no_caller_listens() {
    for lifecycle in BOTH {
        let setup = Setup::new(Files::default(), lifecycle, CacheLayer::builder());
        for _ in 0..3 {
            assert_eq!(setup.read("file:///a").await, "revision 0");
            assert_eq!(setup.read("file:///b").await, "revision 0");
        }
        assert_eq!(setup.reads(), 2);
        setup.files.telling(&["file:///a", "file:///b"]).await;
        setup.files.change("file:///a").await;
        setup.gone(1).await;
        assert_eq!(setup.read("file:///a").await, "revision 1");
        assert_eq!(setup.read("file:///b").await, "revision 0");
        assert_eq!(setup.reads(), 3);
        // What is read again is listened for as before.
        setup.files.change("file:///a").await;
        setup.gone(1).await;
        assert_eq!(setup.read("file:///a").await, "revision 2");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_kept_no_longer_is_listened_for_no_longer() {
    for lifecycle in BOTH {
        let setup = Setup::new(Files::default(), lifecycle, CacheLayer::builder());
        setup.read("file:///a").await;
        setup.files.telling(&["file:///a"]).await;
        tokio::time::sleep(Duration::from_secs(19)).await;
        setup.read("file:///b").await;
        setup.files.telling(&["file:///a", "file:///b"]).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        setup.files.telling(&[]).await;
        // And the listen for lists is still there.
        setup.read("file:///a").await;
        setup.files.telling(&["file:///a"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_resources_are_listened_for_than_the_bound() {
    for lifecycle in BOTH {
        let builder = CacheLayer::builder().max_watched_resources(2);
        let setup = Setup::new(Files::default(), lifecycle, builder);
        for uri in ["file:///a", "file:///b", "file:///c"] {
            setup.read(uri).await;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
        setup.files.telling(&["file:///a", "file:///b"]).await;
        // The third goes by its time, and finds room when that of the others is over.
        setup.read("file:///c").await;
        assert_eq!(setup.reads(), 3);
        tokio::time::sleep(Duration::from_secs(16)).await;
        setup.read("file:///c").await;
        assert_eq!(setup.reads(), 4);
        setup.files.telling(&["file:///c"]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_of_no_resources_is_not_asked_to() {
    for lifecycle in BOTH {
        let files = Files(Arc::new(Inner {
            deaf: true,
            ..Inner::default()
        }));
        let setup = Setup::new(files, lifecycle, CacheLayer::builder());
        for uri in ["file:///a", "file:///b", "file:///a"] {
            setup.read(uri).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        assert_eq!(setup.reads(), 2);
        assert_eq!(setup.files.0.asked.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn many_resources_are_listened_for_in_time_over_a_slow_connection() {
    let files = Files(Arc::new(Inner {
        slow: Duration::from_millis(200),
        ..Inner::default()
    }));
    let setup = Setup::new(files, Lifecycle::Initialize, CacheLayer::builder());
    let mut uris: Vec<_> = (0..200).map(|file| format!("file:///{file}")).collect();
    for uri in &uris {
        setup.read(uri).await;
    }
    uris.sort();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    setup.files.telling(&uris).await;
    setup.files.change("file:///7").await;
    setup.gone(199).await;
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_is_refused_takes_no_other_with_it() {
    for lifecycle in BOTH {
        let setup = Setup::new(Files::default(), lifecycle, CacheLayer::builder());
        for uri in ["file:///a", REFUSED, "file:///z"] {
            setup.read(uri).await;
        }
        setup.files.telling(&["file:///a", "file:///z"]).await;
        let asked = setup.files.0.asked.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(10)).await;
        // It is not asked for again and again.
        assert_eq!(setup.files.0.asked.load(Ordering::SeqCst), asked);
        setup.files.change("file:///z").await;
        setup.gone(2).await;
        assert_eq!(setup.read("file:///z").await, "revision 1");
    }
}

/// What ends listens, or does not let them begin.
type Ends = fn() -> Error;

fn cut() -> Error {
    TransportError::new("cut").into()
}

fn shut_down() -> Error {
    ErrorData::internal_error("the server is shut down", None).into()
}

fn busy() -> Error {
    Refusal::new("room", "too many").into()
}

fn forbidden() -> Error {
    let refusal = Refusal::new("guard", "not for you");
    refusal.with_code(code::FORBIDDEN).into()
}

/// A cache over an upstream whose listens end as `ends` says, once that resolves.
fn ending<F>(
    files: &Files,
    lifecycle: Lifecycle,
    ends: impl Fn(&SubscriptionFilter) -> F + Clone + Send + 'static,
) -> impl Stack
where
    F: Future<Output = Error> + Send,
{
    let upstream = Upstream::builder()
        .lifecycle(lifecycle)
        .in_process(files.clone());
    CacheLayer::new().layer(service_fn(move |request: McpRequest| {
        let (upstream, ends) = (upstream.clone(), ends.clone());
        async move {
            let ClientRequest::SubscriptionsListenRequest(listen) = &*request.message else {
                return upstream.oneshot(request).await;
            };
            let ended = ends(&listen.params.notifications);
            tokio::select! {
                biased;
                error = ended => Err(error),
                answer = upstream.oneshot(request) => answer,
            }
        }
    }))
}

async fn read_of(stack: &impl Stack, uri: &str) -> String {
    let read = stack.clone().oneshot(McpRequest::read_resource(uri));
    text(
        &soon("an answer", read)
            .await
            .map_err(Into::<Error>::into)
            .unwrap(),
    )
}

#[tokio::test(start_paused = true)]
async fn what_changes_while_the_listen_is_lost_is_forgotten_when_it_is_back() {
    for (lifecycle, error) in [
        (Lifecycle::Initialize, cut as Ends),
        (Lifecycle::Discover, cut),
        (Lifecycle::Initialize, shut_down),
        (Lifecycle::Discover, busy),
    ] {
        let (files, cut) = (Files::default(), Arc::new(Notify::new()));
        let cutting = cut.clone();
        let stack = ending(&files, lifecycle, move |_| {
            let cut = cutting.clone();
            async move {
                cut.notified().await;
                error()
            }
        });
        assert_eq!(read_of(&stack, "file:///a").await, "revision 0");
        files.telling(&["file:///a"]).await;
        cut.notify_waiters();
        files.telling(&[]).await;
        files.change("file:///a").await;
        files.telling(&["file:///a"]).await;
        assert_eq!(read_of(&stack, "file:///a").await, "revision 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listen_that_finds_no_room_is_asked_for_again() {
    let (files, asked) = (Files::default(), Arc::new(AtomicUsize::new(0)));
    let asking = asked.clone();
    let stack = ending(&files, Lifecycle::Discover, move |_| {
        let first = asking.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if !first {
                std::future::pending::<()>().await;
            }
            busy()
        }
    });
    read_of(&stack, "file:///a").await;
    files.telling(&["file:///a"]).await;
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_listen_is_asked_less_and_less_often() {
    let (files, asked) = (Files::default(), Arc::new(AtomicUsize::new(0)));
    let asking = asked.clone();
    let stack = ending(&files, Lifecycle::Discover, move |_| {
        asking.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            cut()
        }
    });
    read_of(&stack, "file:///a").await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((10..=45).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn whatever_is_read_and_refused_a_listen_is_asked_for_four_times_a_second_at_most() {
    let (files, asked) = (Files::default(), Arc::new(AtomicUsize::new(0)));
    let asking = asked.clone();
    let stack = ending(&files, Lifecycle::Discover, move |filter| {
        asking.fetch_add(1, Ordering::SeqCst);
        let refused = filter.resource_subscriptions.is_some();
        async move {
            if !refused {
                std::future::pending::<()>().await;
            }
            forbidden()
        }
    });
    for number in 0..100 {
        read_of(&stack, &format!("file:///{number}")).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = asked.load(Ordering::SeqCst);
    assert!((10..=22).contains(&asked), "{asked}");
}

#[tokio::test]
async fn a_server_is_heard_that_tells_a_peer_it_has_kept() {
    // Over a connection the peer is the cache's; in a `Handler` it would be the caller's.
    let setup = Setup::new(
        Files::default(),
        Lifecycle::Initialize,
        CacheLayer::builder(),
    );
    setup.read("file:///a").await;
    setup.files.telling(&["file:///a"]).await;
    let peer = setup.files.0.sessions.lock().unwrap()[0].1.clone();
    peer.notify_resource_list_changed().await.unwrap();
    setup.gone(0).await;
}
