//! Answers as rmcp wrote them.

use std::ops::DerefMut;

use rmcp::model::RequestId;
use tokio_util::bytes::{BufMut, Bytes, BytesMut};

use super::ids;

/// The start of an answer. rmcp writes the members of a message in this order.
const START: &[u8] = br#"{"jsonrpc":"2.0","id":"#;
const RESULT: &[u8] = br#","result":"#;
const ERROR: &[u8] = br#","error":"#;

/// An answer as rmcp wrote it.
pub(crate) struct WrittenAnswer<'a> {
    pub(crate) id: RequestId,
    /// The text after the `id`.
    rest: &'a [u8],
}

impl<'a> WrittenAnswer<'a> {
    /// Reads the start of a message. Returns `None` if it is not an answer.
    pub(crate) fn of(message: &'a [u8]) -> Option<Self> {
        let from_id = message.strip_prefix(START)?;
        let mut ids = serde_json::Deserializer::from_slice(from_id).into_iter();
        let id = ids.next()?.ok()?;
        let rest = from_id.get(ids.byte_offset()..)?;
        let is_answer = rest.starts_with(RESULT) || rest.starts_with(ERROR);
        is_answer.then_some(Self { id, rest })
    }

    /// Returns the answer as it leaves: with the caller's own `id`, and with `result` in place of
    /// rmcp's. Returns `None` if that is how rmcp wrote it.
    pub(crate) fn with(&self, result: Option<&Bytes>) -> Option<Bytes> {
        let result = result.filter(|_| self.rest.starts_with(RESULT));
        if result.is_none() && !ids::is_marked(&self.id) {
            return None;
        }
        let id = ids::json(&self.id);
        let length = result.map_or(self.rest.len(), Bytes::len);
        let mut text = BytesMut::with_capacity(START.len() + id.len() + RESULT.len() + length + 1);
        text.put_slice(START);
        text.put_slice(id.as_bytes());
        match result {
            Some(result) => {
                text.put_slice(RESULT);
                text.put_slice(result);
                text.put_u8(b'}');
            }
            None => text.put_slice(self.rest),
        }
        Some(text.freeze())
    }
}

/// Adds a message to a line. A text that came over another transport may have line ends between its
/// tokens.
pub(crate) fn put_on_line(line: &mut (impl BufMut + DerefMut<Target = [u8]>), message: &[u8]) {
    let start = line.len();
    line.put_slice(message);
    if memchr::memchr2(b'\n', b'\r', message).is_some() {
        for byte in &mut line[start..] {
            if matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}
