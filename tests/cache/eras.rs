//! What the cache hears where an upstream has a connection for each way that callers speak.

use std::{
    io,
    sync::{Arc, Mutex},
};

use rmcp::{
    model::{ReadResourceRequest, ReadResourceRequestParams},
    service::PeerRequestOptions,
};
use rmcp_layers::{Lifecycle, Upstream, cache::CacheLayer};
use tower::Layer;

use super::{
    common::{Client, pipe_to, soon},
    resources::Files,
};

/// As with child processes, each connection has a server of its own.
#[tokio::test]
async fn the_server_that_callers_are_served_by_is_the_one_that_is_listened_to() {
    let servers = Arc::new(Mutex::new(Vec::<Files>::new()));
    let began = servers.clone();
    let upstream = Upstream::builder()
        .lifecycle(Lifecycle::MatchCaller)
        .transport(move || {
            let server = Files::default();
            began.lock().unwrap().push(server.clone());
            let near = pipe_to(server);
            async move { Ok::<_, io::Error>(near) }
        });
    let layer = CacheLayer::new();
    let cache = layer.handle();
    let stack = layer.layer(upstream);
    let legacy = Client::legacy("legacy", stack.clone()).await;
    let uri = "file:///a";
    let read = async |client: &Client| {
        // Past rmcp's own cache.
        let request = ReadResourceRequest::new(ReadResourceRequestParams::new(uri));
        let options = PeerRequestOptions::no_options();
        let sent = client
            .peer
            .send_cancellable_request(request.into(), options);
        let sent = soon("sending a request", sent).await.unwrap();
        let answer = soon("an answer", sent.await_response()).await.unwrap();
        format!("{answer:?}")
    };
    assert!(read(&legacy).await.contains("revision 0"));
    let first = servers.lock().unwrap()[0].clone();
    first.telling(&[uri]).await;
    let kept = cache.stats().entries;
    first.change(uri).await;
    let forgotten = async {
        while cache.stats().entries == kept {
            tokio::task::yield_now().await;
        }
    };
    soon("the eviction", forgotten).await;
    assert!(read(&legacy).await.contains("revision 1"));
    assert_eq!(servers.lock().unwrap().len(), 1, "for callers of one kind");

    // And that of the other callers as well, once there are some.
    let modern = Client::modern("modern", stack).await;
    read(&modern).await;
    let second = servers.lock().unwrap()[1].clone();
    second.telling(&[uri]).await;
    first.telling(&[uri]).await;
}
