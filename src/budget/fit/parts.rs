//! The parts of a result that a model is shown, and their costs.

use std::borrow::Cow;

use rmcp::model::{ContentBlock, ResourceContents, ServerResult};
use serde_json::Value;

use super::{Density, UnfitReason, document::Document};
use crate::{
    Lossless, Outcome,
    budget::{MediaTokens, ResultLimits, TokenCounter},
};

/// The least number of tokens from which the tokens of a long text are projected.
const SAMPLE: usize = 2_000;

/// The bytes of one kind that are a run.
const RUN: usize = 1024;

/// The texts that are compared with `structuredContent`.
const MAX_COMPARED: usize = 4;

/// The parts of a result.
pub(super) struct Parts<'a> {
    /// The list that has the parts.
    pub(super) list: &'static str,
    pub(super) blocks: Vec<Block<'a>>,
    pub(super) structured: Option<Structured<'a>>,
    /// The parts' bytes of text and data, those of `structured` included.
    pub(super) bytes: usize,
    /// `false` for results that are never cut.
    pub(super) is_cuttable: bool,
}

/// A part in the list of a result.
#[derive(Clone, Copy, Debug)]
pub(super) enum Block<'a> {
    Text(&'a str),
    /// Text of a resource in a tool's result, which is kept whole or replaced by a link.
    Embedded(&'a str),
    Media {
        tokens: usize,
        bytes: usize,
    },
    Link(&'a rmcp::model::Resource),
    /// A view of an app, which a host renders and a model does not see.
    View,
}

pub(super) struct Structured<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) value: &'a Value,
}

/// A number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) tokens: usize,
    /// `true` if the number is projected from a part of a text.
    pub(super) is_estimate: bool,
}

impl Measure {
    fn exact(tokens: usize) -> Self {
        Self {
            tokens,
            is_estimate: false,
        }
    }
}

impl std::iter::Sum for Measure {
    fn sum<I: Iterator<Item = Self>>(measures: I) -> Self {
        measures.fold(Self::default(), |sum, one| Self {
            tokens: sum.tokens.saturating_add(one.tokens),
            is_estimate: sum.is_estimate || one.is_estimate,
        })
    }
}

/// The costs of the parts of a result.
#[derive(Debug)]
pub(super) struct Measures {
    pub(super) blocks: Vec<Measure>,
    pub(super) structured: Option<Measure>,
    pub(super) sum: Measure,
    /// The longest text of all.
    pub(super) longest: Option<Density>,
}

impl<'a> Parts<'a> {
    /// Returns the parts of a result. A result without content for a model has none.
    pub(super) fn of(result: &'a Lossless<ServerResult>, media: &MediaTokens) -> Self {
        let mut structured = None;
        let (list, blocks): (_, Vec<_>) = match &**result {
            ServerResult::CallToolResult(tool) => {
                structured = tool.structured_content.as_ref().map(|value| Structured {
                    text: structured_text(result, value),
                    value,
                });
                let blocks = tool.content.iter().map(|block| Block::of(block, media));
                ("content", blocks.collect())
            }
            ServerResult::ReadResourceResult(read) => {
                let blocks = read
                    .contents
                    .iter()
                    .map(|contents| Block::read(contents, media));
                ("contents", blocks.collect())
            }
            ServerResult::GetPromptResult(prompt) => {
                let messages = prompt.messages.iter();
                let blocks = messages.map(|message| Block::of(&message.content, media));
                ("messages", blocks.collect())
            }
            _ => ("", Vec::new()),
        };
        let of_structured = structured.as_ref().map_or(0, |it| it.text.len());
        let bytes = blocks.iter().map(Block::bytes).sum::<usize>() + of_structured;
        Self {
            list,
            blocks,
            structured,
            bytes,
            is_cuttable: Outcome::of_result(result) == Outcome::Complete,
        }
    }

    pub(super) fn check(&self, limits: &ResultLimits) -> Result<(), UnfitReason> {
        let (found, max) = (self.blocks.len(), limits.blocks);
        if found > max {
            return Err(UnfitReason::TooManyBlocks { found, max });
        }
        let (found, max) = (self.bytes, limits.bytes);
        if found > max {
            return Err(UnfitReason::TooManyBytes { found, max });
        }
        Ok(())
    }

    /// Returns for each block whether it merely repeats `structuredContent`: a text with the same
    /// JSON, or with the same as its only member `result`; or a text for each element of that.
    pub(super) fn repeats(&self, limits: &ResultLimits) -> Vec<bool> {
        let mut repeats = vec![false; self.blocks.len()];
        let Some(structured) = &self.structured else {
            return repeats;
        };
        let value = structured.value;
        let only = value.as_object().filter(|all| all.len() == 1);
        let result = only.and_then(|all| all.get("result"));
        let texts = self.blocks.iter().enumerate();
        let texts = texts.filter_map(|(index, block)| Some((index, block.text()?)));
        if let Some(elements) = result.and_then(Value::as_array) {
            let pairs = texts.clone().zip(elements);
            let same = pairs.take_while(|((_, text), element)| is_same(text, element));
            let same: Vec<usize> = same.map(|((index, _), _)| index).collect();
            if same.len() == elements.len() {
                same.into_iter().for_each(|index| repeats[index] = true);
                return repeats;
            }
        }
        // An object in another form is not much shorter or longer.
        let length = structured.text.len();
        let is_near = |text: &str| text.len() / 8 <= length && length / 8 <= text.len();
        for (index, text) in texts.filter(|(_, text)| is_near(text)).take(MAX_COMPARED) {
            repeats[index] = is_same_text(text, &structured.text, limits)
                || is_same(text, value)
                || result.is_some_and(|result| is_same(text, result));
        }
        repeats
    }
}

impl Parts<'_> {
    /// Returns the costs. A text that repeats `structuredContent` costs nothing besides it. The
    /// costs beyond `limit` are projected.
    pub(super) fn measure(
        &self,
        repeats: &[bool],
        limit: usize,
        counter: &dyn TokenCounter,
    ) -> Measures {
        let mut left = limit;
        let mut longest: Option<Density> = None;
        let mut note = |text: &str, measure: Measure| {
            let (bytes, tokens) = (text.len(), measure.tokens);
            if longest.is_none_or(|longest| longest.bytes < bytes) {
                longest = Some(Density { bytes, tokens });
            }
        };
        let mut take = |measure: Measure| {
            left = left.saturating_sub(measure.tokens);
            left
        };
        let structured = self.structured.as_ref().map(|structured| {
            // The one of both that is longer.
            let repeating = repeats.iter().position(|repeats| *repeats);
            let text = repeating.and_then(|index| self.blocks[index].text());
            let text = text.filter(|text| text.len() > structured.text.len());
            let text = text.unwrap_or(&structured.text);
            let measure = measure(text, limit, counter);
            note(text, measure);
            measure
        });
        let mut left = take(structured.unwrap_or_default());
        let blocks = self.blocks.iter().zip(repeats).map(|(block, repeats)| {
            if *repeats {
                return Measure::default();
            }
            let measure = block.measure(left, counter);
            if let Some(text) = block.text() {
                note(text, measure);
            }
            left = take(measure);
            measure
        });
        let blocks: Vec<Measure> = blocks.collect();
        let sum = blocks.iter().copied().chain(structured).sum();
        Measures {
            blocks,
            structured,
            sum,
            longest,
        }
    }

    /// Returns the cost by a rule of thumb. Of text and `structuredContent`, the longer one counts.
    pub(super) fn estimate(&self, counter: &dyn TokenCounter) -> usize {
        let blocks = self
            .blocks
            .iter()
            .map(|block| block.estimate(counter))
            .sum();
        match &self.structured {
            Some(structured) => counter.estimate(structured.text.len()).max(blocks),
            None => blocks,
        }
    }

    /// Returns a number of tokens that the cost does not exceed.
    pub(super) fn upper_bound(&self, counter: &dyn TokenCounter) -> usize {
        let blocks = self
            .blocks
            .iter()
            .map(|block| block.upper_bound(counter))
            .sum::<usize>();
        let structured = self.structured.as_ref();
        blocks + structured.map_or(0, |structured| counter.upper_bound(structured.text.len()))
    }
}

impl<'a> Block<'a> {
    fn of(block: &'a ContentBlock, media: &MediaTokens) -> Self {
        match block {
            ContentBlock::Text(text) => Self::Text(&text.text),
            ContentBlock::Image(image) => Self::Media {
                tokens: media.of_image(&image.data),
                bytes: image.data.len(),
            },
            ContentBlock::Audio(audio) => Self::Media {
                tokens: media.of_audio(&audio.data),
                bytes: audio.data.len(),
            },
            ContentBlock::Resource(embedded) if is_view(&embedded.resource) => Self::View,
            ContentBlock::Resource(embedded) => match Self::read(&embedded.resource, media) {
                Self::Text(text) => Self::Embedded(text),
                other => other,
            },
            ContentBlock::ResourceLink(link) => Self::Link(link),
            _ => Self::View,
        }
    }

    fn read(contents: &'a ResourceContents, media: &MediaTokens) -> Self {
        match contents {
            ResourceContents::TextResourceContents { text, .. } => Self::Text(text),
            ResourceContents::BlobResourceContents { blob, .. } => Self::Media {
                tokens: media.of_blob(blob),
                bytes: blob.len(),
            },
            _ => Self::View,
        }
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Embedded(text) => text.len(),
            Self::Media { bytes, .. } => *bytes,
            Self::Link(link) => link.uri.len(),
            Self::View => 0,
        }
    }

    /// Returns the cost. That of a text beyond `limit` is projected.
    pub(super) fn measure(&self, limit: usize, counter: &dyn TokenCounter) -> Measure {
        match self {
            Self::Text(text) | Self::Embedded(text) => measure(text, limit, counter),
            Self::Media { tokens, .. } => Measure::exact(*tokens),
            Self::Link(link) => Measure::exact(link_tokens(link, counter)),
            Self::View => Measure::default(),
        }
    }

    /// Returns a cost by a rule of thumb.
    pub(super) fn estimate(&self, counter: &dyn TokenCounter) -> usize {
        match self {
            Self::Text(text) | Self::Embedded(text) => counter.estimate(text.len()),
            other => other.measure(0, counter).tokens,
        }
    }

    /// Returns a number of tokens that the block does not exceed.
    pub(super) fn upper_bound(&self, counter: &dyn TokenCounter) -> usize {
        match self {
            Self::Text(text) | Self::Embedded(text) => counter.upper_bound(text.len()),
            other => other.measure(0, counter).tokens,
        }
    }
}

/// Returns `true` if a resource is a view of an app.
fn is_view(contents: &ResourceContents) -> bool {
    let (ResourceContents::TextResourceContents { uri, .. }
    | ResourceContents::BlobResourceContents { uri, .. }) = contents
    else {
        return false;
    };
    uri.starts_with("ui://")
}

/// Returns `true` if a text ends in a run of one kind of characters. A counter looks only at the
/// start of such a run, so its prefix may be shorter than the limit.
fn ends_in_run(text: &str) -> bool {
    let kind = |byte: &u8| match byte {
        b' ' | b'\n' | b'\r' | b'\t' => 0,
        byte if byte.is_ascii_punctuation() => 1,
        byte if byte.is_ascii_digit() => 2,
        _ => 3,
    };
    let end = &text.as_bytes()[text.len().saturating_sub(RUN)..];
    let mut kinds = end.iter().map(kind);
    let first = kinds.next();
    end.len() == RUN && kinds.all(|kind| Some(kind) == first)
}

/// Returns the tokens of a text. Those beyond `limit` are projected.
pub(super) fn measure(text: &str, limit: usize, counter: &dyn TokenCounter) -> Measure {
    // A text that exceeds the limit by far is not counted up to it first.
    let may_fit = counter.estimate(text.len()) / 4 <= limit;
    if may_fit && let Some(tokens) = counter.count_up_to(text, limit) {
        return Measure::exact(tokens);
    }
    let sampled = limit.max(SAMPLE);
    let sample = counter.prefix(text, sampled);
    if sample == text.len() {
        return Measure::exact(counter.count(text));
    }
    let sampled = match ends_in_run(&text[..sample]) {
        // It may go on for long with few tokens.
        true => match counter.count_up_to(text, limit) {
            Some(tokens) => return Measure::exact(tokens),
            None => counter.count(&text[..sample]),
        },
        false => sampled,
    };
    let projected = text.len() as f64 * sampled as f64 / sample.max(1) as f64;
    Measure {
        tokens: (projected as usize).max(limit.saturating_add(1)),
        is_estimate: true,
    }
}

/// Returns the tokens of a link, which hosts show in ways of their own: those of its JSON.
pub(super) fn link_tokens(link: &rmcp::model::Resource, counter: &dyn TokenCounter) -> usize {
    counter.count(&serde_json::to_string(link).unwrap_or_default())
}

/// Returns `structuredContent` as it came, with all digits of its numbers.
fn structured_text<'a>(result: &'a Lossless<ServerResult>, value: &Value) -> Cow<'a, str> {
    match result.member_text("structuredContent") {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(value.to_string()),
    }
}

fn is_same_text(text: &str, structured: &str, limits: &ResultLimits) -> bool {
    if text == structured {
        return true;
    }
    let starts_same = text.trim_start().bytes().next() == structured.bytes().next();
    let both = || {
        let structured = Document::of_json(structured, limits)?;
        Some((Document::parse(text, limits)?, structured))
    };
    starts_same && both().is_some_and(|(text, structured)| text.text() == structured.text())
}

fn is_same(text: &str, value: &Value) -> bool {
    match value {
        Value::String(string) if string == text => true,
        Value::Object(_) if !text.trim_start().starts_with('{') => false,
        Value::Array(_) if !text.trim_start().starts_with('[') => false,
        _ => serde_json::from_str::<Value>(text).is_ok_and(|read| read == *value),
    }
}
