//! Keys, and what becomes of tokens when they change.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, http::StatusCode, routing::get};
use futures::FutureExt;
use jsonwebtoken::Algorithm;
use rmcp_layers::{
    Handler, McpRequest,
    auth::{AnyOf, Auth, AuthErrorKind, AuthLayer, Jwks, JwtVerifier, Rules, Scopes, Verifier},
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    time::advance,
};
use tower::{Layer, ServiceExt};

use crate::{
    common::{demo::Demo, soon},
    tokens::{
        ED25519, ED25519_PUBLIC, Issuer, P256, P256_PUBLIC, P384, P384_PUBLIC, RSA_A, RSA_A_PUBLIC,
        SECRET, claims, jwks, verifier,
    },
};

/// What an issuer publishes, and how often it was asked.
#[derive(Clone)]
struct Published {
    set: Arc<Mutex<String>>,
    fetches: Arc<AtomicUsize>,
    down: Arc<AtomicBool>,
    /// How long an answer takes.
    gate: Arc<Notify>,
    gated: Arc<AtomicBool>,
}

impl Published {
    fn new<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> Self {
        Self {
            set: Arc::new(Mutex::new(jwks(issuers))),
            fetches: Arc::default(),
            down: Arc::default(),
            gate: Arc::default(),
            gated: Arc::default(),
        }
    }

    fn publish<'a>(&self, issuers: impl IntoIterator<Item = &'a Issuer>) {
        *self.set.lock().unwrap() = jwks(issuers);
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    async fn fetch(self) -> Result<String, String> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        // What is answered is what was published when it was asked for.
        let set = self.set.lock().unwrap().clone();
        if self.gated.load(Ordering::SeqCst) {
            self.gate.notified().await;
        }
        match self.down.load(Ordering::SeqCst) {
            true => Err("it is down".to_owned()),
            false => Ok(set),
        }
    }

    /// As a source that needs no network, for tests in which the clock stands.
    fn source(&self) -> Jwks {
        let published = self.clone();
        Jwks::from_fn(move || published.clone().fetch())
    }

    /// Serves it over HTTP on loopback.
    async fn serve(&self) -> String {
        let published = self.clone();
        let answer = move || {
            let published = published.clone();
            async move {
                published
                    .fetch()
                    .await
                    .map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error))
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = Router::new().route("/keys", get(answer));
        tokio::spawn(axum::serve(listener, router).into_future());
        format!("http://127.0.0.1:{port}/keys")
    }
}

fn by(source: Jwks) -> JwtVerifier {
    verifier().jwks(source).build().unwrap()
}

/// A server whose `add` is for everybody with a token by one of these keys.
fn calculator(source: Jwks) -> Auth<Handler<Demo>> {
    let rules = Rules::builder().tool("add", Scopes::none());
    let layer = AuthLayer::builder(by(source)).rules(rules.build().unwrap());
    let layer = layer.build().unwrap();
    layer.layer(Handler::new(Demo::default()))
}

fn p256(kid: &str) -> Issuer {
    Issuer::pem(Algorithm::ES256, P256).named(kid)
}

fn ed25519(kid: &str) -> Issuer {
    Issuer::pem(Algorithm::EdDSA, ED25519).named(kid)
}

async fn kind(verifier: &impl Verifier, token: &str) -> Result<String, AuthErrorKind> {
    match soon("verifying", verifier.verify(token)).await {
        Ok(verified) => Ok(verified.principal.subject().to_owned()),
        Err(error) => Err(error.kind()),
    }
}

/// As the layer asks: what is remembered first.
async fn subject(verifier: &JwtVerifier, token: &str) -> Result<String, AuthErrorKind> {
    match verifier.remembered(token) {
        Some(verified) => Ok(verified.principal.subject().to_owned()),
        None => kind(verifier, token).await,
    }
}

/// Lets a fetch that is under way land.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn every_algorithm_is_verified_with_a_key_of_its_type_and_no_other() {
    use Algorithm::*;
    let issuers = [
        (HS256, SECRET, None),
        (HS384, SECRET, None),
        (HS512, SECRET, None),
        (RS256, RSA_A, Some(RSA_A_PUBLIC)),
        (RS384, RSA_A, Some(RSA_A_PUBLIC)),
        (RS512, RSA_A, Some(RSA_A_PUBLIC)),
        (PS256, RSA_A, Some(RSA_A_PUBLIC)),
        (PS384, RSA_A, Some(RSA_A_PUBLIC)),
        (PS512, RSA_A, Some(RSA_A_PUBLIC)),
        (ES256, P256, Some(P256_PUBLIC)),
        (ES384, P384, Some(P384_PUBLIC)),
        (EdDSA, ED25519, Some(ED25519_PUBLIC)),
    ];
    for (algorithm, private, public) in issuers {
        let issuer = match public {
            None => Issuer::secret(algorithm),
            Some(_) => Issuer::pem(algorithm, private),
        };
        let token = issuer.token("alice", "x");
        let keyed = || match public {
            None => verifier().secret(SECRET),
            Some(public) => verifier().pem(public),
        };
        let by_key = keyed().build().unwrap();
        assert_eq!(
            kind(&by_key, &token).await.as_deref(),
            Ok("alice"),
            "{algorithm:?}"
        );
        let only = keyed().algorithms([algorithm]).build().unwrap();
        assert_eq!(
            kind(&only, &token).await.as_deref(),
            Ok("alice"),
            "{algorithm:?}"
        );
        if public.is_some() {
            let by_set = verifier().jwks_json(jwks([&issuer])).build().unwrap();
            assert_eq!(
                kind(&by_set, &token).await.as_deref(),
                Ok("alice"),
                "{algorithm:?}"
            );
        }
        // The set says of each key which algorithm it is for.
        for (other, private, public) in issuers {
            if other != algorithm && public.is_some() {
                let issuer = Issuer::pem(other, private);
                let other = verifier().jwks_json(jwks([&issuer])).build().unwrap();
                assert_eq!(kind(&other, &token).await, Err(AuthErrorKind::Invalid));
            }
        }
    }
}

#[tokio::test]
async fn keys_that_are_no_verifiers_are_passed_over_in_a_set() {
    let good = p256("good");
    let mut set: serde_json::Value = serde_json::from_str(&jwks([&good])).unwrap();
    let keys = set["keys"].as_array_mut().unwrap();
    let mut private = ed25519("private").jwk();
    private["d"] = "AAAA".into();
    let mut encrypts = ed25519("encrypts").jwk();
    encrypts["use"] = "enc".into();
    let mut mismatched = ed25519("mismatched").jwk();
    mismatched["alg"] = "RS256".into();
    keys.extend([
        private,
        encrypts,
        mismatched,
        Issuer::secret(Algorithm::HS256).named("shared").jwk(),
        json!({ "kty": "quantum", "kid": "new" }),
        json!("no key"),
    ]);
    let verifier = verifier().jwks_json(set.to_string()).build().unwrap();
    assert_eq!(
        kind(&verifier, &good.token("alice", "")).await.as_deref(),
        Ok("alice")
    );
    for issuer in [
        ed25519("private"),
        ed25519("encrypts"),
        ed25519("mismatched"),
        Issuer::secret(Algorithm::HS256).named("shared"),
    ] {
        let token = issuer.token("alice", "");
        assert_eq!(kind(&verifier, &token).await, Err(AuthErrorKind::Invalid));
    }
}

#[tokio::test]
async fn a_set_is_read_from_a_file() {
    let path = std::env::temp_dir().join(format!("rmcp-layers-keys-{}.json", std::process::id()));
    std::fs::write(&path, jwks([&p256("a")])).unwrap();
    let verifier = by(Jwks::file(&path));
    let token = p256("a").token("alice", "");
    assert_eq!(kind(&verifier, &token).await.as_deref(), Ok("alice"));
    std::fs::remove_file(&path).unwrap();
    let nowhere = by(Jwks::file(&path));
    assert_eq!(
        kind(&nowhere, &token).await,
        Err(AuthErrorKind::Unavailable)
    );
}

#[test]
fn keys_travel_over_tls_or_not_off_this_machine() {
    let has_tls = cfg!(any(feature = "rustls", feature = "native-tls"));
    assert_eq!(Jwks::url("https://issuer.example/keys").is_ok(), has_tls);
    for url in [
        "http://127.0.0.1:1/",
        "http://[::1]:1/",
        "http://localhost/",
    ] {
        Jwks::url(url).unwrap();
    }
    for url in [
        "http://issuer.example/keys",
        "http://127.0.0.1.example/",
        "ftp://127.0.0.1/",
        "keys.json",
        "",
    ] {
        Jwks::url(url).unwrap_err();
    }
}

/// Keys are rotated while 32 callers call, each with a token of its own by whatever key is the newest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_load_with_one_fetch_each_and_no_call_lost() {
    const CALLERS: usize = 32;
    const ROTATIONS: usize = 6;
    let first = ed25519("key-0");
    let published = Published::new([&first]);
    let url = published.serve().await;
    let stack = calculator(Jwks::url(&url).unwrap());
    let (rotate, current) = watch::channel(first.clone());
    let called = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (stack, mut current, called) = (stack.clone(), current.clone(), called.clone());
            tokio::spawn(async move {
                loop {
                    let issuer = current.borrow_and_update().clone();
                    if issuer.kid.as_deref() == Some("end") {
                        return;
                    }
                    let token = issuer.token(&format!("caller-{caller}"), "");
                    for _ in 0..20 {
                        let request = McpRequest::call_tool("add")
                            .argument("a", 1)
                            .argument("b", caller)
                            .meta(rmcp_layers::auth::TOKEN_META_KEY, token.clone())
                            .build();
                        let answer = stack.clone().oneshot(request).await;
                        assert_eq!(crate::common::said(answer), (caller + 1).to_string());
                        called.fetch_add(1, Ordering::SeqCst);
                    }
                    current.changed().await.unwrap();
                }
            })
        })
        .collect();
    let mut last = first;
    for rotation in 1..=ROTATIONS {
        let wanted = rotation * CALLERS * 20;
        let all_called = async {
            while called.load(Ordering::SeqCst) < wanted {
                tokio::task::yield_now().await;
            }
        };
        soon("a round of calls", all_called).await;
        assert_eq!(published.fetches(), rotation, "one fetch for each rotation");
        let next = ed25519(&format!("key-{rotation}"));
        published.publish([&last, &next]);
        rotate.send_replace(next.clone());
        last = next;
    }
    let wanted = (ROTATIONS + 1) * CALLERS * 20;
    while called.load(Ordering::SeqCst) < wanted {
        tokio::task::yield_now().await;
    }
    rotate.send_replace(last.named("end"));
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(published.fetches(), ROTATIONS + 1);
}

/// Keys are rotated while others make up names of keys as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_under_attack_with_no_call_lost_and_the_issuer_left_alone() {
    const COOLDOWN: Duration = Duration::from_millis(200);
    let first = ed25519("key-0");
    let published = Published::new([&first]);
    let url = published.serve().await;
    let begun = tokio::time::Instant::now();
    let stack = calculator(Jwks::url(&url).unwrap().cooldown(COOLDOWN));
    let call = |token: String| {
        let request = McpRequest::call_tool("add")
            .argument("a", 1)
            .argument("b", 2)
            .meta(rmcp_layers::auth::TOKEN_META_KEY, token)
            .build();
        stack.clone().oneshot(request)
    };
    let attackers: Vec<_> = (0..8)
        .map(|attacker| {
            let stack = stack.clone();
            tokio::spawn(async move {
                for number in 0.. {
                    let token = ed25519(&format!("x-{attacker}-{number}")).token("root", "");
                    let request = McpRequest::call_tool("add")
                        .meta(rmcp_layers::auth::TOKEN_META_KEY, token)
                        .build();
                    stack.clone().oneshot(request).await.unwrap_err();
                }
            })
        })
        .collect();
    let mut last = first;
    for rotation in 1..=4 {
        let next = ed25519(&format!("key-{rotation}"));
        published.publish([&last, &next]);
        let calls = (0..32).map(|caller| call(next.token(&format!("caller-{caller}"), "")));
        for answer in soon("the calls", futures::future::join_all(calls)).await {
            assert_eq!(crate::common::said(answer), "3");
        }
        last = next;
    }
    for attacker in attackers {
        attacker.abort();
    }
    // Each rotation, and one for each cooldown.
    let cooldowns = begun.elapsed().as_millis() / COOLDOWN.as_millis();
    let fetches = published.fetches();
    assert!(fetches as u128 <= 4 + 2 + cooldowns, "{fetches} fetches");
}

#[tokio::test(start_paused = true)]
async fn made_up_key_names_cause_one_fetch_a_cooldown() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source().cooldown(Duration::from_secs(5)));
    let good = p256("a").token("alice", "");
    assert_eq!(kind(&verifier, &good).await.as_deref(), Ok("alice"));
    assert_eq!(published.fetches(), 1);
    let begun = tokio::time::Instant::now();
    for round in 0..3 {
        let forged: Vec<_> = (0..50)
            .map(|name| p256(&format!("{round}-{name}")).token("root", "admin"))
            .collect();
        let verified = forged.iter().map(|token| kind(&verifier, token));
        for refused in futures::future::join_all(verified).await {
            assert_eq!(refused, Err(AuthErrorKind::Invalid));
        }
        assert_eq!(subject(&verifier, &good).await.as_deref(), Ok("alice"));
    }
    // The first of these at once.
    let fetches = usize::try_from(begun.elapsed().as_secs()).unwrap() / 5 + 1;
    assert_eq!(published.fetches(), 1 + fetches);
    assert!(fetches > 2);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_new_key_waits_out_the_cooldown_that_a_made_up_name_began() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source());
    let made_up = p256("x").token("root", "");
    for _ in 0..2 {
        assert_eq!(kind(&verifier, &made_up).await, Err(AuthErrorKind::Invalid));
    }
    published.publish([&p256("a"), &p256("b")]);
    let begun = tokio::time::Instant::now();
    let new = p256("b").token("bob", "");
    assert_eq!(kind(&verifier, &new).await.as_deref(), Ok("bob"));
    assert!(begun.elapsed() <= Duration::from_secs(5));
    // One that the issuer cannot have signed neither waits nor has the issuer asked.
    let fetches = published.fetches();
    kind(&verifier, &made_up).await.unwrap_err();
    for wrong in ["exp", "iss", "aud"] {
        let mut claims = claims("root", "");
        claims.as_object_mut().unwrap().shift_remove(wrong);
        let issuer = p256("y");
        let token = issuer.sign(&issuer.header(), &claims);
        let refused = verifier.verify(&token).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err().kind(), AuthErrorKind::Invalid);
    }
    assert_eq!(published.fetches(), fetches + 1);
}

#[tokio::test(start_paused = true)]
async fn another_key_of_the_same_name_is_found_by_one_fetch_a_cooldown() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source());
    let old = p256("a").token("alice", "");
    assert_eq!(subject(&verifier, &old).await.as_deref(), Ok("alice"));
    published.publish([&ed25519("a")]);
    let new = ed25519("a").token("bob", "");
    assert_eq!(kind(&verifier, &new).await.as_deref(), Ok("bob"));
    assert_eq!(published.fetches(), 2);
    assert_eq!(
        subject(&verifier, &old).await,
        Err(AuthErrorKind::Invalid),
        "its key is gone"
    );
    // A signature that no key of this name has made has the issuer asked once a cooldown.
    let begun = tokio::time::Instant::now();
    let fetches = published.fetches();
    for _ in 0..3 {
        let forged: Vec<_> = (0..50)
            .map(|name| {
                let token = ed25519("a").token(&format!("root-{name}"), "admin");
                let (rest, _) = token.rsplit_once('.').unwrap();
                let (_, signature) = new.rsplit_once('.').unwrap();
                format!("{rest}.{signature}")
            })
            .collect();
        let verified = forged.iter().map(|token| kind(&verifier, token));
        for refused in futures::future::join_all(verified).await {
            assert_eq!(refused, Err(AuthErrorKind::Invalid));
        }
        assert_eq!(subject(&verifier, &new).await.as_deref(), Ok("bob"));
    }
    let cooldowns = usize::try_from(begun.elapsed().as_secs()).unwrap() / 5 + 1;
    assert!(published.fetches() - fetches <= cooldowns);
}

#[tokio::test(start_paused = true)]
async fn a_bounded_number_of_tokens_waits_out_a_cooldown() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source());
    let made_up = p256("x").token("root", "");
    // The first fetch is everybody's, the second this one's.
    for _ in 0..2 {
        kind(&verifier, &made_up).await.unwrap_err();
    }
    let mut waiting: Vec<_> = (0..1_000).map(|_| verifier.verify(&made_up)).collect();
    for waiting in &mut waiting {
        assert!(futures::poll!(waiting).is_pending());
    }
    let over = verifier.verify(&made_up).now_or_never().unwrap();
    let over = over.unwrap_err();
    assert_eq!(over.kind(), AuthErrorKind::Unavailable);
    assert_eq!(over.retry_after(), Some(Duration::from_secs(5)));
    // Who goes away makes room.
    drop(waiting.pop());
    assert!(futures::poll!(&mut verifier.verify(&made_up)).is_pending());
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap_err().kind(), AuthErrorKind::Invalid);
    }
    assert_eq!(published.fetches(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_an_unknown_key_is_not_called_bad_while_the_issuer_is_down() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source());
    let good = p256("a").token("alice", "");
    assert_eq!(kind(&verifier, &good).await.as_deref(), Ok("alice"));
    published.publish([&p256("a"), &p256("b")]);
    published.down.store(true, Ordering::SeqCst);
    let new = p256("b").token("bob", "");
    assert_eq!(kind(&verifier, &new).await, Err(AuthErrorKind::Unavailable));
    published.down.store(false, Ordering::SeqCst);
    assert_eq!(kind(&verifier, &new).await.as_deref(), Ok("bob"));
}

#[tokio::test(start_paused = true)]
async fn made_up_key_names_cause_one_fetch_a_cooldown_also_of_an_issuer_whose_replicas_differ() {
    let published = Published::new([&p256("a")]);
    let source = Jwks::from_fn({
        let published = published.clone();
        move || {
            match published.fetches() % 2 {
                0 => published.publish([&p256("a")]),
                _ => published.publish([&p256("a"), &ed25519("b")]),
            }
            published.clone().fetch()
        }
    });
    let verifier = by(source);
    let begun = tokio::time::Instant::now();
    for number in 0..20 {
        let made_up = p256(&format!("x-{number}")).token("root", "");
        assert_eq!(kind(&verifier, &made_up).await, Err(AuthErrorKind::Invalid));
    }
    let cooldowns = usize::try_from(begun.elapsed().as_secs()).unwrap() / 5;
    assert!(published.fetches() <= 2 + cooldowns);
    let good = ed25519("b").token("bob", "");
    assert_eq!(kind(&verifier, &good).await.as_deref(), Ok("bob"));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_has_failed() {
    let published = Published::new([&p256("a")]);
    let source = Jwks::from_fn({
        let published = published.clone();
        move || {
            let published = published.clone();
            async move {
                assert!(!published.down.load(Ordering::SeqCst), "it panics");
                published.fetch().await
            }
        }
    });
    let verifier = by(source);
    let good = p256("a").token("alice", "");
    assert_eq!(kind(&verifier, &good).await.as_deref(), Ok("alice"));
    published.publish([&p256("a"), &p256("b")]);
    published.down.store(true, Ordering::SeqCst);
    let new = p256("b").token("bob", "");
    assert_eq!(kind(&verifier, &new).await, Err(AuthErrorKind::Unavailable));
    published.down.store(false, Ordering::SeqCst);
    let begun = tokio::time::Instant::now();
    assert_eq!(kind(&verifier, &new).await.as_deref(), Ok("bob"));
    assert_eq!(begun.elapsed().as_secs(), 1, "it is tried again after that");
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_key_that_was_taken_away_is_forgotten() {
    let published = Published::new([&p256("old"), &ed25519("new")]);
    let verifier = by(published.source().refresh_every(Duration::from_secs(60)));
    let (old, new) = (
        p256("old").token("alice", ""),
        ed25519("new").token("bob", ""),
    );
    for _ in 0..2 {
        assert_eq!(subject(&verifier, &old).await.as_deref(), Ok("alice"));
        assert_eq!(subject(&verifier, &new).await.as_deref(), Ok("bob"));
    }
    published.publish([&ed25519("new")]);
    advance(Duration::from_secs(59)).await;
    assert!(verifier.remembered(&old).is_some());
    advance(Duration::from_secs(2)).await;
    // The fetch is under way in the background, and nobody waits for it.
    assert_eq!(subject(&verifier, &old).await.as_deref(), Ok("alice"));
    settle().await;
    assert_eq!(published.fetches(), 2);
    assert!(verifier.remembered(&old).is_none());
    assert!(verifier.remembered(&new).is_some());
    assert_eq!(subject(&verifier, &old).await, Err(AuthErrorKind::Invalid));
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_is_down_is_believed_for_as_long_as_said_and_then_nobody_is_let_in() {
    let published = Published::new([&p256("a")]);
    let source = published
        .source()
        .refresh_every(Duration::from_secs(60))
        .stale_for(Duration::from_secs(300));
    let verifier = by(source);
    let token = p256("a").token("alice", "");
    assert_eq!(subject(&verifier, &token).await.as_deref(), Ok("alice"));
    published.down.store(true, Ordering::SeqCst);
    for _ in 0..29 {
        advance(Duration::from_secs(10)).await;
        assert_eq!(subject(&verifier, &token).await.as_deref(), Ok("alice"));
        settle().await;
    }
    advance(Duration::from_secs(10)).await;
    assert!(verifier.remembered(&token).is_none());
    assert_eq!(
        subject(&verifier, &token).await,
        Err(AuthErrorKind::Unavailable)
    );
    published.down.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(1)).await;
    assert_eq!(subject(&verifier, &token).await.as_deref(), Ok("alice"));
}

#[tokio::test(start_paused = true)]
async fn before_the_first_fetch_nobody_is_let_in_and_the_issuer_is_not_hammered() {
    let published = Published::new([&p256("a")]);
    published.down.store(true, Ordering::SeqCst);
    let verifier = by(published.source());
    let token = p256("a").token("alice", "");
    for _ in 0..50 {
        assert_eq!(
            kind(&verifier, &token).await,
            Err(AuthErrorKind::Unavailable)
        );
    }
    assert_eq!(published.fetches(), 1);
    published.down.store(false, Ordering::SeqCst);
    advance(Duration::from_secs(1)).await;
    assert_eq!(kind(&verifier, &token).await.as_deref(), Ok("alice"));
    assert_eq!(published.fetches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_when_its_caller_goes_away_and_all_wait_for_the_same() {
    let published = Published::new([&p256("a")]);
    published.gated.store(true, Ordering::SeqCst);
    let verifier = by(published.source());
    let token = p256("a").token("alice", "");
    let verify = || {
        let (verifier, token) = (verifier.clone(), token.clone());
        tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
    };
    let first = verify();
    settle().await;
    first.abort();
    let others: Vec<_> = (0..32).map(|_| verify()).collect();
    settle().await;
    assert_eq!(published.fetches(), 1);
    published.gated.store(false, Ordering::SeqCst);
    published.gate.notify_one();
    for other in others {
        assert!(soon("an answer", other).await.unwrap());
    }
    assert_eq!(published.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_token_whose_key_came_during_a_fetch_has_the_set_fetched_once_more() {
    let published = Published::new([&p256("a")]);
    let verifier = by(published.source().refresh_every(Duration::from_secs(60)));
    let old = p256("a").token("alice", "");
    assert_eq!(kind(&verifier, &old).await.as_deref(), Ok("alice"));
    advance(Duration::from_secs(61)).await;
    // A fetch begins, and has read the set as it was when the key is rotated.
    published.gated.store(true, Ordering::SeqCst);
    assert_eq!(kind(&verifier, &old).await.as_deref(), Ok("alice"));
    settle().await;
    let token = p256("b").token("bob", "");
    let new = {
        let verifier = verifier.clone();
        tokio::spawn(async move { verifier.verify(&token).await.is_ok() })
    };
    settle().await;
    published.publish([&p256("a"), &p256("b")]);
    published.gated.store(false, Ordering::SeqCst);
    published.gate.notify_one();
    assert!(soon("an answer", new).await.unwrap());
    assert_eq!(published.fetches(), 3);
}

#[tokio::test]
async fn several_verifiers_are_tried_in_turn() {
    let down = Published::new([&p256("a")]);
    down.down.store(true, Ordering::SeqCst);
    let keys = rmcp_layers::auth::ApiKeys::new()
        .key("k-0123456789", rmcp_layers::Principal::new("robot"))
        .unwrap();
    let both = AnyOf::new([
        Arc::new(keys.clone()) as Arc<dyn Verifier>,
        Arc::new(crate::tokens::by_secret()),
    ]);
    let jwt = Issuer::secret(Algorithm::HS256).token("alice", "");
    assert_eq!(kind(&both, "k-0123456789").await.as_deref(), Ok("robot"));
    assert_eq!(kind(&both, &jwt).await.as_deref(), Ok("alice"));
    assert_eq!(
        kind(&both, "k-0123456780").await,
        Err(AuthErrorKind::Invalid)
    );
    let with_down = AnyOf::new([
        Arc::new(by(down.source())) as Arc<dyn Verifier>,
        Arc::new(keys),
    ]);
    assert_eq!(
        kind(&with_down, "k-0123456789").await.as_deref(),
        Ok("robot")
    );
    let unknown = p256("a").token("alice", "");
    assert_eq!(
        kind(&with_down, &unknown).await,
        Err(AuthErrorKind::Unavailable)
    );
}

#[tokio::test(start_paused = true)]
async fn a_set_may_be_good_for_ever() {
    let issuer = ed25519("a");
    let published = Published::new([&issuer]);
    let forever = published
        .source()
        .refresh_every(Duration::MAX)
        .stale_for(Duration::MAX)
        .cooldown(Duration::MAX);
    let verifier = by(forever);
    let unknown = ed25519("b").token("alice", "x");
    assert_eq!(kind(&verifier, &unknown).await, Err(AuthErrorKind::Invalid));
    for _ in 0..3 {
        let token = issuer.token("alice", "x");
        assert_eq!(kind(&verifier, &token).await.unwrap(), "alice");
        assert_eq!(kind(&verifier, &unknown).await, Err(AuthErrorKind::Invalid));
        advance(Duration::from_secs(60 * 60 * 24 * 365)).await;
    }
    assert!(published.fetches() <= 2, "{}", published.fetches());
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_for_fewer_algorithms_now_is_for_fewer() {
    let issuer = Issuer::pem(Algorithm::RS256, RSA_A).named("a");
    let published = Published::new([&issuer]);
    let mut set: serde_json::Value = serde_json::from_str(&published.set.lock().unwrap()).unwrap();
    set["keys"][0].as_object_mut().unwrap().shift_remove("alg");
    *published.set.lock().unwrap() = set.to_string();
    let verifier = by(published.source());
    let token = issuer.token("alice", "x");
    assert_eq!(subject(&verifier, &token).await.unwrap(), "alice");
    set["keys"][0]["alg"] = json!("PS256");
    *published.set.lock().unwrap() = set.to_string();
    advance(Duration::from_secs(11 * 60)).await;
    let _ = subject(&verifier, &token).await;
    settle().await;
    assert_eq!(
        subject(&verifier, &token).await,
        Err(AuthErrorKind::Invalid)
    );
}
