//! Issuers and their tokens.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, crypto::rust_crypto::DEFAULT_PROVIDER, jwk::Jwk};
use rmcp_layers::auth::{JwtVerifier, JwtVerifierBuilder};
use serde_json::{Value, json};

pub const SECRET: &str = "sixty-four bytes that nobody else knows, not even those who guess";
pub const ISSUER: &str = "https://issuer.example";
pub const AUDIENCE: &str = "https://mcp.example/mcp";

pub const RSA_A: &str = include_str!("keys/rsa_a.pem");
pub const RSA_A_PUBLIC: &str = include_str!("keys/rsa_a.pub.pem");
pub const RSA_B: &str = include_str!("keys/rsa_b.pem");
pub const RSA_1024_PUBLIC: &str = include_str!("keys/rsa_1024.pub.pem");
pub const P256: &str = include_str!("keys/p256.pem");
pub const P256_PUBLIC: &str = include_str!("keys/p256.pub.pem");
pub const P384: &str = include_str!("keys/p384.pem");
pub const P384_PUBLIC: &str = include_str!("keys/p384.pub.pem");
pub const ED25519: &str = include_str!("keys/ed25519.pem");
pub const ED25519_PUBLIC: &str = include_str!("keys/ed25519.pub.pem");

/// Who makes tokens.
#[derive(Clone)]
pub struct Issuer {
    pub algorithm: Algorithm,
    pub kid: Option<String>,
    key: Arc<EncodingKey>,
}

impl Issuer {
    pub fn secret(algorithm: Algorithm) -> Self {
        Self::new(algorithm, EncodingKey::from_secret(SECRET.as_bytes()))
    }

    pub fn pem(algorithm: Algorithm, pem: &str) -> Self {
        let pem = pem.as_bytes();
        let key = match algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem),
            _ => EncodingKey::from_rsa_pem(pem),
        };
        Self::new(algorithm, key.unwrap())
    }

    pub fn new(algorithm: Algorithm, key: EncodingKey) -> Self {
        Self {
            algorithm,
            kid: None,
            key: Arc::new(key),
        }
    }

    pub fn named(mut self, kid: &str) -> Self {
        self.kid = Some(kid.to_owned());
        self
    }

    /// The public half, as a set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = self.kid.clone();
        serde_json::to_value(jwk).unwrap()
    }

    pub fn header(&self) -> Value {
        let mut header = json!({ "alg": format!("{:?}", self.algorithm), "typ": "JWT" });
        if let Some(kid) = &self.kid {
            header["kid"] = kid.as_str().into();
        }
        header
    }

    /// A good token of `subject` with these scopes.
    pub fn token(&self, subject: &str, scope: &str) -> String {
        self.sign(&self.header(), &claims(subject, scope))
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(header.to_string(), claims.to_string())
    }

    /// Signs whatever it is.
    pub fn sign_raw(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        let signer = (DEFAULT_PROVIDER.signer_factory)(&self.algorithm, &self.key).unwrap();
        let signature = signer.try_sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A set of these issuers' keys.
pub fn jwks<'a>(issuers: impl IntoIterator<Item = &'a Issuer>) -> String {
    let keys: Vec<_> = issuers.into_iter().map(Issuer::jwk).collect();
    json!({ "keys": keys }).to_string()
}

pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Claims that nothing is wrong with.
pub fn claims(subject: &str, scope: &str) -> Value {
    json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "scope": scope,
        "iat": now(),
        "exp": now() + 600,
    })
}

/// A verifier of this issuer and audience that has no key yet.
pub fn verifier() -> JwtVerifierBuilder {
    JwtVerifier::builder().issuer(ISSUER).audience(AUDIENCE)
}

/// One that shares the secret.
pub fn by_secret() -> JwtVerifier {
    verifier().secret(SECRET).build().unwrap()
}
