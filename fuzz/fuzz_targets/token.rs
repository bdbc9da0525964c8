//! Tokens and the headers they come in, whatever bytes they are.
//!
//! Nothing panics, no forged token is let in, and what is signed is let in only as whom it names. Of an input the
//! first byte says what the rest is: a header's value, a query, a token, or the header and the claims of a token that
//! is signed with the verifier's own key, so that what lies behind the signature is reached too.
//!
//! ```console
//! cargo +nightly fuzz run token -- -max_total_time=60
//! ```

#![no_main]

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Uri, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Validation, crypto};
use libfuzzer_sys::fuzz_target;
use rmcp_layers::auth::{JwtVerifier, Verifier, bearer_token, no_token_in_query};

const SECRET: &[u8] = b"sixty-four bytes that nobody else knows, not even those who guess";
const RSA: &str = include_str!("../../tests/auth/keys/rsa_a.pub.pem");
const P256: &str = include_str!("../../tests/auth/keys/p256.pub.pem");

static VERIFIER: LazyLock<JwtVerifier> = LazyLock::new(|| {
    JwtVerifier::builder()
        .secret(SECRET)
        .pem(RSA)
        .pem(P256)
        .issuer("i")
        .audience("a")
        .without_expiry()
        .build()
        .unwrap()
});

fn verify(token: &str) -> Option<rmcp_layers::auth::Verified> {
    let verified = VERIFIER.verify(token).now_or_never().expect("no waiting");
    verified.ok()
}

/// What this verifier lets in, jsonwebtoken does too.
fn agrees(token: &str) {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
    validation.set_issuer(&["i"]);
    validation.set_audience(&["a"]);
    validation.set_required_spec_claims(&["iss", "aud"]);
    validation.validate_nbf = true;
    validation.leeway = 31;
    let decoded = jsonwebtoken::decode::<std::collections::HashMap<String, serde_json::Value>>(
        token,
        &DecodingKey::from_secret(SECRET),
        &validation,
    );
    decoded.expect("a token that jsonwebtoken takes");
}

fn signed(header: &[u8], claims: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims)
    );
    let key = EncodingKey::from_secret(SECRET);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 5 {
        0 => {
            let mut headers = HeaderMap::new();
            for value in rest.split(|byte| *byte == b'\n') {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    headers.append(AUTHORIZATION, value);
                }
            }
            if let Ok(Some(token)) = bearer_token(&headers) {
                assert_eq!(headers.len(), 1);
                assert!(token.is_ascii() && !token.contains(' '));
                assert!(verify(token).is_none());
            }
        }
        1 => {
            if let Ok(uri) = Uri::try_from(rest) {
                let query = uri.query().unwrap_or_default();
                let refused = no_token_in_query(&uri).is_err();
                let plain = query.split('&').any(|pair| pair.starts_with("access_token="));
                assert!(refused || !plain);
            }
        }
        2 => {
            if let Ok(token) = std::str::from_utf8(rest) {
                assert!(verify(token).is_none(), "a forged token");
                assert!(VERIFIER.remembered(token).is_none());
            }
        }
        3 => {
            // Any header over good claims.
            let token = signed(rest, br#"{"iss":"i","aud":"a","sub":"s","scope":"x"}"#);
            if let Some(verified) = verify(&token) {
                assert_eq!(verified.principal.subject(), "s");
                assert_eq!(verified.principal.scopes(), ["x"]);
                agrees(&token);
            }
        }
        _ => {
            let token = signed(br#"{"alg":"HS256"}"#, rest);
            if let Some(verified) = verify(&token) {
                assert_eq!(verified.principal.issuer(), Some("i"));
                assert!(!verified.principal.subject().is_empty());
                assert!(verified.principal.scopes().iter().all(|scope| !scope.contains(' ')));
                assert!(VERIFIER.remembered(&token).is_some());
                agrees(&token);
            }
        }
    }
});
