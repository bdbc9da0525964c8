//! What attackers try, and what they hear: always the same word.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use rmcp_layers::{
    Handler,
    auth::{AuthLayer, JwtVerifier, Rules, Scopes},
};
use serde_json::{Value, json};
use tower::Layer;

use crate::{
    common::{Stack, demo::Demo},
    line::{Line, bearing},
    tokens::{
        AUDIENCE, ED25519_PUBLIC, ISSUER, Issuer, P256_PUBLIC, RSA_A, RSA_A_PUBLIC, RSA_B, SECRET,
        by_secret, claims, now, verifier,
    },
};

/// A verifier that has one key of each type, so that each could be taken for another.
fn every_key() -> JwtVerifier {
    let named = Issuer::pem(Algorithm::RS256, RSA_A).named("key-1");
    verifier()
        .secret(SECRET)
        .pem(RSA_A_PUBLIC)
        .pem(P256_PUBLIC)
        .pem(ED25519_PUBLIC)
        .jwks_json(crate::tokens::jwks([&named]))
        .build()
        .unwrap()
}

fn stack(verifier: JwtVerifier) -> impl Stack {
    let rules = Rules::builder()
        .tool("add", "calls")
        .tool("echo", "calls")
        .build()
        .unwrap();
    AuthLayer::builder(verifier)
        .rules(rules)
        .build()
        .unwrap()
        .layer(Handler::new(Demo::default()))
}

fn add() -> Value {
    json!({ "name": "add", "arguments": { "a": 1, "b": 2 } })
}

fn secret() -> Issuer {
    Issuer::secret(Algorithm::HS256)
}

/// A good token, but for one claim. `None` leaves it out.
fn claiming(name: &str, value: Option<Value>) -> String {
    let mut changed = claims("alice", "calls");
    let members = changed.as_object_mut().unwrap();
    match value {
        Some(value) => members.insert(name.to_owned(), value),
        None => members.shift_remove(name),
    };
    secret().sign(&secret().header(), &changed)
}

/// A good token, but for a header parameter.
fn heading(name: &str, value: Value) -> String {
    let mut header = secret().header();
    header[name] = value;
    secret().sign(&header, &claims("alice", "calls"))
}

fn raw_claims(text: &str) -> String {
    secret().sign_raw(secret().header().to_string(), text)
}

fn unsigned(header: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims("alice", "calls")))
}

/// A good token with one part replaced.
fn with_part(index: usize, part: &str) -> String {
    let token = secret().token("alice", "calls");
    let mut parts: Vec<_> = token.split('.').collect();
    parts[index] = part;
    parts.join(".")
}

/// The same token, its last character changed to one that stands for the same bytes.
fn not_canonical() -> String {
    let mut token = secret().token("alice", "calls");
    let last = token.pop().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let place = alphabet.find(last).unwrap();
    token.push(alphabet.as_bytes()[place ^ 1].into());
    token
}

fn signatures_of_others() -> Vec<(&'static str, String)> {
    let good = secret().token("alice", "calls");
    let confused = |secret: &[u8]| {
        Issuer::new(Algorithm::HS256, EncodingKey::from_secret(secret)).token("alice", "calls")
    };
    let pem_body: String = RSA_A_PUBLIC
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(pem_body)
        .unwrap();
    let stranger = Issuer::pem(Algorithm::RS256, RSA_B);
    let mut carried = stranger.header();
    carried["jwk"] = stranger.jwk();
    let es_header = json!({ "alg": "ES256", "typ": "JWT" });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let psychic = format!(
        "{}.{}.{}",
        part(&es_header),
        part(&claims("alice", "calls")),
        URL_SAFE_NO_PAD.encode([0; 64])
    );
    vec![
        ("alg none", unsigned(json!({ "alg": "none" }))),
        (
            "alg none in other letters",
            unsigned(json!({ "alg": "nOnE" })),
        ),
        ("no alg at all", unsigned(json!({ "typ": "JWT" }))),
        ("alg empty", unsigned(json!({ "alg": "" }))),
        ("alg no string", unsigned(json!({ "alg": ["HS256"] }))),
        ("alg in lower case", heading("alg", json!("hs256"))),
        (
            "alg of another key of the verifier",
            heading("alg", json!("RS256")),
        ),
        (
            "alg that nothing implements",
            heading("alg", json!("ES512")),
        ),
        (
            "the public PEM as an HMAC secret",
            confused(RSA_A_PUBLIC.as_bytes()),
        ),
        (
            "the trimmed public PEM as an HMAC secret",
            confused(RSA_A_PUBLIC.trim().as_bytes()),
        ),
        ("the public DER as an HMAC secret", confused(&der)),
        ("an empty HMAC secret", confused(b"")),
        ("a key that nobody knows", stranger.token("alice", "calls")),
        (
            "a stranger's key under a known kid",
            stranger.clone().named("key-1").token("alice", "calls"),
        ),
        (
            "a stranger's key, brought along",
            stranger.sign(&carried, &claims("alice", "calls")),
        ),
        ("an ECDSA signature of zeros", psychic),
        ("no signature", with_part(2, "")),
        ("a short signature", good[..good.len() - 8].to_owned()),
        ("a long signature", format!("{good}AAAA")),
        (
            "another token's claims",
            with_part(
                1,
                secret().token("root", "admin").split('.').nth(1).unwrap(),
            ),
        ),
        (
            "another token's signature",
            with_part(
                2,
                secret().token("root", "admin").split('.').nth(2).unwrap(),
            ),
        ),
        ("another way to write the signature", not_canonical()),
        ("a padded signature", format!("{good}=")),
    ]
}

fn wrong_claims() -> Vec<(&'static str, String)> {
    let twice = |name: &str, value: &str| {
        let good = claims("alice", "calls").to_string();
        raw_claims(&format!("{},\"{name}\":{value}}}", &good[..good.len() - 1]))
    };
    vec![
        ("no exp", claiming("exp", None)),
        ("exp in the past", claiming("exp", Some(json!(now() - 31)))),
        ("exp at the beginning", claiming("exp", Some(json!(0)))),
        ("exp below zero", claiming("exp", Some(json!(-1)))),
        ("exp past all time", claiming("exp", Some(json!(1e300)))),
        (
            "exp as a string",
            claiming("exp", Some(json!((now() + 600).to_string()))),
        ),
        ("exp null", claiming("exp", Some(Value::Null))),
        (
            "nbf in the future",
            claiming("nbf", Some(json!(now() + 40))),
        ),
        (
            "iat in the future",
            claiming("iat", Some(json!(now() + 40))),
        ),
        ("iat no number", claiming("iat", Some(json!(true)))),
        ("no iss", claiming("iss", None)),
        (
            "another iss",
            claiming("iss", Some(json!("https://evil.example"))),
        ),
        (
            "an iss that is nearly it",
            claiming("iss", Some(json!(format!("{ISSUER}/")))),
        ),
        ("iss as an array", claiming("iss", Some(json!([ISSUER])))),
        ("no aud", claiming("aud", None)),
        (
            "another aud",
            claiming("aud", Some(json!("https://other.example"))),
        ),
        (
            "an aud that it begins with",
            claiming("aud", Some(json!("https://mcp.example"))),
        ),
        (
            "an array of other auds",
            claiming("aud", Some(json!(["a", "b"]))),
        ),
        (
            "an array that holds more than strings",
            claiming("aud", Some(json!([AUDIENCE, 1]))),
        ),
        ("an empty array of auds", claiming("aud", Some(json!([])))),
        (
            "aud as an object",
            claiming("aud", Some(json!({ AUDIENCE: true }))),
        ),
        ("no sub", claiming("sub", None)),
        ("an empty sub", claiming("sub", Some(json!("")))),
        ("sub no string", claiming("sub", Some(json!(1)))),
        ("scope no list", claiming("scope", Some(json!(7)))),
        (
            "scopes that are no strings",
            claiming("scope", Some(json!(["calls", 7]))),
        ),
        (
            "a scope with a space in it",
            claiming("scope", Some(json!(["calls admin"]))),
        ),
        ("sub twice", twice("sub", "\"root\"")),
        ("exp twice", twice("exp", "9999999999")),
        (
            "exp twice, once with escapes",
            twice("\\u0065xp", "9999999999"),
        ),
        ("a member of a member twice", twice("x", r#"{"a":1,"a":2}"#)),
        ("claims that are no object", raw_claims("[]")),
        (
            "claims with more behind",
            raw_claims(&format!("{}{{}}", claims("alice", "calls"))),
        ),
        (
            "claims behind a byte order mark",
            raw_claims(&format!("\u{feff}{}", claims("alice", "calls"))),
        ),
        (
            "claims that are not UTF-8",
            secret().sign_raw(secret().header().to_string(), b"{\"sub\":\"\xff\"}"),
        ),
    ]
}

fn wrong_forms() -> Vec<(&'static str, String)> {
    let good = secret().token("alice", "calls");
    let injected = |kid: &str, secret: &[u8]| {
        let key = EncodingKey::from_secret(secret);
        Issuer::new(Algorithm::HS256, key)
            .named(kid)
            .token("alice", "calls")
    };
    let alg_twice = r#"{"alg":"HS256","alg":"none","typ":"JWT"}"#;
    vec![
        (
            "alg twice",
            secret().sign_raw(alg_twice, claims("alice", "calls").to_string()),
        ),
        ("kid as a path", injected("../../../../dev/null", b"")),
        ("kid as SQL", injected("key-1' UNION SELECT 'a", b"a")),
        (
            "kid as a command",
            injected("key-1|touch x", &SECRET.as_bytes()[1..]),
        ),
        ("kid no string", heading("kid", json!(1))),
        ("kid too long", heading("kid", json!("k".repeat(257)))),
        ("jku", heading("jku", json!("https://evil.example/keys"))),
        ("x5u", heading("x5u", json!("https://evil.example/cert"))),
        ("x5c", heading("x5c", json!(["MIIB"]))),
        ("jwk", heading("jwk", json!({ "kty": "oct", "k": "AAAA" }))),
        ("crit", heading("crit", json!(["exp"]))),
        ("b64", heading("b64", json!(false))),
        ("zip", heading("zip", json!("DEF"))),
        ("enc", heading("enc", json!("A128GCM"))),
        ("another kind of token", heading("typ", json!("logout+jwt"))),
        ("typ no string", heading("typ", json!(null))),
        ("nothing", String::new()),
        ("one part", "abc".to_owned()),
        ("two parts", "e30.e30".to_owned()),
        ("four parts", format!("{good}.e30")),
        ("five parts", format!("{good}.e30.e30")),
        ("dots", "..".to_owned()),
        ("a space in front", format!(" {good}")),
        ("a newline behind", format!("{good}\n")),
        ("a space inside", good.replacen('.', " .", 1)),
        ("the scheme with it", format!("Bearer {good}")),
        (
            "too long",
            claiming("pad", Some(json!("x".repeat(8 * 1024)))),
        ),
        ("much too long", "x".repeat(1_000_000)),
        (
            "characters that no token has",
            "жетон.жетон.жетон".to_owned(),
        ),
        ("a null byte", format!("{good}\0")),
    ]
}

#[tokio::test]
async fn every_forged_or_broken_token_hears_the_same_word() {
    let mut line = Line::to(stack(every_key()));
    let good = secret().token("alice", "calls");
    let answer = line.ask("tools/call", add(), bearing(&good)).await;
    assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer}");

    let rows = [signatures_of_others(), wrong_claims(), wrong_forms()].concat();
    assert!(rows.len() >= 80);
    for (attack, token) in rows {
        let answer = line.ask("tools/call", add(), bearing(&token)).await;
        let error = json!({
            "code": -31401,
            "message": "refused by auth: invalid token",
            "data": { "kind": "refused", "layer": "auth", "reason": "invalid_token" },
        });
        assert_eq!(answer["error"], error, "{attack}");
    }

    let answer = line.ask("tools/call", add(), bearing(&good)).await;
    assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer}");
}

#[tokio::test]
async fn a_token_that_cannot_be_told_is_refused_as_a_wrong_way_to_bring_it() {
    let mut line = Line::to(stack(by_secret()));
    for odd in [
        json!(1),
        json!(null),
        json!([secret().token("alice", "calls")]),
    ] {
        let meta = json!({ rmcp_layers::auth::TOKEN_META_KEY: odd });
        let answer = line.ask("tools/call", add(), meta).await;
        assert_eq!(answer["error"]["code"], -31401, "{answer}");
        assert_eq!(answer["error"]["data"]["reason"], "invalid_request");
    }
}

#[tokio::test]
async fn claims_at_the_edge_of_the_leeway_and_both_forms_of_lists_are_taken() {
    let mut line = Line::to(stack(by_secret()));
    let rows = [
        ("exp just passed", claiming("exp", Some(json!(now() - 20)))),
        ("nbf soon", claiming("nbf", Some(json!(now() + 20)))),
        ("iat soon", claiming("iat", Some(json!(now() + 20)))),
        ("no iat", claiming("iat", None)),
        (
            "exp with a fraction",
            claiming("exp", Some(json!(now() as f64 + 60.5))),
        ),
        (
            "aud among others",
            claiming("aud", Some(json!(["x", AUDIENCE]))),
        ),
        (
            "scopes as an array",
            claiming("scope", Some(json!(["x", "calls"]))),
        ),
        (
            "scopes with spaces around",
            claiming("scope", Some(json!("  x calls "))),
        ),
        ("typ at+jwt", heading("typ", json!("at+jwt"))),
        (
            "typ written out",
            heading("typ", json!("application/AT+JWT")),
        ),
        ("a thumbprint", heading("x5t", json!("abc"))),
        (
            "a kid where keys have no names",
            heading("kid", json!("whatever")),
        ),
    ];
    for (form, token) in rows {
        let answer = line.ask("tools/call", add(), bearing(&token)).await;
        assert_eq!(
            answer["result"]["content"][0]["text"], "3",
            "{form}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_token_without_scopes_lets_nobody_do_anything() {
    let mut line = Line::to(stack(by_secret()));
    for scope in [
        None,
        Some(json!("")),
        Some(json!([])),
        Some(json!("CALLS")),
        Some(json!("calls,admin")),
    ] {
        let token = claiming("scope", scope.clone());
        let answer = line.ask("tools/call", add(), bearing(&token)).await;
        assert_eq!(answer["error"]["code"], -32602, "{scope:?}: {answer}");
        assert_eq!(answer["error"]["message"], "Unknown tool: add");
        let answer = line.ask("tools/list", json!({}), bearing(&token)).await;
        assert_eq!(answer["result"]["tools"], json!([]), "{scope:?}: {answer}");
    }
}

#[test]
fn a_challenge_names_no_detail_and_cannot_be_broken_out_of() {
    let error = rmcp_layers::auth::AuthError::invalid("the signature is wrong");
    let challenge =
        error.www_authenticate(Some("https://mcp.example/\"\r\nX-Evil: 1"), Some("é\\"));
    assert_eq!(
        challenge,
        r#"Bearer realm="\\", error="invalid_token", resource_metadata="https://mcp.example/\"X-Evil: 1""#
    );
    assert_eq!(error.to_string(), "invalid token");
}

#[test]
fn what_cannot_be_safe_is_not_built() {
    let refused =
        |built: Result<JwtVerifier, rmcp_layers::ConfigError>| built.unwrap_err().to_string();
    for (what, built) in [
        ("there is no key", verifier().build()),
        (
            "there is no issuer",
            JwtVerifier::builder().secret(SECRET).audience("x").build(),
        ),
        (
            "there is no audience",
            JwtVerifier::builder().secret(SECRET).issuer("x").build(),
        ),
        (
            "leave one of them out",
            verifier().secret(SECRET).any_audience().build(),
        ),
        ("needs 32 random ones", verifier().secret("short").build()),
        (
            "shorter than 2048",
            verifier().pem(crate::tokens::RSA_1024_PUBLIC).build(),
        ),
        ("private key", verifier().pem(RSA_A).build()),
        ("no public RSA", verifier().pem("-----BEGIN").build()),
        (
            "fits none of [RS256]",
            verifier()
                .secret(SECRET)
                .algorithms([Algorithm::RS256])
                .build(),
        ),
        (
            "leeway",
            verifier()
                .secret(SECRET)
                .leeway(std::time::Duration::from_secs(3600))
                .build(),
        ),
        ("the JWK set", verifier().jwks_json("{}").build()),
        (
            "no key that can be used",
            verifier()
                .jwks_json(json!({ "keys": [{ "kty": "oct", "k": "AAAA" }] }).to_string())
                .build(),
        ),
    ] {
        let error = refused(built);
        assert!(error.contains(what), "{what}: {error}");
    }
    let rules = Rules::builder()
        .tool("a*", Scopes::none())
        .tool("ab", "x")
        .build();
    assert!(
        rules
            .unwrap_err()
            .to_string()
            .contains("`ab` can never match")
    );
    let rules = Rules::builder().tool("a", "two words").build();
    assert!(rules.unwrap_err().to_string().contains("`two words`"));
}
