//! Results that are cut to their share of a budget.
//!
//! [`Fitter::fit`] is the whole interface: a result and its share go in, and a result that costs at
//! most the share comes out. Long work runs on a thread for blocking work.

mod assemble;
mod cut;
mod document;
mod fitter;
mod json;
mod note;
mod parts;
mod policy;
mod rules;
mod schema;
mod shrink;
mod size;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use rmcp::model::ServerResult;
use serde_json::{Map, Value, json};

use crate::Lossless;

pub(crate) use fitter::Fitter;
pub(crate) use policy::FitPolicy;
pub use policy::{Charge, KeptText, OnSchemaMisfit, RepeatedText};
pub(crate) use schema::OutputSchema;
pub(crate) use size::is_longer;

/// The places of a cut that are reported.
const MAX_PLACES: usize = 20;

/// The longest pointer of a place that is reported, in bytes. Names may be as long as a result.
const MAX_POINTER: usize = 256;

/// A result, and what it may cost.
pub(crate) struct ToFit {
    pub(crate) result: Lossless<ServerResult>,
    /// The maximum cost in tokens, with all notes.
    pub(crate) share: usize,
    /// The output schema of the tool, also if the layer hides it.
    pub(crate) schema: Option<Arc<OutputSchema>>,
    /// The way to the full result, if the caller of `fit` keeps it on a cut.
    pub(crate) rest: Option<Rest>,
}

/// The way to the full result. Its tokens are a part of the share.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// A sentence for the model, such as ``Call `read_result` with id "r1" for the rest.``
    pub(crate) note: String,
    /// The URI of the full result. A link to it is added to the content of a tool result, if there
    /// is room. An image or resource that is left out is replaced by a link to `{uri}?pointer=` and
    /// its JSON pointer in the full result, such as `/content/3`.
    pub(crate) uri: Option<String>,
}

/// A result that costs at most its share, or that is never cut.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) result: Lossless<ServerResult>,
    /// The cost in tokens. It exceeds the share only for results that are never cut: tool errors,
    /// multi-round and task results, lists and others without content for the model.
    pub(crate) cost: usize,
    /// `None`: the result is as it came.
    pub(crate) cut: Option<Cut>,
}

/// A cut of a result.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The result before the cut.
    pub(crate) original: Lossless<ServerResult>,
    /// The JSON of its `structuredContent`, if it had to be written.
    pub(crate) structured_text: Option<String>,
    /// The cost of the original in tokens.
    pub(crate) total: usize,
    /// The density of the longest text of the original, if it has text.
    pub(crate) density: Option<Density>,
    /// `true` if `total` was projected from a part of the original.
    pub(crate) is_estimate: bool,
    /// Places that were cut, by JSON pointer and in words. Limit: 20, with pointers of 256 bytes.
    pub(crate) places: Vec<Place>,
    /// `true` if `structuredContent` was dropped, because no cut is valid by the output schema.
    pub(crate) dropped_structured: bool,
    /// `true` if the answer became a tool error, for the same reason.
    pub(crate) became_error: bool,
}

/// A number of bytes, and the tokens that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Density {
    pub(crate) bytes: usize,
    pub(crate) tokens: usize,
}

impl Cut {
    /// Returns the facts for the `_meta` of the result.
    pub(crate) fn to_meta(&self) -> Map<String, Value> {
        let places = self
            .places
            .iter()
            .map(|place| json!({ "pointer": place.pointer, "kept": place.change }));
        let mut meta = Map::new();
        meta.insert("totalTokens".to_owned(), self.total.into());
        meta.insert("totalIsEstimate".to_owned(), self.is_estimate.into());
        meta.insert("cut".to_owned(), places.collect());
        meta
    }
}

/// A place of a cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// A JSON pointer into the result, such as `/structuredContent/items`.
    pub(crate) pointer: String,
    /// The change in words, such as `12 of 1,000 items`.
    pub(crate) change: String,
}

/// A result that cannot be cut to its share.
#[derive(Debug)]
pub(crate) struct Unfit {
    /// The result as it came, if it is still there.
    pub(crate) original: Option<Box<Lossless<ServerResult>>>,
    pub(crate) reason: UnfitReason,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnfitReason {
    #[error("the result has {found} content blocks, more than the maximum of {max} (`max_blocks`)")]
    TooManyBlocks { found: usize, max: usize },
    #[error("the result has {found} bytes, more than the maximum of {max} (`max_bytes`)")]
    TooManyBytes { found: usize, max: usize },
    #[error("a share of {share} tokens has no room for any part of the result")]
    NoRoom { share: usize },
    #[error("the token counter failed")]
    CounterFailed,
}
