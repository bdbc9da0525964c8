//! Settings: the ones that are refused, and the ones that are bounded.

use super::*;

#[tokio::test]
async fn settings_that_cannot_work_are_refused_when_they_are_made() {
    let endpoint = || HttpEndpoint::new("http://127.0.0.1:9/mcp");
    for name in RESERVED {
        let error = Upstream::http(endpoint().header(name, "x")).unwrap_err();
        assert_eq!(error.option(), format!("header[{name}]"));
    }
    let error = Upstream::http(endpoint().bearer("a\nSECRET")).unwrap_err();
    assert_eq!((error.layer(), error.option()), ("upstream", "bearer"));
    assert!(!error.to_string().contains("SECRET"), "{error}");
    for url in ["", "nowhere", "ftp://127.0.0.1/mcp"] {
        let error = Upstream::http(url).unwrap_err();
        assert_eq!((error.layer(), error.option()), ("upstream", "url"));
    }
    Upstream::http(endpoint().header("authorization", "Basic x")).unwrap();
}

const RESERVED: [&str; 5] = [
    "accept",
    "content-type",
    "last-event-id",
    "mcp-protocol-version",
    "mcp-session-id",
];

#[tokio::test]
async fn secrets_are_in_no_name_error_or_debug_output() {
    let url = "http://user:SECRET@127.0.0.1:9/mcp?key=SECRET";
    let endpoint = HttpEndpoint::new(url)
        .bearer("SECRET")
        .header("x-key", "SECRET");
    let shown = format!("{endpoint:?}");
    assert!(
        !shown.contains("SECRET") && shown.contains("x-key"),
        "{shown}"
    );
    let upstream = Upstream::http(endpoint).unwrap();
    assert_eq!(upstream.name(), "http://127.0.0.1:9/mcp");
    let error = upstream.connect().await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("SECRET"), "{shown}");
    let error = Upstream::http("http://user:SECRET@:x/?key=SECRET").unwrap_err();
    assert!(!error.to_string().contains("SECRET"), "{error}");

    let child = ChildProcess::new("true").env("API_KEY", "SECRET");
    let shown = format!("{child:?}");
    assert!(
        !shown.contains("SECRET") && shown.contains("API_KEY"),
        "{shown}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_wait_of_nothing_grows_too() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = attempts.clone();
    let absent = Upstream::builder()
        .reconnect_backoff(Duration::ZERO, Duration::from_secs(30))
        .transport(move || {
            count.fetch_add(1, Ordering::SeqCst);
            async { Err::<tokio::io::DuplexStream, _>(std::io::Error::other("not there")) }
        });
    absent.connect().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let attempts = attempts.load(Ordering::SeqCst);
    assert!((2..=30).contains(&attempts), "{attempts} in ten seconds");
}

#[tokio::test]
async fn the_longest_waiting_time_is_no_panic() {
    let absent = Upstream::builder()
        .reconnect_backoff(Duration::MAX, Duration::MAX)
        .child_process("no-such-program-anywhere");
    for _ in 0..2 {
        let error = absent.connect().await.unwrap_err();
        assert!(error.is_not_delivered(), "{error}");
    }
}

#[tokio::test]
async fn a_client_that_somebody_else_made_is_not_made_again() {
    let client = rmcp::service::serve_client_with_lifecycle(
        (),
        common::pipe_to(Demo::default()),
        ClientLifecycleMode::Initialize,
    );
    let client = client.await.unwrap();
    let upstream = Upstream::builder().peer(client.peer().clone());
    upstream.connect().await.unwrap();
    client.cancel().await.unwrap();
    for _ in 0..2 {
        let error = upstream.connect().await.unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
        assert_eq!(error.retry_after(), None, "{error}");
    }
}
