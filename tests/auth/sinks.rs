//! What becomes of calls when a sink is slow, full or broken, and when it is synced.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture, poll};
use rmcp::model::*;
use rmcp_layers::{
    Decision, Error, McpRequest, McpResponse, Next, Outcome, audit::*, code, from_fn,
};
use tower::{ServiceBuilder, ServiceExt, service_fn};

use crate::{
    audit::{call, latest, stack},
    common::soon,
};

/// A sink that writes when it is let, and fails when it is told to.
struct Slow {
    let_go: mpsc::Receiver<()>,
    fails: Arc<AtomicBool>,
}

impl AuditSink for Slow {
    fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is full"));
        }
        let _ = self.let_go.recv();
        Ok(())
    }
}

/// An audit with room for one record, the key to its door, and the switch that breaks it.
fn narrow(choice: WhenFull) -> (AuditLog, mpsc::Sender<()>, Arc<AtomicBool>) {
    let (key, let_go) = mpsc::channel();
    let fails = Arc::new(AtomicBool::new(false));
    let sink = Slow {
        let_go,
        fails: fails.clone(),
    };
    let options = SinkOptions::new().capacity(1).when_full(choice);
    let audit = AuditLog::builder()
        .memory(10)
        .sink("slow", sink, options)
        .build()
        .unwrap();
    (audit, key, fails)
}

#[tokio::test]
async fn a_full_sink_that_blocks_holds_calls_up_before_they_begin() {
    let (audit, key, _) = narrow(WhenFull::Block);
    let ran = Arc::new(AtomicU64::new(0));
    let count = ran.clone();
    let stack = ServiceBuilder::new()
        .layer(audit.layer())
        .service(service_fn(move |_: McpRequest| {
            count.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, Error>(McpResponse::new(EmptyResult {})) }
        }));
    stack.clone().oneshot(call("one")).await.unwrap();
    let mut second: BoxFuture<_> = stack.clone().oneshot(call("two")).boxed();
    assert!(poll!(&mut second).is_pending());
    assert_eq!(ran.load(Ordering::SeqCst), 1, "the second has not begun");
    // One that gives up takes no place.
    let mut third: BoxFuture<_> = stack.clone().oneshot(call("three")).boxed();
    assert!(poll!(&mut third).is_pending());
    drop(third);
    key.send(()).unwrap();
    soon("the second call", second).await.unwrap();
    key.send(()).unwrap();
    drop(key);
    audit.handle().flush().await.unwrap();
    let counts = audit.handle().stats().sinks;
    assert_eq!(
        (counts[0].written, counts[0].dropped),
        (2, 1),
        "the one that gave up had no place"
    );
}

#[tokio::test]
async fn a_full_sink_that_drops_counts_what_it_drops() {
    let (audit, key, _) = narrow(WhenFull::Drop);
    for name in ["one", "two", "three"] {
        stack(&audit).oneshot(call(name)).await.unwrap();
    }
    assert_eq!(audit.handle().stats().sinks[0].dropped, 2);
    assert_eq!(
        audit.handle().recent(10).len(),
        3,
        "another sink has them all"
    );
    drop(key);
    audit.handle().flush().await.unwrap();
    assert_eq!(audit.handle().stats().sinks[0].written, 1);
}

#[tokio::test]
async fn a_full_sink_that_refuses_lets_no_call_through() {
    let (audit, key, _) = narrow(WhenFull::Refuse);
    stack(&audit).oneshot(call("one")).await.unwrap();
    let error = stack(&audit).oneshot(call("two")).await.unwrap_err();
    assert_eq!(
        Outcome::of_error(&error),
        Outcome::Refused {
            layer: "audit",
            not_delivered: true,
            code: -31503
        }
    );
    assert_eq!(ErrorData::from(error).code, code::UNAVAILABLE);
    assert_eq!(latest(&audit).decision, Decision::Undecided);
    key.send(()).unwrap();
    audit.handle().flush().await.unwrap();
    stack(&audit).oneshot(call("three")).await.unwrap();
}

#[tokio::test]
async fn a_call_without_room_is_undecided_also_inside_of_a_layer_that_has_allowed_it() {
    let (inner, key, _) = narrow(WhenFull::Refuse);
    let outer = AuditLog::builder().memory(10).build().unwrap();
    let stack = ServiceBuilder::new()
        .layer(outer.layer())
        .layer(from_fn(|request: McpRequest, next: Next| async move {
            let context = &request.context;
            context.state_decision(Decision::Allowed, None, "");
            next.run(request).await
        }))
        .service(stack(&inner));
    stack.clone().oneshot(call("one")).await.unwrap();
    stack.oneshot(call("two")).await.unwrap_err();
    assert_eq!(latest(&outer).decision, Decision::Allowed);
    let record = latest(&inner);
    assert_eq!(record.decision, Decision::Undecided);
    assert!(record.reason.as_deref().unwrap().contains("no room"));
    drop(key);
}

#[tokio::test]
async fn a_failing_sink_that_refuses_lets_calls_through_again_once_it_writes() {
    let (audit, key, fails) = narrow(WhenFull::Refuse);
    fails.store(true, Ordering::SeqCst);
    stack(&audit).oneshot(call("one")).await.unwrap();
    let failing = async {
        while !audit.handle().stats().sinks[0].failing {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon("the sink to fail", failing).await;
    assert!(stack(&audit).oneshot(call("two")).await.is_err());
    drop(key);
    fails.store(false, Ordering::SeqCst);
    audit.handle().flush().await.unwrap();
    stack(&audit).oneshot(call("three")).await.unwrap();
    audit.handle().flush().await.unwrap();
    let counts = &audit.handle().stats().sinks[0];
    assert_eq!(
        (counts.written, counts.failing),
        (2, false),
        "no record of a call that ran is lost"
    );
    assert!(counts.failed > 0);
}

#[tokio::test]
async fn a_failing_sink_that_drops_lets_every_call_through() {
    let (audit, _key, fails) = narrow(WhenFull::Drop);
    fails.store(true, Ordering::SeqCst);
    stack(&audit).oneshot(call("one")).await.unwrap();
    audit.handle().flush().await.unwrap();
    let counts = &audit.handle().stats().sinks[0];
    assert_eq!((counts.written, counts.dropped, counts.failed), (0, 1, 1));
}

#[tokio::test]
async fn a_sink_that_panics_refuses_calls_from_then_on() {
    struct Panics;
    impl AuditSink for Panics {
        fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
            panic!("the sink panics");
        }
    }
    for choice in [WhenFull::Refuse, WhenFull::Block] {
        let options = SinkOptions::new().when_full(choice);
        let audit = AuditLog::builder()
            .sink("panics", Panics, options)
            .build()
            .unwrap();
        stack(&audit).oneshot(call("one")).await.unwrap();
        assert!(audit.handle().flush().await.is_err());
        assert!(stack(&audit).oneshot(call("two")).await.is_err());
    }
}

/// Notes what is asked of it, and writes as soon as it is let.
struct Noting {
    noted: Arc<Mutex<String>>,
    let_go: mpsc::Receiver<()>,
}

impl AuditSink for Noting {
    fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
        let _ = self.let_go.recv();
        self.noted.lock().unwrap().push('w');
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.noted.lock().unwrap().push('s');
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_is_synced_as_its_durability_says() {
    const HOUR: Duration = Duration::from_secs(3600);
    for (durability, at_once, flushed) in [
        (Durability::System, "www", "wwws"),
        (Durability::Within(HOUR), "www", "wwws"),
        (
            Durability::Within(Duration::from_millis(100)),
            "wwws",
            "wwws",
        ),
        // One for all that came at once.
        (Durability::Always, "wwws", "wwws"),
    ] {
        let noted = Arc::<Mutex<String>>::default();
        let (key, let_go) = mpsc::channel();
        let sink = Noting {
            noted: noted.clone(),
            let_go,
        };
        let options = SinkOptions::new().durability(durability);
        let audit = AuditLog::builder()
            .sink("noting", sink, options)
            .build()
            .unwrap();
        calls_unwritten(&audit, 3).await;
        drop(key);
        let noted = || noted.lock().unwrap().clone();
        let there = async {
            while !noted().starts_with(at_once) && noted().len() < at_once.len() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon("the records", there).await;
        assert_eq!(noted(), at_once, "{durability:?}");
        audit.handle().flush().await.unwrap();
        assert_eq!(noted(), flushed, "{durability:?}");
    }
}

async fn calls_unwritten(audit: &AuditLog, count: usize) {
    for _ in 0..count {
        stack(audit).oneshot(call("one")).await.unwrap();
    }
}

#[tokio::test]
async fn records_that_keep_coming_do_not_put_a_sync_off() {
    /// Takes its time, so that there are always more.
    struct Busy(Arc<Mutex<String>>);
    impl AuditSink for Busy {
        fn write(&mut self, _record: &AuditRecord) -> io::Result<()> {
            std::thread::sleep(Duration::from_millis(2));
            self.0.lock().unwrap().push('w');
            Ok(())
        }

        fn sync(&mut self) -> io::Result<()> {
            self.0.lock().unwrap().push('s');
            Ok(())
        }
    }
    let noted = Arc::<Mutex<String>>::default();
    let within = Durability::Within(Duration::from_millis(10));
    let options = SinkOptions::new().durability(within);
    let audit = AuditLog::builder()
        .sink("busy", Busy(noted.clone()), options)
        .build()
        .unwrap();
    calls_unwritten(&audit, 50).await;
    audit.handle().flush().await.unwrap();
    let noted = noted.lock().unwrap().clone();
    assert!(noted.matches("ws").count() >= 5, "{noted}");
    let longest = noted.split('s').map(str::len).max();
    assert!(longest <= Some(10), "10 ms are 5 writes at most: {noted}");
}
