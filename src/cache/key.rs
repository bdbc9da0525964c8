//! Cache keys: two requests are the same if their keys are equal.

use std::{cell::RefCell, sync::Arc};

use rmcp::model::JsonObject;
use serde_json::{Number, Value};
use siphasher::sip128::SipHasher13;

use super::rules::Rules;
use crate::{
    Audience, CallContext, McpRequest, Principal,
    protocol::methods::{self, Method},
};

/// Claims about the token rather than its subject (RFC 7519, section 4.1; OpenID Connect Core,
/// section 2). They differ between two tokens of the same principal.
const OF_THE_TOKEN: [&str; 7] = ["auth_time", "exp", "iat", "jti", "nbf", "nonce", "at_hash"];

/// Largest buffer that is reused for the next request, in bytes.
const MAX_REUSED: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A request's key and its hash.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub hash: u128,
    pub bytes: Arc<[u8]>,
    /// Length of the part that identifies the request. The rest identifies the caller.
    asked: usize,
}

/// A key during a lookup, in a reused buffer.
pub(super) struct Draft<'a> {
    bytes: &'a mut Vec<u8>,
    asked: usize,
    hasher: &'a SipHasher13,
}

impl Draft<'_> {
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes
    }

    pub(super) fn hash(&self) -> u128 {
        self.hasher.hash(self.bytes).as_u128()
    }

    /// Calls `look` with the public form of the key.
    pub(super) fn as_everybody<T>(&mut self, look: impl FnOnce(u128, &[u8]) -> T) -> T {
        let own = self.bytes.split_off(self.asked);
        self.bytes.extend(Audience::everybody().to_bytes());
        let found = look(self.hash(), self.bytes);
        self.bytes.truncate(self.asked);
        self.bytes.extend(own);
        found
    }

    pub(super) fn to_key(&self, hash: u128) -> Key {
        Key {
            hash,
            bytes: self.bytes.as_slice().into(),
            asked: self.asked,
        }
    }
}

impl Key {
    /// Returns `true` if the key is for this [message](message), in any stack and from any caller.
    pub(super) fn is_of(&self, message: &[u8]) -> bool {
        let of_all_stacks = self.bytes.get(STACK..);
        of_all_stacks.is_some_and(|bytes| bytes.starts_with(message))
    }

    /// Returns the public form of the key, without the caller.
    pub(super) fn for_everybody(&self, hasher: &SipHasher13) -> Self {
        let asked = self.bytes.get(..self.asked);
        let mut bytes = asked.unwrap_or(&self.bytes).to_vec();
        bytes.extend(Audience::everybody().to_bytes());
        Self {
            hash: hasher.hash(&bytes).as_u128(),
            bytes: bytes.into(),
            asked: self.asked,
        }
    }
}

/// Length of the stack number, in bytes.
const STACK: usize = size_of::<u32>();

/// Returns the part of a request's key that depends on its message alone. The part is
/// self-delimiting, so the key of another message never begins with it.
pub(super) fn message(method: Method, request: &McpRequest) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_message(&mut bytes, method, request);
    bytes
}

/// Calls `look` with the request's key.
pub(super) fn with_key<T>(
    stack: u32,
    method: Method,
    request: &McpRequest,
    audience: &Audience,
    rules: &Rules,
    hasher: &SipHasher13,
    look: impl FnOnce(&mut Draft<'_>) -> T,
) -> T {
    // `look` may compute another key meanwhile: it then finds an empty buffer.
    let mut bytes = BUFFER.with(RefCell::take);
    bytes.clear();
    bytes.extend(stack.to_le_bytes());
    write_message(&mut bytes, method, request);
    write_context(&mut bytes, &request.context, rules);
    if let Some(vary) = &rules.vary_by {
        let at = bytes.len();
        bytes.extend([0; 4]);
        vary(request, &mut bytes);
        let length = u32::try_from(bytes.len() - at - 4).unwrap_or(u32::MAX);
        // The operator's bytes are framed by their length, since they may hold any value.
        if let Some(frame) = bytes.get_mut(at..at + 4) {
            frame.copy_from_slice(&length.to_le_bytes());
        }
    }
    let asked = bytes.len();
    audience.write_to(&mut bytes);
    if let Some(principal) = request.context.principal() {
        write_rights(&mut bytes, principal);
    }
    let found = look(&mut Draft {
        bytes: &mut bytes,
        asked,
        hasher,
    });
    if bytes.capacity() <= MAX_REUSED {
        BUFFER.with(|buffer| buffer.replace(bytes));
    }
    found
}

/// Every part is tagged or preceded by its length, so that different parts never produce the same
/// bytes.
fn write_message(bytes: &mut Vec<u8>, method: Method, request: &McpRequest) {
    text(bytes, method.name());
    text(bytes, request.target().unwrap_or_default());
    if let Some(given) = methods::arguments(&request.message) {
        arguments(bytes, given);
    } else if let Some(page) = methods::page_params(&request.message) {
        cursor(bytes, page.and_then(|page| page.cursor.as_ref()));
    }
}

fn write_context(bytes: &mut Vec<u8>, context: &CallContext, rules: &Rules) {
    object(bytes, &context.meta.0.0, |key| rules.ignores(key));
    let caller = &context.caller;
    // A server's response may depend on whether it can send requests to its caller.
    bytes.push(u8::from(caller.is_detached()) | u8::from(caller.answers_requests()) << 1);
    let Some(handshake) = caller.handshake() else {
        bytes.push(0);
        return;
    };
    bytes.push(1);
    text(bytes, handshake.protocol_version.as_str());
    let capabilities = &handshake.capabilities;
    if capabilities.experimental.is_none() && capabilities.extensions.is_none() {
        // JSON is self-delimiting. A part that cannot be written is left out the same way each
        // time.
        let _ = serde_json::to_writer(&mut *bytes, capabilities);
    } else if let Ok(capabilities) = serde_json::to_value(capabilities) {
        // The members of an extension's settings may come in any order, so their keys are sorted.
        value(bytes, &capabilities);
    }
    if !rules.ignores(CLIENT_INFO) {
        let _ = serde_json::to_writer(&mut *bytes, &handshake.client_info);
    }
}

/// `_meta` key in which a caller of 2026-07-28 names its implementation.
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";

/// Writes the rights of a principal: a response under one token is not valid for a token with fewer
/// scopes.
fn write_rights(bytes: &mut Vec<u8>, principal: &Principal) {
    for scope in principal.scopes() {
        text(bytes, scope);
    }
    bytes.push(0xff);
    object(bytes, principal.claims(), |claim| {
        OF_THE_TOKEN.contains(&claim)
    });
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn cursor(bytes: &mut Vec<u8>, cursor: Option<&String>) {
    bytes.push(u8::from(cursor.is_some()));
    text(bytes, cursor.map_or("", String::as_str));
}

fn arguments(bytes: &mut Vec<u8>, arguments: Option<&JsonObject>) {
    match arguments {
        Some(arguments) => object(bytes, arguments, |_| false),
        None => bytes.push(tag::NULL),
    }
}

mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const NATURAL: u8 = 3;
    pub(super) const NEGATIVE: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const DIGITS: u8 = 6;
    pub(super) const TEXT: u8 = 7;
    pub(super) const ARRAY: u8 = 8;
    pub(super) const OBJECT: u8 = 9;
    pub(super) const MEMBER: u8 = 10;
    pub(super) const END: u8 = 11;
}

/// Writes an object's members in the order of their keys, independent of the map's order.
fn object(bytes: &mut Vec<u8>, object: &JsonObject, skip: impl Fn(&str) -> bool) {
    let mut member = |key: &String, member: &Value| {
        if !skip(key) {
            bytes.push(tag::MEMBER);
            text(bytes, key);
            value(bytes, member);
        }
    };
    if object.keys().is_sorted() {
        object.iter().for_each(|(key, value)| member(key, value));
    } else {
        let mut members: Vec<_> = object.iter().collect();
        members.sort_unstable_by_key(|(key, _)| *key);
        members
            .into_iter()
            .for_each(|(key, value)| member(key, value));
    }
    bytes.push(tag::END);
}

fn value(bytes: &mut Vec<u8>, json: &Value) {
    match json {
        Value::Null => bytes.push(tag::NULL),
        Value::Bool(false) => bytes.push(tag::FALSE),
        Value::Bool(true) => bytes.push(tag::TRUE),
        Value::Number(json) => number(bytes, json),
        Value::String(json) => {
            bytes.push(tag::TEXT);
            text(bytes, json);
        }
        Value::Array(items) => {
            bytes.push(tag::ARRAY);
            items.iter().for_each(|item| value(bytes, item));
            bytes.push(tag::END);
        }
        Value::Object(json) => {
            bytes.push(tag::OBJECT);
            object(bytes, json, |_| false);
        }
    }
}

/// 2^63 and 2^64, which `f64` represents exactly.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// Writes a number by its value, not its form: `1`, `1.0` and `1e0` are equal, and so are 0 and -0
/// (RFC 8785, section 3.2.2.3). Integers are compared as integers: 2^53 and 2^53 + 1 differ.
fn number(bytes: &mut Vec<u8>, number: &Number) {
    if let Some(natural) = number.as_u64() {
        return natural_number(bytes, natural);
    }
    if let Some(negative) = number.as_i64() {
        bytes.push(tag::NEGATIVE);
        bytes.extend(negative.to_le_bytes());
        return;
    }
    match number.as_f64() {
        // With serde_json's `arbitrary_precision` a number may have more digits than a float holds.
        Some(float) if Number::from_f64(float).as_ref() == Some(number) => {
            if float.fract() == 0.0 && (0.0..TWO_64).contains(&float) {
                natural_number(bytes, float as u64);
            } else if float.fract() == 0.0 && (-TWO_63..0.0).contains(&float) {
                bytes.push(tag::NEGATIVE);
                bytes.extend((float as i64).to_le_bytes());
            } else {
                bytes.push(tag::FLOAT);
                bytes.extend(float.to_bits().to_le_bytes());
            }
        }
        _ => {
            bytes.push(tag::DIGITS);
            text(bytes, &number.to_string());
        }
    }
}

fn natural_number(bytes: &mut Vec<u8>, natural: u64) {
    bytes.push(tag::NATURAL);
    bytes.extend(natural.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    fn written(json: &str) -> Vec<u8> {
        let json: Value = serde_json::from_str(json).unwrap();
        let mut bytes = Vec::new();
        super::value(&mut bytes, &json);
        bytes
    }

    #[test]
    fn the_order_of_keys_and_the_form_of_numbers_do_not_matter() {
        for (one, other) in [
            (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#),
            ("1", "1.0"),
            ("1", "1e0"),
            ("10", "1E1"),
            ("-5", "-5.0"),
            ("0", "-0.0"),
            ("0.5", "5e-1"),
            ("1e16", "10000000000000000"),
            (r#"[{"x":[1.0]}]"#, r#"[{"x":[1]}]"#),
        ] {
            assert_eq!(written(one), written(other), "{one} {other}");
        }
    }

    #[test]
    fn different_values_stay_different() {
        let all = [
            "null",
            "true",
            "false",
            "0",
            "1",
            "-1",
            "0.1",
            "1.5",
            "9007199254740992",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775808",
            "1e300",
            "\"1\"",
            "\"\"",
            "[]",
            "[[]]",
            "[1]",
            "[1,2]",
            "[12]",
            "[[1],2]",
            "[[1,2]]",
            "{}",
            r#"{"a":null}"#,
            r#"{"a":{"b":1}}"#,
            r#"{"a":{},"b":1}"#,
            r#"{"a":"b"}"#,
            r#"["a","b"]"#,
            r#"["ab"]"#,
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(written(one), written(other), "{one} {other}");
            }
        }
    }

    #[test]
    fn an_objects_order_is_the_keys_in_any_map() {
        let mut map = serde_json::Map::new();
        for key in ["b", "c", "a"] {
            map.insert(key.to_owned(), json!(1));
        }
        let mut bytes = Vec::new();
        super::object(&mut bytes, &map, |_| false);
        let at = |key: u8| bytes.iter().position(|byte| *byte == key).unwrap();
        assert!(at(b'a') < at(b'b') && at(b'b') < at(b'c'));
    }
}
