//! What being let in costs.
//!
//! `remembered_token_ns` is what `AuthLayer` adds to a call whose token it has verified before: the token is taken
//! off the header, looked up, the rules are asked, and the answer is marked as its principal's. `hs256_vs_bare` and
//! `rs256_vs_bare` compare the first verification of a token with `jsonwebtoken::decode` of the same token, and
//! `filter_1000_tools_us` is what a list of 1,000 tools costs besides.

mod common;

use std::{
    collections::HashMap,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{Clock, Ready, Rounds, figure};
use futures::FutureExt;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rmcp::model::{
    CallToolResult, ContentBlock, JsonObject, ListToolsRequest, ListToolsResult, Tool,
};
use rmcp_layers::{
    Error, McpRequest, McpResponse,
    auth::{AuthLayer, JwtVerifier, JwtVerifierBuilder, Rules, Scopes, Verifier},
};
use serde_json::{Value, json};
use tower::{Layer, Service};

const SECRET: &[u8] = b"sixty-four bytes that nobody else knows, not even those who guess";
const PRIVATE: &[u8] = include_bytes!("../tests/auth/keys/rsa_a.pem");
const PUBLIC: &[u8] = include_bytes!("../tests/auth/keys/rsa_a.pub.pem");
const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "https://mcp.example/mcp";

fn claims() -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "6f1c2c4e-6d0e-4d3b-9f2a-1f0f6b8f9a51",
        "client_id": "an-agent",
        "scope": "tools:call tools:list files:read",
        "jti": "b1d5781111d84f7b3fe45a0852e59758",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    })
}

fn token(algorithm: Algorithm, key: &EncodingKey) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), &claims(), key).unwrap()
}

fn verifier() -> JwtVerifierBuilder {
    JwtVerifier::builder().issuer(ISSUER).audience(AUDIENCE)
}

fn called() -> Ready {
    let done = CallToolResult::success(vec![ContentBlock::text("done")]);
    Ready(Arc::new(done.into()))
}

/// A call as it comes over HTTP.
fn call(token: &str) -> McpRequest {
    let (parts, ()) = http::Request::post("/mcp")
        .header("host", "mcp.example")
        .header("accept", "application/json, text/event-stream")
        .header("mcp-method", "tools/call")
        .header("authorization", format!("Bearer {token}"))
        .body(())
        .unwrap()
        .into_parts();
    let mut request = McpRequest::call_tool("db__query").build();
    request.context.extensions.insert(parts);
    request
}

/// How long one call of `stack` takes, in nanoseconds, over many of them. Making the requests is not counted.
fn nanoseconds<S>(stack: &mut S, requests: Vec<McpRequest>) -> f64
where
    S: Service<McpRequest, Response = McpResponse, Error = Error>,
{
    let count = requests.len() as f64;
    let begun = Instant::now();
    for request in requests {
        let answer = stack.call(request).now_or_never();
        black_box(answer.expect("an answer at once").expect("an answer"));
    }
    begun.elapsed().as_nanos() as f64 / count
}

fn rules() -> Rules {
    let mut rules = Rules::builder();
    for name in 0..20 {
        rules = rules.tool(format!("tool-{name}"), "files:read");
    }
    rules
        .tool("db__drop_*", "db:owner")
        .tool("db__*", Scopes::any_of(["tools:call", "db:write"]))
        .tool("fs__write_*", "files:write")
        .tool("fs__*", "files:read")
        .tool("web__*", Scopes::none())
        .build()
        .unwrap()
}

fn remembered(name: &'static str, verifier: JwtVerifier, token: &str) -> f64 {
    verifier.verify(token).now_or_never().unwrap().unwrap();
    let layer = AuthLayer::builder(verifier).rules(rules()).build().unwrap();
    let (mut bare, mut guarded) = (called(), layer.layer(called()));
    let mut rounds = Rounds::new(&["no layer", "AuthLayer"]);
    let clock = Clock::new(Duration::from_secs(8));
    for round in 0.. {
        if round > 0 && clock.is_over() {
            break;
        }
        for variant in rounds.order(round) {
            // A few at a time: a request that has just been read is in the processor's cache.
            let time: f64 = (0..50)
                .map(|_| {
                    let requests: Vec<_> = (0..40).map(|_| call(token)).collect();
                    match variant {
                        0 => nanoseconds(&mut bare, requests),
                        _ => nanoseconds(&mut guarded, requests),
                    }
                })
                .sum();
            rounds.add(variant, time / 50.0);
        }
    }
    println!(
        "a call with a remembered token, {name}, {} bytes:",
        token.len()
    );
    rounds.print("ns");
    rounds.value(1) - rounds.value(0)
}

/// The first verification of a token, against jsonwebtoken's own.
fn first(
    name: &'static str,
    algorithm: Algorithm,
    verifier: JwtVerifier,
    key: &DecodingKey,
    token: &str,
    count: usize,
) -> f64 {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.validate_nbf = true;
    let mut rounds = Rounds::new(&["jsonwebtoken", "JwtVerifier"]);
    let clock = Clock::new(Duration::from_secs(8));
    for round in 0.. {
        if round > 0 && clock.is_over() {
            break;
        }
        for variant in rounds.order(round) {
            let begun = Instant::now();
            for _ in 0..count {
                match variant {
                    0 => {
                        let decoded =
                            jsonwebtoken::decode::<HashMap<String, Value>>(token, key, &validation);
                        black_box(decoded.unwrap());
                    }
                    _ => {
                        let verified = verifier.verify(black_box(token)).now_or_never();
                        black_box(verified.unwrap().unwrap());
                    }
                }
            }
            rounds.add(
                variant,
                begun.elapsed().as_nanos() as f64 / count as f64 / 1e3,
            );
        }
    }
    println!("the first verification of a token, {name}:");
    rounds.print("us");
    rounds.ratio(1, 0)
}

fn filter(verifier: JwtVerifier, token: &str) -> f64 {
    let schema: Arc<JsonObject> = Arc::default();
    let prefixes = [
        "db__query",
        "db__drop",
        "fs__read",
        "fs__write",
        "web__get",
        "shell",
    ];
    let tools: Vec<_> = (0..1_000)
        .map(|number| {
            let name = format!("{}_{number}", prefixes[number % prefixes.len()]);
            Tool::new(name, "Does what it says.", schema.clone())
        })
        .collect();
    let listed = Ready(Arc::new(ListToolsResult::with_all_items(tools).into()));
    let layer = AuthLayer::builder(verifier).rules(rules()).build().unwrap();
    let (mut bare, mut guarded) = (listed.clone(), layer.layer(listed));
    let request = || {
        let mut request = McpRequest::new(ListToolsRequest::default());
        let key = rmcp_layers::auth::TOKEN_META_KEY.to_owned();
        request.context.meta.insert(key, token.into());
        request
    };
    let mut rounds = Rounds::new(&["no layer", "AuthLayer"]);
    let clock = Clock::new(Duration::from_secs(8));
    for round in 0.. {
        if round > 0 && clock.is_over() {
            break;
        }
        for variant in rounds.order(round) {
            let requests: Vec<_> = (0..100).map(|_| request()).collect();
            let time = match variant {
                0 => nanoseconds(&mut bare, requests),
                _ => nanoseconds(&mut guarded, requests),
            };
            rounds.add(variant, time / 1e3);
        }
    }
    println!("a list of 1,000 tools, of which half are shown:");
    rounds.print("us");
    rounds.value(1) - rounds.value(0)
}

fn main() {
    let hs256 = token(Algorithm::HS256, &EncodingKey::from_secret(SECRET));
    let rs256 = token(
        Algorithm::RS256,
        &EncodingKey::from_rsa_pem(PRIVATE).unwrap(),
    );
    let by_secret = || verifier().secret(SECRET);
    let by_rsa = || verifier().pem(PUBLIC);

    let short = remembered("HS256", by_secret().build().unwrap(), &hs256);
    let long = remembered("RS256", by_rsa().build().unwrap(), &rs256);
    let hs256_vs_bare = first(
        "HS256",
        Algorithm::HS256,
        by_secret().max_remembered_tokens(0).build().unwrap(),
        &DecodingKey::from_secret(SECRET),
        &hs256,
        2_000,
    );
    let rs256_vs_bare = first(
        "RS256",
        Algorithm::RS256,
        by_rsa().max_remembered_tokens(0).build().unwrap(),
        &DecodingKey::from_rsa_pem(PUBLIC).unwrap(),
        &rs256,
        200,
    );
    let filtered = filter(by_secret().build().unwrap(), &hs256);

    figure("remembered_token_ns", short, "ns");
    figure("remembered_long_token_ns", long, "ns");
    figure("hs256_vs_bare", hs256_vs_bare, "x");
    figure("rs256_vs_bare", rs256_vs_bare, "x");
    figure("filter_1000_tools_us", filtered, "us");
}
