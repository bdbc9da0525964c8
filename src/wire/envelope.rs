//! The members around the content of a server's message, and messages that are no answers.

use std::borrow::Cow;

use rmcp::model::{ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;

use super::{as_sent, numbers};

type Read<T> = serde_json::Result<T>;

/// The members of a message that tell its kind.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    #[serde(borrow)]
    jsonrpc: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// The end of a request, as its answer says.
#[derive(Clone, Copy)]
pub(crate) enum Outcome<'a> {
    Result(&'a RawValue),
    Error(&'a RawValue),
}

/// A result that is `null` is there.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

impl<'a> Envelope<'a> {
    /// Reads the envelope of a message.
    ///
    /// # Errors
    ///
    /// Fails if the text is not JSON, or not an object that has each of these members once.
    pub(crate) fn of(text: &'a [u8]) -> Read<Self> {
        if !text.trim_ascii_start().starts_with(b"{") {
            serde_json::from_slice::<IgnoredAny>(text)?;
            return Err(serde::de::Error::custom("a message is an object"));
        }
        serde_json::from_slice(text)
    }

    /// Returns the id, if it is one that a request of this side can have.
    pub(crate) fn id(&self) -> Option<RequestId> {
        serde_json::from_str(self.id?.get()).ok()
    }

    /// Returns the outcome, if the message is an answer in form.
    pub(crate) fn outcome(&self) -> Option<Outcome<'a>> {
        self.outcome_of_any_version().filter(|_| self.is_of_2_0())
    }

    fn is_of_2_0(&self) -> bool {
        let version = self.jsonrpc.map(RawValue::get);
        version == Some(r#""2.0""#)
    }

    /// Reads the message, which is not an answer to a known request, from its text.
    ///
    /// # Errors
    ///
    /// Fails if it is not a message that rmcp has a type for.
    pub(crate) fn other_in(&self, text: &[u8]) -> Read<ServerJsonRpcMessage> {
        let is_notification = self.id.is_none() && self.result.is_none() && self.error.is_none();
        if let (Some(method), Some(params)) = (self.method, self.params)
            && is_notification
            && self.is_of_2_0()
            && let Some(notification) = as_sent::common_notification(method.get(), params)
        {
            return Ok(JsonRpcMessage::notification(notification));
        }
        // A result beside it, often `null`, has no place in rmcp's type.
        if self.result.is_some()
            && let Some(Outcome::Error(error)) = self.outcome()
            && let Some(id) = self.id()
        {
            return Ok(JsonRpcMessage::error(error_in(error)?, Some(id)));
        }
        typed_in(text)
    }

    /// Returns `true` if the message is meant as an answer.
    pub(crate) fn is_answer(&self) -> bool {
        self.outcome_of_any_version().is_some()
    }

    fn outcome_of_any_version(&self) -> Option<Outcome<'a>> {
        let outcome = match (self.error, self.result) {
            (Some(error), _) => Outcome::Error(error),
            (None, result) => Outcome::Result(result?),
        };
        self.method.is_none().then_some(outcome)
    }
}

/// Reads a message by rmcp's types.
pub(super) fn typed_in(text: &[u8]) -> Read<ServerJsonRpcMessage> {
    let mut message: ServerJsonRpcMessage =
        within_range(text, |text| serde_json::from_slice(text))?;
    match &mut message {
        JsonRpcMessage::Notification(message) => as_sent::keep(&mut message.notification, text),
        JsonRpcMessage::Request(message) => as_sent::keep(&mut message.request, text),
        _ => {}
    }
    Ok(message)
}

/// Reads the error of an answer.
pub(crate) fn error_in(error: &RawValue) -> Read<ErrorData> {
    within_range(error.get().as_bytes(), |text| serde_json::from_slice(text))
}

/// Reads a value, with the largest float in the place of numbers beyond it.
fn within_range<T>(text: &[u8], read: impl Fn(&[u8]) -> Read<T>) -> Read<T> {
    read(text).or_else(|error| match std::str::from_utf8(text) {
        Ok(text) => match numbers::within_range(text) {
            Cow::Owned(text) => read(text.as_bytes()),
            Cow::Borrowed(_) => Err(error),
        },
        Err(_) => Err(error),
    })
}
