use std::{
    fmt,
    ops::{Deref, DerefMut},
};

use rmcp::model::{ClientRequest, CustomResult, ServerResult};
use serde_json::{Value, value::RawValue};
use tokio_util::bytes::Bytes;

use super::{
    answers::ReadResult,
    apply::{Elements, apply_to},
    members, numbers,
};
use crate::protocol::methods::{self, Method};

/// The length up to which a text is copied. A longer one keeps the buffer alive that it was read
/// into.
const COPIED: usize = 4 * 1024;

/// A typed message that leaves as it came.
///
/// rmcp's types have no place for members that no revision defines, for those of a revision that
/// rmcp does not know, or for numbers beyond their range. So a message that was read from a
/// transport keeps its text beside the typed value. Where it leaves the process, the changes that
/// layers made to the typed value are applied to that text. All else leaves as it came, with the
/// order of its members and the digits of its numbers.
///
/// It dereferences to the typed value. A mutable borrow marks the value as changed. An unchanged
/// value leaves as its text, without being serialized. So a layer borrows mutably only if it
/// changes the value:
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock, ServerResult};
/// use rmcp_layers::McpResponse;
///
/// fn without_content(response: &mut McpResponse) {
///     if let ServerResult::CallToolResult(tool) = &*response.result
///         && tool.is_error == Some(true)
///         && let ServerResult::CallToolResult(tool) = &mut *response.result
///     {
///         tool.content.clear();
///     }
/// }
/// # let block = ContentBlock::text("no");
/// # let mut response = McpResponse::new(CallToolResult::error(vec![block]));
/// # without_content(&mut response);
/// # assert!(response.as_tool_result().is_some_and(|tool| tool.content.is_empty()));
/// ```
///
/// # Changes
///
/// - A member that a layer sets, changes or removes leaves so.
/// - Elements of a list are found by their `name`, `uri` or `uriTemplate`. An element that a layer
///   adds, or renames, leaves as its type writes it.
/// - A block of content, or the contents of a resource, whose `text`, `data` or `blob` a layer changes
///   loses the members that its type does not have. They may repeat what the layer has removed.
/// - A value that replaces the whole (`response.result = result.into()`) leaves as its type writes
///   it. To keep the text, assign to the typed value: `*response.result = result`.
#[derive(Clone)]
pub struct Lossless<T> {
    value: T,
    source: Option<Source>,
    is_changed: bool,
}

/// The text of a typed value.
#[derive(Clone)]
pub(crate) struct Source {
    text: Bytes,
    reading: Reading,
    has_more: bool,
}

/// The way in which a text was read. A second reading gives the value before any change.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    /// The params of a request. `None`: of a custom one.
    Params(Option<Method>),
    Result(ReadResult),
}

impl Source {
    /// Creates the source of a text, which is JSON.
    pub(crate) fn new(text: Bytes, reading: Reading) -> Self {
        let text = match text.len() <= COPIED {
            true => Bytes::copy_from_slice(&text),
            false => text,
        };
        Self {
            text,
            reading,
            has_more: false,
        }
    }

    /// Sets whether the text has members that the type does not have.
    pub(crate) fn with_more(mut self, has_more: bool) -> Self {
        self.has_more = has_more;
        self
    }

    pub(crate) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(crate) fn reading(&self) -> Reading {
        self.reading
    }

    /// Replaces the text. It is read in the same way.
    pub(crate) fn with_text(&self, text: Bytes) -> Self {
        Self {
            text,
            ..self.clone()
        }
    }

    /// Returns the text with the changes from the value that was read to `now`.
    fn changed_to(&self, now: &Value, elements: Elements) -> Option<Bytes> {
        let text: &RawValue = serde_json::from_slice(&self.text).ok()?;
        let read = self.reading.json(&self.text)?;
        apply_to(text, &read, now, elements).ok().map(Bytes::from)
    }
}

impl<T> Lossless<T> {
    /// Creates a value that came from no text.
    pub fn new(value: T) -> Self {
        Self {
            value,
            source: None,
            is_changed: false,
        }
    }

    /// Returns the typed value.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// Creates a value that was read from a text.
    pub(crate) fn from_source(value: T, source: Option<Source>) -> Self {
        Self {
            value,
            source,
            is_changed: false,
        }
    }

    pub(crate) fn source(&self) -> Option<&Source> {
        self.source.as_ref()
    }

    pub(crate) fn set_source(&mut self, source: Option<Source>) {
        self.source = source;
        self.is_changed = false;
    }

    /// Makes the text a copy, which keeps no larger buffer alive.
    pub(crate) fn copy_text(&mut self) {
        if let Some(source) = &mut self.source
            && source.text.len() > COPIED
        {
            source.text = Bytes::copy_from_slice(&source.text);
        }
    }

    /// Replaces the text by that of the typed value as it is now.
    pub(crate) fn set_text(&mut self, text: Bytes) {
        if let Some(source) = &mut self.source {
            source.text = text;
            self.is_changed = false;
        }
    }

    /// Returns the text, if it is that of the typed value as it is now.
    pub(super) fn unchanged_text(&self) -> Option<&Bytes> {
        let source = self.source.as_ref().filter(|_| !self.is_changed);
        source.map(|source| &source.text)
    }

    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns the value for a change that a second reading of the text repeats.
    pub(crate) fn as_read_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// Returns another type's value with the same text.
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Lossless<U> {
        Lossless {
            value: map(self.value),
            source: self.source,
            is_changed: self.is_changed,
        }
    }
}

impl Lossless<ServerResult> {
    /// Returns the text that the result leaves as. Returns `None` if the result came from no text.
    pub(crate) fn text(&self) -> Option<Bytes> {
        let source = self.source.as_ref()?;
        if !self.is_changed {
            return Some(source.text.clone());
        }
        source.changed_to(
            &serde_json::to_value(&self.value).ok()?,
            Elements::ByIdentity,
        )
    }

    /// Makes the text that the result leaves as its source, so that later changes start from it.
    pub(crate) fn apply_changes(&mut self) {
        if self.is_changed {
            match self.text() {
                Some(text) => self.set_text(text),
                None => self.set_source(None),
            }
        }
    }
}

impl Lossless<ServerResult> {
    /// Changes values inside the result, and moves none. `change` returns `true` if it has changed
    /// the result.
    ///
    /// The text is changed at once, so that an element is found by its place, whatever a layer
    /// changes later.
    pub(crate) fn change_in_place(&mut self, change: impl FnOnce(&mut ServerResult) -> bool) {
        self.apply_changes();
        if !change(&mut self.value) {
            return;
        }
        self.source = self.source.take().and_then(|source| {
            let now = serde_json::to_value(&self.value).ok()?;
            let text = source.changed_to(&now, Elements::InPlace)?;
            Some(source.with_text(text))
        });
    }
}

impl Lossless<ServerResult> {
    /// Changes the JSON of a result: of its text, or else of a custom result. `change` returns
    /// `true` if it has changed the JSON, and moves no element of a list.
    pub(crate) fn change_json(&mut self, change: impl FnOnce(&mut Value) -> bool) {
        self.apply_changes();
        let Some(source) = &self.source else {
            if let ServerResult::CustomResult(CustomResult(json)) = &mut self.value {
                change(json);
            }
            return;
        };
        let changed = source.with_changed_json(change);
        if let Some((source, value)) = changed {
            self.value = value;
            self.source = Some(source);
        }
    }
}

impl Source {
    fn with_changed_json(
        &self,
        change: impl FnOnce(&mut Value) -> bool,
    ) -> Option<(Self, ServerResult)> {
        let Reading::Result(reading) = self.reading else {
            return None;
        };
        let text: &RawValue = serde_json::from_slice(&self.text).ok()?;
        let came = serde_json::from_str(text.get());
        let came: Value = came
            .or_else(|_| serde_json::from_str(&numbers::within_range(text.get())))
            .ok()?;
        let mut now = came.clone();
        if !change(&mut now) {
            return None;
        }
        let text = apply_to(text, &came, &now, Elements::InPlace).ok()?;
        let value = reading.read(&text).ok()?;
        Some((self.with_text(text.into()), value))
    }
}

impl Lossless<ClientRequest> {
    /// Returns `true` if the params have members that their type does not have, or numbers with more
    /// digits than it holds. The answer may depend on them.
    pub(crate) fn has_more(&self) -> bool {
        self.source.as_ref().is_some_and(|source| {
            let text = || std::str::from_utf8(&source.text).unwrap_or_default();
            source.has_more || numbers::has_rounded(text())
        })
    }

    /// Sets the name or the URI of the request's target, in the typed value and in the text.
    pub(crate) fn set_target(&mut self, name: &str) {
        let kind = match methods::target(&self.value) {
            Some(target) if target.name != name => target.kind,
            _ => return,
        };
        if self.is_changed || self.source.is_none() {
            return methods::set_target(self, name.to_owned());
        }
        let of = match Method::of(&self.value) {
            Some(method) => method.row().target,
            None => Some(kind),
        };
        let text = self.source.as_ref().zip(of).and_then(|(source, of)| {
            // A reference has a name or a URI. Beside it, the other one is a member like any.
            let is_own = |path: &&&str| kind.members().iter().any(|own| path.ends_with(own));
            let mut paths = of.members().iter().filter(is_own);
            paths.find_map(|path| members::with_string_at(&source.text, path, name))
        });
        methods::set_target(&mut self.value, name.to_owned());
        self.source = self
            .source
            .take()
            .zip(text)
            .map(|(source, text)| source.with_text(text.into()));
    }

    /// Returns a copy of a request that is about to leave for another process. If it leaves as its
    /// text, the copy takes the arguments of a tool call, which are costly to copy.
    pub(crate) fn take_copy(&mut self) -> Self {
        let arguments = match &mut self.value {
            ClientRequest::CallToolRequest(call) if self.source.is_some() && !self.is_changed => {
                call.params.arguments.take()
            }
            _ => None,
        };
        let mut copy = self.clone();
        if let ClientRequest::CallToolRequest(call) = &mut copy.value
            && arguments.is_some()
        {
            call.params.arguments = arguments;
        }
        copy
    }

    /// Returns the params that the request leaves with, without this hop's `_meta`. Returns `None`
    /// if the request came from no text.
    pub(crate) fn params(&self) -> Option<Bytes> {
        let source = self.source.as_ref()?;
        if !self.is_changed {
            return Some(source.text.clone());
        }
        source.changed_to(
            &super::caller::params_of(&self.value)?,
            Elements::ByIdentity,
        )
    }
}

impl Reading {
    /// Returns the typed value in a text, as JSON.
    fn json(self, text: &[u8]) -> Option<Value> {
        match self {
            Self::Params(method) => super::caller::params_as_read(method, text),
            Self::Result(reading) => serde_json::to_value(reading.read(text).ok()?).ok(),
        }
    }
}

impl<T> Deref for Lossless<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Lossless<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.is_changed = true;
        &mut self.value
    }
}

impl<T> From<T> for Lossless<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Lossless<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("length", &self.text.len())
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}
