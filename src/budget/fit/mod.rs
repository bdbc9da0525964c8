//! Results that are cut to their share of a budget.
//!
//! [`Fitter::fit`] is the whole interface: a result and its share go in, and a result that costs at
//! most the share comes out. Long work runs on a thread for blocking work.

mod policy;

use std::sync::Arc;

use rmcp::model::{Resource, ServerResult};
use serde_json::{Map, Value};

use super::{MediaTokens, ResultLimits, TokenCounter};
use crate::Lossless;

pub(crate) use policy::FitPolicy;
pub use policy::{Charge, KeptText, OnSchemaMisfit, RepeatedText};

/// Counts results, and cuts those that cost more than their share.
#[derive(Clone)]
pub(crate) struct Fitter {
    counter: Arc<dyn TokenCounter>,
    media: MediaTokens,
    limits: ResultLimits,
    policy: FitPolicy,
}

/// A result, and what it may cost.
pub(crate) struct ToFit {
    pub(crate) result: Lossless<ServerResult>,
    /// The maximum cost in tokens, with all notes.
    pub(crate) share: usize,
    /// The output schema that the tool shows to callers. `None` if it has none or hides it.
    pub(crate) schema: Option<Arc<OutputSchema>>,
    /// The way to the full result, if the caller of `fit` keeps it on a cut.
    pub(crate) rest: Option<Rest>,
}

/// The way to the full result. Its tokens are a part of the share.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// A sentence for the model, such as ``Call `read_result` with id "r1" for the rest.``
    pub(crate) note: String,
    /// A link to the full result, which is added to the content of a tool result.
    pub(crate) link: Option<Resource>,
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
    /// The cost of the original in tokens.
    pub(crate) total: usize,
    /// `true` if `total` was projected from a part of the original.
    pub(crate) is_estimate: bool,
    /// Places that were cut, by JSON pointer and in words. Limit: 20.
    pub(crate) places: Vec<Place>,
    /// `true` if `structuredContent` was dropped, because no cut is valid by the output schema.
    pub(crate) dropped_structured: bool,
    /// `true` if the answer became a tool error, for the same reason.
    pub(crate) became_error: bool,
}

impl Cut {
    /// Returns the facts for the `_meta` of the result.
    pub(crate) fn to_meta(&self) -> Map<String, Value> {
        todo!()
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

/// The output schema of a tool.
#[derive(Debug)]
pub(crate) struct OutputSchema {
    json: Value,
}

impl OutputSchema {
    /// Creates the schema. It is compiled when a result of the tool is cut.
    pub(crate) fn new(schema: Value) -> Self {
        Self { json: schema }
    }
}

impl Fitter {
    pub(crate) fn new(
        counter: Arc<dyn TokenCounter>,
        media: MediaTokens,
        limits: ResultLimits,
        policy: FitPolicy,
    ) -> Self {
        Self {
            counter,
            media,
            limits,
            policy,
        }
    }

    /// Returns the result as it came if it costs at most its share, else a result that does.
    ///
    /// A dropped future ends nothing that already runs on a thread for blocking work; `limits`
    /// bound it.
    pub(crate) async fn fit(&self, to_fit: ToFit) -> Result<Fitted, Unfit> {
        let _ = to_fit;
        todo!()
    }

    /// Returns the cost of a text, such as a page of a kept result or a tool's definition.
    pub(crate) async fn count(&self, text: Arc<str>) -> usize {
        let _ = text;
        todo!()
    }

    /// Returns the length in bytes of the longest start of `text[from..]` that costs at most `share`,
    /// cut after a line, a word or a character. It is greater than 0 if any character fits.
    pub(crate) async fn page(&self, text: Arc<str>, from: usize, share: usize) -> usize {
        let _ = (text, from, share);
        todo!()
    }
}
