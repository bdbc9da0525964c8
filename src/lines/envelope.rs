use rmcp::model::RequestId;
use serde_json::value::RawValue;

use super::start::Start;
use crate::wire::ids;

/// The maximum length of an `id` in a broken message, in bytes of JSON.
const MAX_ID: usize = 256;
/// The length of the longest field name that matters.
const MAX_NAME: usize = "jsonrpc".len();

/// The kind of a message that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A request, with its id if that can be read.
    Request(Option<RequestId>),
    Notification,
    /// The answer to this request, if its id can be read.
    Answer(Option<RequestId>),
    /// Output that is not a JSON-RPC message and was not meant to be one, for example a line of a
    /// log.
    Noise,
}

/// The outline of a message that is not parsed: the JSON-RPC fields it has, and its `id`.
///
/// It reads the message in pieces of any size and keeps none of them. A message may therefore be of
/// any length, with its `id` anywhere in it (common servers write it last).
#[derive(Debug, Default)]
pub(super) struct Envelope {
    place: Place,
    /// The number of open objects and arrays.
    depth: usize,
    string: InString,
    /// The current field's name, as far as it matters.
    name: Vec<u8>,
    /// The current value, if it is an `id`.
    value: Vec<u8>,
    id: Id,
    has_method: bool,
    has_result: bool,
    has_error: bool,
    has_jsonrpc: bool,
}

/// The position in the message's own object, not in nested values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Name,
    Value,
    /// The message is not an object.
    Elsewhere,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum InString {
    #[default]
    No,
    Yes,
    Escaped,
}

#[derive(Debug, Default)]
enum Id {
    #[default]
    None,
    One(RequestId),
    /// The id cannot be read, or there are several.
    Unknown,
}

impl Envelope {
    /// Returns the outline of a line, from the start of its message.
    pub(super) fn of(line: &[u8]) -> Self {
        let start = Start::of(line).filter(|start| !start.after_text);
        let mut envelope = Self::default();
        envelope.feed(&line[start.map_or(0, |start| start.at)..]);
        envelope
    }

    pub(super) fn feed(&mut self, piece: &[u8]) {
        for byte in piece {
            if self.place == Place::Elsewhere {
                return;
            }
            self.take(*byte);
        }
    }

    fn take(&mut self, byte: u8) {
        match (self.string, byte) {
            (InString::Escaped, _) => self.string = InString::Yes,
            (InString::Yes, b'\\') => self.string = InString::Escaped,
            (InString::Yes, b'"') => self.string = InString::No,
            (InString::Yes, _) => {}
            (InString::No, _) => return self.take_mark(byte),
        }
        self.keep(byte);
    }

    /// Reads a byte outside of strings.
    fn take_mark(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b',' if self.depth == 1 => self.end_field(),
            b':' if self.depth == 1 && self.place == Place::Name => {
                self.place = Place::Value;
                self.value.clear();
            }
            b'"' => {
                self.string = InString::Yes;
                if self.depth == 1 && self.place == Place::Name {
                    self.name.clear();
                } else {
                    self.keep(byte);
                }
            }
            // Whitespace within a value makes it two.
            _ if byte.is_ascii_whitespace() => {
                if self.place == Place::Value && !self.value.is_empty() {
                    self.keep(byte);
                }
            }
            _ if self.depth == 0 => self.place = Place::Elsewhere,
            _ => self.keep(byte),
        }
    }

    fn open(&mut self, byte: u8) {
        if self.depth == 0 {
            self.place = if byte == b'{' {
                Place::Name
            } else {
                Place::Elsewhere
            };
        } else {
            self.keep(byte);
        }
        self.depth += 1;
    }

    fn close(&mut self) {
        if self.depth == 1 {
            self.end_field();
        }
        self.depth = self.depth.saturating_sub(1);
    }

    /// Keeps a byte of a field's name, or of an `id`.
    fn keep(&mut self, byte: u8) {
        if self.depth != 1 {
            return;
        }
        match self.place {
            // One more byte distinguishes a longer name; the other is the closing quotation mark.
            Place::Name if self.name.len() < MAX_NAME + 2 => self.name.push(byte),
            Place::Value if self.name == b"id\"" && self.value.len() <= MAX_ID => {
                self.value.push(byte);
            }
            _ => {}
        }
    }

    fn end_field(&mut self) {
        if self.place == Place::Value {
            match self.name.as_slice() {
                b"id\"" => self.end_id(),
                b"method\"" => self.has_method = true,
                b"result\"" => self.has_result = true,
                b"error\"" => self.has_error = true,
                b"jsonrpc\"" => self.has_jsonrpc = true,
                _ => {}
            }
        }
        self.place = Place::Name;
        self.name.clear();
    }

    fn end_id(&mut self) {
        let id = match self.value.len() <= MAX_ID {
            true => serde_json::from_slice::<&RawValue>(&self.value).ok(),
            false => None,
        };
        self.id = match (&self.id, id.and_then(ids::read)) {
            (Id::None, Some(id)) => Id::One(id),
            (Id::One(other), Some(id)) if *other == id => Id::One(id),
            _ => Id::Unknown,
        };
    }

    /// Returns the kind of the message after its last piece.
    pub(super) fn kind(mut self) -> Kind {
        // The last field of a truncated message: its name can be trusted, its value cannot.
        if self.depth >= 1 && self.place == Place::Value && self.name != b"id\"" {
            self.end_field();
        }
        let has_id = !matches!(self.id, Id::None);
        let id = match self.id {
            Id::One(id) => Some(id),
            Id::None | Id::Unknown => None,
        };
        match id {
            id if self.has_method && has_id => Kind::Request(id),
            _ if self.has_method => Kind::Notification,
            Some(id) if self.has_jsonrpc || self.has_result || self.has_error => {
                Kind::Answer(Some(id))
            }
            None if self.has_jsonrpc || self.has_result => Kind::Answer(None),
            _ => Kind::Noise,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> Kind {
        let kinds = [1, 3, line.len().max(1)].map(|size| {
            let mut envelope = Envelope::default();
            line.as_bytes()
                .chunks(size)
                .for_each(|piece| envelope.feed(piece));
            envelope.kind()
        });
        assert!(kinds.iter().all(|kind| *kind == kinds[0]), "{kinds:?}");
        kinds[0].clone()
    }

    fn answer(id: i64) -> Kind {
        Kind::Answer(Some(RequestId::Number(id)))
    }

    #[test]
    fn an_answers_id_is_found_wherever_it_stands() {
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":5,"result":{"a":tru}}"#),
            answer(5)
        );
        assert_eq!(
            kind(r#"{ "result" : {"id":6,"x":["},\"id\":7",{}]} , "jsonrpc":"2.0", "id" : 5 }"#),
            answer(5)
        );
        assert_eq!(kind(r#"{"id":5,"error":{}}"#), answer(5));
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":"a\"}b","result":"#),
            Kind::Answer(Some(RequestId::String("a\"}b".into())))
        );
    }

    #[test]
    fn an_id_that_is_cut_off_is_none() {
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","result":{},"id":12"#),
            Kind::Answer(None)
        );
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","result":{},"id":"12"#),
            Kind::Answer(None)
        );
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","result":{"id":12,"#),
            Kind::Answer(None)
        );
    }

    #[test]
    fn two_ids_are_none() {
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":1,"result":{}}{"id":2}"#),
            Kind::Answer(None)
        );
        let long = format!(r#"{{"jsonrpc":"2.0","id":"{}"}}"#, "x".repeat(MAX_ID));
        assert_eq!(kind(&long), Kind::Answer(None));
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":null,"error":1}"#),
            Kind::Answer(None)
        );
    }

    #[test]
    fn requests_and_notifications_are_known_by_their_method() {
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":"#),
            Kind::Request(Some(RequestId::Number(1)))
        );
        for id in ["null", "{}", "7 7", "1,\"id\":2", "007"] {
            let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
            assert_eq!(kind(&line), Kind::Request(None), "{line}");
        }
        assert_eq!(
            kind(r#"{"jsonrpc":"2.0","method":"x","params":{"id":1}"#),
            Kind::Notification
        );
        assert_eq!(kind(r#"{"jsonrpc":"2.0","id":1,"methods":3}"#), answer(1));
    }

    #[test]
    fn what_was_meant_for_a_log_is_no_message() {
        for line in [
            "listening on :80",
            "[info] {\"id\":1}",
            "",
            "{",
            "{}",
            "7",
            "\"{",
        ] {
            assert_eq!(kind(line), Kind::Noise, "{line}");
        }
        assert_eq!(
            kind(r#"{"level":"error","id":7,"msg":"jsonrpc"}"#),
            Kind::Noise
        );
    }
}
