//! Keys for the verification of tokens, each with its algorithms.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    crypto::rust_crypto::DEFAULT_PROVIDER,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::parse::Compact;

/// Limit of keys in a set. Issuers usually have two or three.
const MAX_KEYS: usize = 100;
/// Limit of keys that are tried on one token.
const MAX_TRIES: usize = 4;
/// Minimum length of an RSA modulus in bytes (RFC 7518, section 3.3).
const MIN_RSA_BYTES: usize = 2048 / 8;

/// A key for the verification of signatures.
#[derive(Debug)]
pub(super) struct Key {
    /// A digest of the key, its `kid` and its `alg`. It is equal for the same key in a later set.
    pub(super) id: u64,
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A set of keys.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

/// The result of verifying a signature with a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// Signed by this key.
    By(u64),
    /// Not signed by any key of the set. A newer set may contain the key, also under a name that
    /// another key has now.
    Unknown,
}

impl Key {
    /// Creates a key from a shared secret.
    pub(super) fn secret(kid: Option<String>, secret: &[u8]) -> Result<Self, String> {
        let algorithms: Vec<_> = [
            (Algorithm::HS256, 32),
            (Algorithm::HS384, 48),
            (Algorithm::HS512, 64),
        ]
        .into_iter()
        .filter(|(_, least)| secret.len() >= *least)
        .map(|(algorithm, _)| algorithm)
        .collect();
        if algorithms.is_empty() {
            return Err(format!(
                "the secret has {} bytes: HS256 needs 32 random ones (RFC 7518, section 3.2)",
                secret.len()
            ));
        }
        Self::checked(kid, algorithms, DecodingKey::from_secret(secret), secret)
    }

    /// Creates a key from a public key in PEM.
    pub(super) fn pem(kid: Option<String>, pem: &[u8]) -> Result<Self, String> {
        if pem.windows(11).any(|word| word == b"PRIVATE KEY") {
            return Err(
                "the PEM has a private key: give the public one, a verifier needs no other".into(),
            );
        }
        if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
            let bytes = key.try_get_as_bytes().map_err(|error| error.to_string())?;
            let components = DEFAULT_PROVIDER
                .key_utils
                .rsa_pub_components_from_public_key;
            let (modulus, _) = components(bytes).map_err(|error| error.to_string())?;
            return Self::rsa(kid, key.clone(), &modulus);
        }
        if let Ok(key) = DecodingKey::from_ec_pem(pem) {
            let bytes = key
                .try_get_as_bytes()
                .map_err(|error| error.to_string())?
                .to_vec();
            let algorithm = match bytes.len() {
                65 => Algorithm::ES256,
                97 => Algorithm::ES384,
                _ => return Err("the EC key is on neither P-256 nor P-384".into()),
            };
            return Self::checked(kid, vec![algorithm], key, &bytes);
        }
        let key = DecodingKey::from_ed_pem(pem)
            .map_err(|_| "the PEM has no public RSA, EC or Ed25519 key".to_owned())?;
        let bytes = key
            .try_get_as_bytes()
            .map_err(|error| error.to_string())?
            .to_vec();
        Self::checked(kid, vec![Algorithm::EdDSA], key, &bytes)
    }

    fn rsa(kid: Option<String>, key: DecodingKey, modulus: &[u8]) -> Result<Self, String> {
        let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = &modulus[zeros..];
        if modulus.len() < MIN_RSA_BYTES {
            return Err("the RSA key is shorter than 2048 bits (RFC 7518, section 3.3)".into());
        }
        let algorithms = AlgorithmFamily::Rsa.algorithms().to_vec();
        Self::checked(kid, algorithms, key, modulus)
    }

    /// Creates a key from a member of a JWK set (RFC 7517).
    pub(super) fn jwk(jwk: Value) -> Result<Self, String> {
        if jwk.get("d").is_some() {
            return Err("it is a private key: every reader of the set can sign".into());
        }
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|error| error.to_string())?;
        let common = &jwk.common;
        let signs = common
            .public_key_use
            .as_ref()
            .is_none_or(|used| *used == PublicKeyUse::Signature);
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return Err("it is not for signatures".into());
        }
        let decode = |text: &str| {
            let decoded = URL_SAFE_NO_PAD.decode(text);
            decoded.map_err(|_| "a member is not base64url".to_owned())
        };
        let key = || DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string());
        let kid = common.key_id.clone();
        let mut made = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => Self::rsa(kid, key()?, &decode(&rsa.n)?)?,
            AlgorithmParameters::EllipticCurve(ec) => {
                let (algorithm, length) = match ec.curve {
                    EllipticCurve::P256 => (Algorithm::ES256, 32),
                    EllipticCurve::P384 => (Algorithm::ES384, 48),
                    _ => return Err("its curve is neither P-256 nor P-384".into()),
                };
                let (x, y) = (decode(&ec.x)?, decode(&ec.y)?);
                if x.len() != length || y.len() != length {
                    return Err("its coordinates do not fit its curve".into());
                }
                Self::checked(kid, vec![algorithm], key()?, &[x, y].concat())?
            }
            AlgorithmParameters::OctetKeyPair(pair) => {
                if pair.curve != EllipticCurve::Ed25519 {
                    return Err("its curve is not Ed25519".into());
                }
                Self::checked(kid, vec![Algorithm::EdDSA], key()?, &decode(&pair.x)?)?
            }
            AlgorithmParameters::OctetKey(_) => {
                return Err("it is a shared secret: every reader of the set can sign".into());
            }
            _ => return Err("its type is not known".into()),
        };
        if let Some(named) = common.key_algorithm {
            made.algorithms
                .retain(|algorithm| KeyAlgorithm::from(*algorithm) == named);
            made.id ^= id_of(Sha256::new_with_prefix(named.to_string()));
        }
        match made.algorithms.is_empty() {
            true => Err("its `alg` does not fit its type".into()),
            false => Ok(made),
        }
    }

    fn checked(
        kid: Option<String>,
        algorithms: Vec<Algorithm>,
        decoding: DecodingKey,
        material: &[u8],
    ) -> Result<Self, String> {
        for algorithm in &algorithms {
            (DEFAULT_PROVIDER.verifier_factory)(algorithm, &decoding)
                .map_err(|error| format!("the key is malformed: {error}"))?;
        }
        let mut digest = Sha256::new();
        let name = kid.as_deref().unwrap_or_default();
        digest.update(name.len().to_be_bytes());
        digest.update(name);
        digest.update(material);
        Ok(Self {
            id: id_of(digest),
            kid,
            algorithms,
            decoding,
        })
    }

    /// Removes the algorithms that the operator does not allow. Returns `false` if none are left.
    pub(super) fn allow(&mut self, allowed: &[Algorithm]) -> bool {
        self.algorithms
            .retain(|algorithm| allowed.contains(algorithm));
        !self.algorithms.is_empty()
    }

    /// The crypto provider is named explicitly. jsonwebtoken panics if the process has several
    /// providers compiled in and none installed, and that choice belongs to the application.
    fn has_signed(&self, token: &Compact<'_>) -> bool {
        (DEFAULT_PROVIDER.verifier_factory)(&token.algorithm, &self.decoding)
            .is_ok_and(|verifier| verifier.verify(token.signed, &token.signature).is_ok())
    }
}

fn id_of(digest: Sha256) -> u64 {
    let mut id = [0; 8];
    id.copy_from_slice(&digest.finalize()[..8]);
    u64::from_be_bytes(id)
}

impl KeySet {
    pub(super) fn new(keys: Vec<Key>) -> Self {
        Self(keys)
    }

    /// Parses a JWK set. Unusable keys are skipped (RFC 7517, section 5). A set without usable keys
    /// is an error.
    pub(super) fn parse(json: &[u8], allowed: Option<&[Algorithm]>) -> Result<Self, String> {
        let mut set: Value =
            serde_json::from_slice(json).map_err(|error| format!("it is not JSON: {error}"))?;
        let Some(Value::Array(members)) = set.get_mut("keys").map(Value::take) else {
            return Err("it has no `keys`".to_owned());
        };
        let mut keys = Vec::new();
        for member in members.into_iter().take(MAX_KEYS) {
            let kid = member.get("kid").cloned();
            match Key::jwk(member) {
                Ok(mut key) => {
                    if allowed.is_none_or(|allowed| key.allow(allowed)) {
                        keys.push(key);
                    }
                }
                Err(reason) => tracing::warn!(?kid, reason, "a key of a JWK set is passed over"),
            }
        }
        match keys.is_empty() {
            true => Err("it has no key that can be used".to_owned()),
            false => Ok(Self(keys)),
        }
    }

    pub(super) fn into_keys(self) -> Vec<Key> {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, id: u64) -> bool {
        self.0.iter().any(|key| key.id == id)
    }

    pub(super) fn names(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().all(|key| other.has(key.id))
    }

    /// Verifies a signature with the key that the token names. If the set does not have that key,
    /// keys without a `kid` are tried. For a token without a `kid`, all keys are tried.
    pub(super) fn verify(&self, token: &Compact<'_>) -> Signed {
        let kid = token.kid.as_deref();
        let named = |key: &&Key| kid.is_some() && key.kid.as_deref() == kid;
        let is_named = self.0.iter().any(|key| named(&key));
        let candidates = self
            .0
            .iter()
            .filter(|key| match (is_named, kid) {
                (true, _) => named(key),
                (false, Some(_)) => key.kid.is_none(),
                (false, None) => true,
            })
            .filter(|key| key.algorithms.contains(&token.algorithm));
        match candidates.take(MAX_TRIES).find(|key| key.has_signed(token)) {
            Some(key) => Signed::By(key.id),
            None => Signed::Unknown,
        }
    }
}
