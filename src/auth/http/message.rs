//! Parses an HTTP body as far as a decision needs it.

use std::{borrow::Cow, fmt};

use rmcp::model::RequestId;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::protocol::{methods::Method, target::TargetKind};

/// One JSON-RPC message. A relevant member that occurs twice is an error: a parser that uses the
/// first and one that uses the last would decide on different requests.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(default)]
    pub(super) id: Option<RequestId>,
    #[serde(borrow, default)]
    pub(super) method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Params<'a>,
}

/// The members of a message's params that name its target.
#[derive(Debug, Default)]
struct Params<'a> {
    name: Option<Cow<'a, str>>,
    uri: Option<Cow<'a, str>>,
    task_id: Option<Cow<'a, str>>,
    reference: Option<Reference<'a>>,
}

#[derive(Debug, Default, Deserialize)]
struct Reference<'a> {
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    uri: Text<'a>,
}

impl Message<'_> {
    /// Returns the kind of the message's target, by its method.
    pub(super) fn target_kind(&self) -> Option<TargetKind> {
        Method::named(self.method.as_deref()?)?.row().target
    }

    /// Returns the target of the message, if it has a single one, as
    /// [`RequestParts::target`](crate::RequestParts::target) defines it.
    pub(super) fn target(&self) -> Option<&str> {
        let params = &self.params;
        match self.target_kind()? {
            TargetKind::Tool | TargetKind::Prompt => params.name.as_deref(),
            TargetKind::Resource | TargetKind::Skill => params.uri.as_deref(),
            TargetKind::Task => params.task_id.as_deref(),
            TargetKind::Reference => {
                let reference = params.reference.as_ref()?;
                reference.name.0.as_deref().or(reference.uri.0.as_deref())
            }
        }
    }

    /// Returns the value that `Mcp-Name` mirrors (MCP 2026-07-28, Streamable HTTP, "Standard
    /// Request Headers"; the Tasks extension).
    pub(super) fn mirrored_name(&self) -> Option<&str> {
        let method = Method::named(self.method.as_deref()?)?;
        self.target().filter(|_| method.row().is_mirrored)
    }
}

/// The messages of a body: one, or those of a batch (MCP 2025-03-26).
#[derive(Debug)]
pub(super) enum Messages<'a> {
    One(Box<Message<'a>>),
    Batch(Vec<Message<'a>>),
}

impl<'a> Messages<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, serde_json::Error> {
        let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
        if first == Some(&b'[') {
            return serde_json::from_slice(body).map(Self::Batch);
        }
        serde_json::from_slice(body).map(Self::One)
    }

    pub(super) fn all(&self) -> &[Message<'a>] {
        match self {
            Self::One(message) => std::slice::from_ref(message),
            Self::Batch(messages) => messages,
        }
    }

    pub(super) fn one(&self) -> Option<&Message<'a>> {
        match self {
            Self::One(message) => Some(message),
            Self::Batch(_) => None,
        }
    }
}

/// A string; any other JSON value is read as `None`.
#[derive(Debug, Default)]
struct Text<'a>(Option<Cow<'a, str>>);

/// Visitor methods that read every JSON value of another type as the default value.
macro_rules! nothing_else {
    ($lifetime:lifetime) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
        fn visit_seq<A: SeqAccess<$lifetime>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(Self::Value::default())
        }
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON value")
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Text<'de>;
            nothing_else!('de);
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Params<'de>;
            nothing_else!('de);
            fn visit_str<E>(self, _: &str) -> Result<Params<'de>, E> {
                Ok(Params::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Params<'de>, A::Error> {
                let mut params = Params::default();
                let mut seen = [false; 4];
                while let Some(key) = map.next_key::<Cow<'de, str>>()? {
                    let place = match &*key {
                        "name" => 0,
                        "uri" => 1,
                        "taskId" => 2,
                        "ref" => 3,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    if std::mem::replace(&mut seen[place], true) {
                        return Err(A::Error::custom("a member of params stands twice"));
                    }
                    match place {
                        0 => params.name = map.next_value::<Text<'de>>()?.0,
                        1 => params.uri = map.next_value::<Text<'de>>()?.0,
                        2 => params.task_id = map.next_value::<Text<'de>>()?.0,
                        _ => params.reference = map.next_value::<Ref<'de>>()?.0,
                    }
                }
                Ok(params)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The reference of a completion; any other JSON value is read as `None`.
#[derive(Default)]
struct Ref<'a>(Option<Reference<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Ref<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Ref<'de>;
            nothing_else!('de);
            fn visit_str<E>(self, _: &str) -> Result<Ref<'de>, E> {
                Ok(Ref(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Ref<'de>, A::Error> {
                let map = serde::de::value::MapAccessDeserializer::new(map);
                Reference::deserialize(map).map(|reference| Ref(Some(reference)))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<(String, Option<String>)> {
        let messages = Messages::read(body.as_bytes()).ok()?;
        let message = messages.one()?;
        let method = message.method.as_deref()?.to_owned();
        Some((method, message.target().map(str::to_owned)))
    }

    #[test]
    fn what_a_message_is_about_is_read_as_rmcp_reads_it() {
        for (params, method, target) in [
            (
                r#"{"name":"a\u0062","arguments":{"name":"x"}}"#,
                "tools/call",
                Some("ab"),
            ),
            (
                r#"{"uri":"file:///a"}"#,
                "resources/read",
                Some("file:///a"),
            ),
            (r#"{"taskId":"7"}"#, "tasks/get", Some("7")),
            (
                r#"{"ref":{"type":"ref/prompt","name":"p"}}"#,
                "completion/complete",
                Some("p"),
            ),
            (r#"{"ref":7}"#, "completion/complete", None),
            (r#"{"name":7}"#, "tools/call", None),
            (r#"{"name":{"name":"x"}}"#, "tools/call", None),
            ("[1, {}]", "acme/any", None),
            ("null", "tools/list", None),
            (r#""text""#, "acme/any", None),
        ] {
            let body =
                format!(r#" {{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
            let target = target.map(str::to_owned);
            assert_eq!(read(&body), Some((method.to_owned(), target)), "{body}");
        }
    }

    proptest::proptest! {
        /// Requests that rmcp accepts are read in the same way here, so the decision is on the
        /// request that runs.
        #[test]
        fn rmcp_reads_the_same(
            method in proptest::sample::select(vec![
                "tools/call", "prompts/get", "resources/read", "resources/subscribe", "tasks/get",
                "tasks/cancel", "completion/complete", "tools/list", "initialize", "acme/any",
                "resources/directory/read", "skills/get", "notifications/x",
            ]),
            keys in proptest::collection::hash_map(
                proptest::sample::select(vec![
                    "name", "uri", "taskId", "ref", "arguments", "argument", "_meta", "cursor", "other",
                ]),
                proptest::sample::select(vec![
                    r#""a""#, r#""b\u0063""#, "7", "null", "[]", "{}", r#"{"name":"n"}"#,
                    r#"{"type":"ref/prompt","name":"p"}"#, r#"{"type":"ref/resource","uri":"u"}"#,
                    r#"{"name":"n","value":"v"}"#,
                ]),
                0..6,
            ),
        ) {
            use rmcp::model::{ClientJsonRpcMessage, ClientRequest};
            let members: Vec<_> = keys.iter().map(|(key, value)| format!(r#""{key}":{value}"#)).collect();
            let params = members.join(",");
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}}}}}"#);
            if let Ok(ClientJsonRpcMessage::Request(theirs)) = serde_json::from_str(&body) {
                let custom = matches!(theirs.request, ClientRequest::CustomRequest(_));
                let theirs = crate::McpRequest::new(theirs.request);
                let ours = read(&body).expect("a request");
                proptest::prop_assert_eq!(theirs.method(), &ours.0);
                // A custom request has no target, whatever its params contain.
                if !custom {
                    proptest::prop_assert_eq!(theirs.target(), ours.1.as_deref(), "{}", body);
                }
            }
        }
    }

    #[test]
    fn a_member_that_stands_twice_is_an_error() {
        for body in [
            r#"{"method":"tools/list","method":"tools/call","params":{"name":"a"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#,
            r#"{"method":"tools/call","params":{"name":"a","n\u0061me":"b"}}"#,
        ] {
            assert!(Messages::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
