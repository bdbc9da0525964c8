//! The cut of JSON to a number of tokens.

use super::{
    document::Document,
    policy::KeptText,
    rules::Rules,
    shrink::{Shrink, Shrunk},
};
use crate::budget::TokenCounter;

/// The number of cuts that are tried to come close to the number of tokens.
const MAX_TRIES: usize = 8;

/// The part of the tokens, in percent, at which a cut is close enough.
const CLOSE: usize = 94;

/// A cut of JSON, and its tokens.
pub(super) struct JsonCut {
    pub(super) shrunk: Shrunk,
    pub(super) tokens: usize,
}

/// JSON that is to be cut.
#[derive(Clone, Copy)]
pub(super) struct ToCut<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) rules: &'a Rules<'a>,
    pub(super) kept: KeptText,
    /// A note for hosts that show the model nothing else.
    pub(super) note: Option<&'a str>,
    /// The tokens of the whole text, if they are known or projected.
    pub(super) tokens: Option<usize>,
    /// The maximum number of tokens, with the note.
    pub(super) limit: usize,
    pub(super) counter: &'a dyn TokenCounter,
    /// Returns `true` if JSON is valid by the schema.
    pub(super) is_valid: &'a dyn Fn(&str) -> bool,
}

impl ToCut<'_> {
    /// Returns the largest valid cut that was found, or `None` if there is none.
    pub(super) fn cut(self) -> Option<JsonCut> {
        self.largest(true).or_else(|| self.largest(false))
    }

    /// Looks for the largest cut by its bytes: each try corrects the number of bytes by the tokens
    /// that it had.
    fn largest(&self, adds_member: bool) -> Option<JsonCut> {
        let shrink = Shrink {
            document: self.document,
            kept: self.kept,
            note: self.note,
            adds_member,
        };
        let note = self.note.map_or(0, |note| self.counter.count(note));
        let target = self.limit.saturating_sub(note);
        let mut best: Option<JsonCut> = None;
        let (mut fits, mut exceeds) = (0, self.document.text().len());
        let mut bytes = match self.tokens {
            Some(tokens) => exceeds * target / tokens.max(1),
            None => self.counter.prefix(self.document.text(), target),
        };
        bytes -= bytes / 50;
        for _ in 0..MAX_TRIES {
            let shrunk = shrink.to_bytes(bytes, self.rules);
            let tokens = self.counter.count_up_to(&shrunk.json, self.limit);
            let next = match tokens {
                Some(tokens) => {
                    fits = bytes;
                    let is_valid = (self.is_valid)(&shrunk.json);
                    let is_larger = best.as_ref().is_none_or(|best| best.tokens < tokens);
                    if is_valid && is_larger {
                        best = Some(JsonCut { shrunk, tokens });
                    }
                    if !is_valid || tokens * 100 >= self.limit * CLOSE {
                        break;
                    }
                    bytes + bytes * (self.limit - tokens) / tokens.max(1) + 16
                }
                None => {
                    exceeds = bytes;
                    match self.counter.prefix(&shrunk.json, self.limit) {
                        0 => 0,
                        fitting => bytes * fitting / shrunk.json.len().max(1),
                    }
                }
            };
            // Between what has fitted and what has not.
            let next = match next > fits && next < exceeds {
                true => next,
                false => fits + (exceeds - fits) / 2,
            };
            if exceeds - fits <= 1 || next == bytes {
                break;
            }
            bytes = next;
        }
        best.or_else(|| self.least(shrink))
    }

    /// Returns the smallest cut, if it fits.
    fn least(&self, shrink: Shrink<'_>) -> Option<JsonCut> {
        let shrunk = shrink.to_bytes(0, self.rules);
        let tokens = self.counter.count_up_to(&shrunk.json, self.limit)?;
        (self.is_valid)(&shrunk.json).then_some(JsonCut { shrunk, tokens })
    }
}
