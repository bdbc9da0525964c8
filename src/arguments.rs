//! Arguments of calls in records: redacted, bounded, or as a hash.

use std::io;

use rmcp::model::JsonObject;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::util::{
    glob,
    text::{cut, hex},
};

/// Limits of recorded arguments: the nesting depth, and the bytes of a string and of a key.
const MAX_DEPTH: usize = 16;
const MAX_STRING: usize = 1_024;
const MAX_KEY: usize = 128;
/// Maximum of `max_bytes`.
const MOST: usize = 256 * 1024;
/// Larger arguments are hashed off the runtime's workers, because this takes about a millisecond.
const LARGE: usize = 256 * 1024;

/// The mark of a part that is not kept.
const LEFT_OUT: &str = "[left out]";

/// Keys whose values are usually secret.
const SECRET_KEYS: &[&str] = &[
    "*api*key*",
    "*authorization*",
    "*cookie*",
    "*credential*",
    "*passphrase*",
    "*passwd*",
    "*password*",
    "*private*key*",
    "*secret*",
    "*session*id*",
    "*token*",
];

/// Rules for arguments that are recorded: the keys to redact, and the number of bytes to keep.
///
/// ```
/// use rmcp_layers::ArgumentRules;
///
/// let rules = ArgumentRules::new().redact("iban").redact("card_*").max_bytes(8 * 1024);
/// # let _ = rules;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ArgumentRules {
    redact: Vec<String>,
    max_bytes: usize,
}

impl Default for ArgumentRules {
    fn default() -> Self {
        Self {
            redact: SECRET_KEYS.iter().map(|&glob| glob.to_owned()).collect(),
            max_bytes: 4 * 1024,
        }
    }
}

impl ArgumentRules {
    /// Creates rules that redact keys that look like those of secrets (`*password*`, `*token*`,
    /// `*secret*`, `*api*key*`, `*authorization*`, `*credential*`, `*cookie*`, `*private*key*`,
    /// `*passphrase*`, `*passwd*`, `*session*id*`) and keep 4 KiB.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates rules that redact only the keys added by [`redact`](Self::redact).
    pub fn nothing_redacted() -> Self {
        Self {
            redact: Vec::new(),
            ..Self::default()
        }
    }

    /// Redacts the values of keys that match this glob (`*` for any characters, `?` for one). It
    /// applies at any depth and to values of any type, and within strings that are JSON. Case is
    /// ignored. A string of more than 256 KiB that begins as JSON does is left out.
    #[must_use]
    pub fn redact(mut self, keys: impl AsRef<str>) -> Self {
        self.redact.push(keys.as_ref().to_lowercase());
        self
    }

    /// Sets the number of bytes of a call's arguments that are kept. Default: 4 KiB. Limit: 256
    /// KiB. Strings are always cut at 1 KiB and nesting at 16 levels. A marker replaces each
    /// omitted part.
    #[must_use]
    pub fn max_bytes(mut self, max: usize) -> Self {
        self.max_bytes = max;
        self
    }

    /// Returns the reason why the rules are invalid, if they are.
    pub(crate) fn invalid(&self) -> Option<String> {
        let is_valid = (1..=MOST).contains(&self.max_bytes);
        (!is_valid).then(|| format!("`max_bytes` is {}; give 1 to {MOST}", self.max_bytes))
    }

    fn is_secret(&self, key: &str) -> bool {
        let key = key.to_lowercase();
        self.redact.iter().any(|glob| glob::matches(glob, &key))
    }

    /// Returns the part of these arguments that is kept.
    pub(crate) fn keep(&self, arguments: &Map<String, Value>) -> Value {
        let mut left = self.max_bytes;
        self.object(arguments, &mut left, 0)
    }

    fn value(&self, value: &Value, left: &mut usize, depth: usize) -> Value {
        match value {
            Value::Object(map) => self.object(map, left, depth),
            Value::Array(items) => {
                if depth >= MAX_DEPTH {
                    return left_out();
                }
                let mut kept = Vec::new();
                for item in items {
                    if !take(left, 1) {
                        kept.push(left_out());
                        break;
                    }
                    kept.push(self.value(item, left, depth + 1));
                }
                Value::Array(kept)
            }
            Value::String(text) => {
                let max = MAX_STRING.min(*left);
                let redacted = self.redacted_json(text, depth);
                let kept = cut(redacted.as_deref().unwrap_or(text), max);
                *left = left.saturating_sub(kept.len() + 2);
                Value::String(kept)
            }
            Value::Number(number) => {
                take(left, 8);
                Value::Number(number.clone())
            }
            other => {
                take(left, 4);
                other.clone()
            }
        }
    }

    /// Returns a text that is JSON without the values of secret keys, if it has any. JSON that is too
    /// large to be read is left out.
    fn redacted_json(&self, text: &str, depth: usize) -> Option<String> {
        if depth >= MAX_DEPTH || !text.trim_start().starts_with(['{', '[']) {
            return None;
        }
        if text.len() > LARGE {
            return Some(LEFT_OUT.to_owned());
        }
        let value = serde_json::from_str(text).ok()?;
        let has_secrets = self.has_secrets(&value, depth + 1);
        has_secrets.then(|| {
            self.value(&value, &mut MAX_STRING.clone(), depth + 1)
                .to_string()
        })
    }

    fn has_secrets(&self, value: &Value, depth: usize) -> bool {
        match value {
            Value::Object(map) => map
                .iter()
                .any(|(key, value)| self.is_secret(key) || self.has_secrets(value, depth)),
            Value::Array(items) => items.iter().any(|item| self.has_secrets(item, depth)),
            Value::String(text) => self.redacted_json(text, depth).is_some(),
            _ => false,
        }
    }

    fn object(&self, map: &Map<String, Value>, left: &mut usize, depth: usize) -> Value {
        if depth >= MAX_DEPTH {
            return left_out();
        }
        let mut kept = Map::new();
        for (key, value) in map {
            let name = cut(key, MAX_KEY);
            if !take(left, name.len() + 4) {
                kept.insert("…".to_owned(), left_out());
                break;
            }
            let value = if self.is_secret(key) {
                Value::String("[redacted]".to_owned())
            } else {
                self.value(value, left, depth + 1)
            };
            kept.insert(name, value);
        }
        Value::Object(kept)
    }
}

fn left_out() -> Value {
    Value::String(LEFT_OUT.to_owned())
}

/// Takes `bytes` from what is left. Returns `false` if there are fewer.
fn take(left: &mut usize, bytes: usize) -> bool {
    let enough = *left >= bytes;
    *left = left.saturating_sub(bytes);
    enough
}

/// Returns `true` if these are too large to be hashed on the worker that runs the call.
pub(crate) fn are_large(arguments: &JsonObject) -> bool {
    size(arguments) > LARGE
}

/// Returns the SHA-256 hash of the value as canonical JSON (RFC 8785).
pub(crate) fn hash(value: &impl Serialize) -> Option<String> {
    struct Hasher(Sha256);
    impl io::Write for Hasher {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut hasher = Hasher(Sha256::new());
    serde_json_canonicalizer::to_writer(value, &mut hasher).ok()?;
    Some(["sha256:", &hex(&hasher.0.finalize())].concat())
}

/// Estimates the size as JSON, and stops counting above `LARGE`.
fn size(arguments: &JsonObject) -> usize {
    fn add(value: &Value, total: &mut usize) {
        if *total > LARGE {
            return;
        }
        *total += match value {
            Value::String(text) => text.len() + 2,
            _ => 8,
        };
        match value {
            Value::Array(items) => items.iter().for_each(|item| add(item, total)),
            Value::Object(map) => map.iter().for_each(|(key, value)| {
                *total += key.len() + 4;
                add(value, total);
            }),
            _ => {}
        }
    }
    let mut total = 0;
    for (key, value) in arguments {
        total += key.len() + 4;
        add(value, &mut total);
    }
    total
}

#[cfg(test)]
mod tests {
    use rmcp::model::sha256_digest;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn the_hash_is_of_canonical_json() {
        let one: Value = serde_json::from_str(r#"{"b": [1, 2.0], "a": "\u00e9"}"#).unwrap();
        let other: Value = serde_json::from_str(r#"{ "a":"é","b":[1,2] }"#).unwrap();
        assert_eq!(hash(&one), hash(&other));
        let plain = sha256_digest(r#"{"a":"é","b":[1,2]}"#.as_bytes());
        assert_eq!(hash(&one).unwrap(), plain);
        assert_ne!(hash(&json!({ "a": "e" })), hash(&other));
    }

    #[test]
    fn secrets_are_redacted_however_deep() {
        let kept = ArgumentRules::new().redact("IBAN").keep(&object(json!({
            "user": "ada",
            "Password": { "old": "a", "new": "b" },
            "auth": [{ "access_token": "t", "X-Api-Key": 7 }],
            "iban": "DE00",
        })));
        let redacted = "[redacted]";
        assert_eq!(
            kept,
            json!({
                "user": "ada",
                "Password": redacted,
                "auth": [{ "access_token": redacted, "X-Api-Key": redacted }],
                "iban": redacted,
            })
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut deep = json!("end");
        for _ in 0..100 {
            deep = json!([deep]);
        }
        let rules = ArgumentRules::new().max_bytes(2_000);
        for value in [
            json!({ "text": "x".repeat(100_000) }),
            json!({ "items": vec!["xxxxxxxxxx"; 10_000] }),
            json!({ "numbers": vec![1; 100_000] }),
            json!({ "deep": deep }),
            Value::Object((0..10_000).map(|n| (format!("k{n}"), json!(n))).collect()),
            json!({ "k".repeat(100_000): 1 }),
        ] {
            let kept = rules.keep(&object(value));
            let length = kept.to_string().len();
            assert!(length < 4_000, "{length}");
        }
    }
}
