//! The cut of a result whose cost exceeds its share.

use rmcp::model::{Resource, ServerResult};
use serde_json::Value;

use super::{
    Fitter, MAX_PLACES, OnSchemaMisfit, OutputSchema, Place, RepeatedText, Rest,
    document::Document,
    json::{JsonCut, ToCut},
    note,
    parts::{Block, Measure, Measures, Parts, link_tokens},
    rules::Rules,
    text,
};

/// The tokens below which a part is left out instead of cut: a note alone has about as many.
const LEAST: usize = 96;

/// The places of a result after a cut.
pub(super) struct Plan {
    pub(super) blocks: Vec<NewBlock>,
    pub(super) structured: NewStructured,
    /// A text in the place of `structuredContent`.
    pub(super) added: Option<String>,
    /// A note in a block of its own.
    pub(super) note: Option<String>,
    pub(super) link: Option<Resource>,
    pub(super) cost: usize,
    pub(super) places: Vec<Place>,
    pub(super) became_error: bool,
}

#[derive(Debug)]
pub(super) enum NewBlock {
    Same,
    Text(String),
    Link(Box<Resource>),
    Dropped,
}

#[derive(Debug)]
pub(super) enum NewStructured {
    Same,
    Json(String),
    Dropped,
}

/// A result that is to be cut.
pub(super) struct Cutter<'a> {
    pub(super) fitter: &'a Fitter,
    pub(super) parts: &'a Parts<'a>,
    pub(super) result: &'a ServerResult,
    pub(super) repeats: &'a [bool],
    /// The cost of each block, and that of `structuredContent`.
    pub(super) measures: &'a Measures,
    pub(super) share: usize,
    pub(super) schema: Option<&'a OutputSchema>,
    pub(super) rest: Option<&'a Rest>,
    /// The cost of the whole.
    pub(super) total: usize,
}

/// A part that has a share of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Structured,
    Block(usize),
}

/// The cut so far.
struct Draft {
    blocks: Vec<NewBlock>,
    structured: NewStructured,
    added: Option<String>,
    places: Vec<Place>,
    places_count: usize,
    /// `true` if a part has the note that is not JSON.
    has_note: bool,
    became_error: bool,
}

impl Draft {
    fn add_place(&mut self, pointer: String, change: String) {
        self.add_places(vec![Place { pointer, change }], 1);
    }

    fn add_places(&mut self, places: Vec<Place>, count: usize) {
        let room = MAX_PLACES.saturating_sub(self.places.len());
        self.places.extend(places.into_iter().take(room));
        self.places_count += count;
    }
}

impl Cutter<'_> {
    /// Returns the cut, or `None` if not even its notes fit.
    pub(super) fn plan(&self) -> Option<Plan> {
        let counter = &*self.fitter.counter;
        let own_note = note::note(self.total, self.share, self.rest);
        let note_tokens = counter.count(&own_note);
        let reserved = match self.needs_own_note() {
            // Half as much again for the names of the places.
            true => note_tokens + note_tokens / 2,
            false => 0,
        };
        let link = self
            .link()
            .filter(|link| link_tokens(link, counter) <= self.share / 4);
        let for_link = link.as_ref().map_or(0, |link| link_tokens(link, counter));
        let left = self.share.checked_sub(reserved + for_link)?;
        let mut draft = Draft {
            blocks: self.parts.blocks.iter().map(|_| NewBlock::Same).collect(),
            structured: NewStructured::Same,
            added: None,
            places: Vec::new(),
            places_count: 0,
            has_note: false,
            became_error: false,
        };
        let left = self.cut_units(&mut draft, left);
        self.cut_repeats(&mut draft);
        let mut note = None;
        if reserved > 0 && !(draft.has_note && self.parts.list == "contents") {
            let room = left + reserved;
            let with_places = (0..=MAX_PLACES).rev().find_map(|max| {
                let (places, count) = (&draft.places, draft.places_count);
                let words = note::note_with_places(&own_note, places, count, max);
                let tokens = counter.count_up_to(&words, room)?;
                Some((words, tokens))
            });
            note = Some(with_places?);
        }
        let note_cost = note.as_ref().map_or(0, |(_, tokens)| *tokens);
        let spent = self.share - reserved - for_link - left;
        Some(Plan {
            blocks: draft.blocks,
            structured: draft.structured,
            added: draft.added,
            note: note.map(|(note, _)| note),
            link,
            cost: spent + for_link + note_cost,
            places: draft.places,
            became_error: draft.became_error,
        })
    }

    /// Returns `true` if a note inside a text may not be enough.
    fn needs_own_note(&self) -> bool {
        let is_json = |text: &str| text.trim_start().starts_with(['{', '[']);
        let needs = |block: &Block<'_>| match block {
            Block::Text(text) => is_json(text),
            Block::Embedded(_) | Block::Media { .. } => true,
            Block::Link(_) | Block::View => false,
        };
        self.parts.structured.is_some()
            || self.parts.blocks.len() > self.share / LEAST
            || self.parts.blocks.iter().any(needs)
    }

    /// Returns a link to the full result, where the result has room for links.
    fn link(&self) -> Option<Resource> {
        let uri = self.rest?.uri.as_deref()?;
        let is_tool = matches!(self.result, ServerResult::CallToolResult(_));
        is_tool.then(|| note::link(uri, self.parts.bytes))
    }

    /// Gives each part its share. A part that needs less leaves the rest to the others. Returns what
    /// is left in the end.
    fn cut_units(&self, draft: &mut Draft, mut left: usize) -> usize {
        let counter = &*self.fitter.counter;
        let blocks = self.measures.blocks.iter().enumerate();
        let mut units: Vec<(Unit, Measure)> = blocks
            .filter(|(index, _)| !self.repeats[*index])
            .map(|(index, measure)| (Unit::Block(index), *measure))
            .collect();
        units.extend(
            self.measures
                .structured
                .map(|measure| (Unit::Structured, measure)),
        );
        units.sort_by_key(|(_, measure)| measure.tokens);
        for at in 0..units.len() {
            let (unit, mut measure) = units[at];
            let fair = left / (units.len() - at);
            if measure.is_estimate
                && measure.tokens / 2 <= fair
                && let Unit::Block(index) = unit
            {
                measure = self.parts.blocks[index].measure(fair, counter);
            }
            if measure.tokens <= fair {
                left -= measure.tokens;
            } else if fair >= LEAST || units.len() - at == 1 {
                left -= self.cut_unit(unit, measure, fair, draft);
            } else {
                // Too many for a part each: the first ones are kept.
                let mut others = units.split_off(at);
                others.sort_by_key(|(unit, _)| match unit {
                    Unit::Structured => 0,
                    Unit::Block(index) => index + 1,
                });
                return self.keep_first(&others, draft, left);
            }
        }
        left
    }

    fn keep_first(&self, units: &[(Unit, Measure)], draft: &mut Draft, mut left: usize) -> usize {
        let mut dropped = 0;
        for (unit, measure) in units {
            if measure.tokens <= left && dropped == 0 {
                left -= measure.tokens;
            } else if let Unit::Block(index) = unit
                && (left < LEAST || dropped > 0)
            {
                draft.blocks[*index] = NewBlock::Dropped;
                dropped += 1;
            } else {
                left -= self.cut_unit(*unit, *measure, left, draft);
            }
        }
        if dropped > 0 {
            let total = self.parts.blocks.len();
            let change = format!("{} of {total} parts", total - dropped);
            draft.add_place(format!("/{}", self.parts.list), change);
        }
        left
    }

    /// Cuts a part to its share. Returns its cost.
    fn cut_unit(&self, unit: Unit, measure: Measure, share: usize, draft: &mut Draft) -> usize {
        match unit {
            Unit::Structured => self.cut_structured(measure, share, draft),
            Unit::Block(index) => match self.parts.blocks[index] {
                Block::Text(text) => self.cut_text(index, text, measure, share, draft),
                _ => self.replace(index, measure, share, draft),
            },
        }
    }

    fn cut_text(
        &self,
        index: usize,
        text: &str,
        measure: Measure,
        share: usize,
        draft: &mut Draft,
    ) -> usize {
        let pointer = self.pointer(index);
        match self.shortened(text, &format!("{pointer}/text"), measure, share, draft) {
            Some((now, tokens)) => {
                draft.blocks[index] = NewBlock::Text(now);
                tokens
            }
            None => {
                draft.blocks[index] = NewBlock::Dropped;
                draft.add_place(pointer, format!("0 of {} bytes", text.len()));
                0
            }
        }
    }

    /// Shortens text: JSON by its structure, and other text at a line. Returns it with its tokens,
    /// or `None` if not even a note fits.
    fn shortened(
        &self,
        text: &str,
        pointer: &str,
        measure: Measure,
        share: usize,
        draft: &mut Draft,
    ) -> Option<(String, usize)> {
        let counter = &*self.fitter.counter;
        let kept = self.fitter.policy.kept_text;
        let note = note::note(measure.tokens, share, self.rest);
        if text.trim_start().starts_with(['{', '['])
            && let Some(document) = Document::parse(text, &self.fitter.limits)
        {
            let is_minified = document.text().len() == text.len();
            if !is_minified && let Some(tokens) = counter.count_up_to(document.text(), share) {
                return Some((document.text().to_owned(), tokens));
            }
            // A resource has no block of its own for a note.
            let is_resource = self.parts.list == "contents";
            let cut = ToCut {
                document: &document,
                rules: &Rules::none(),
                kept,
                note: is_resource.then_some(note.as_str()),
                tokens: is_minified.then_some(measure.tokens),
                limit: share,
                counter,
                is_valid: &|_| true,
            };
            if let Some(JsonCut { shrunk, tokens }) = cut.cut() {
                draft.has_note |= shrunk.has_note;
                draft.add_places(below(pointer, shrunk.places), shrunk.places_count);
                return Some((shrunk.json, tokens));
            }
        }
        let cut = text::cut(text, kept, &note, share, counter)?;
        let change = format!("{} of {} bytes", cut.head + cut.tail, text.len());
        draft.add_place(pointer.to_owned(), change);
        draft.has_note = true;
        Some((cut.text, cut.tokens))
    }

    /// Replaces an image, audio, blob or resource by a link, or by words.
    fn replace(&self, index: usize, measure: Measure, share: usize, draft: &mut Draft) -> usize {
        let counter = &*self.fitter.counter;
        let bytes = self.parts.blocks[index].bytes();
        let pointer = self.pointer(index);
        draft.add_place(pointer.clone(), format!("0 of {bytes} bytes"));
        let (kind, own_uri) = super::assemble::kind_and_uri(self.result, index);
        let has_links = self.parts.list != "contents";
        let uri = self.rest.and_then(|rest| rest.uri.as_deref());
        let link = match (uri, own_uri) {
            (Some(uri), _) => Some(note::part_link(uri, &pointer, kind, bytes)),
            (None, Some(own)) => Some(Resource::new(own, own)),
            (None, None) => None,
        };
        if let Some(link) = link.filter(|_| has_links) {
            let tokens = link_tokens(&link, counter);
            if tokens <= share {
                draft.blocks[index] = NewBlock::Link(Box::new(link));
                return tokens;
            }
        }
        let words = note::left_out(kind.unwrap_or("data"), bytes, measure.tokens);
        match counter.count_up_to(&words, share) {
            Some(tokens) => {
                draft.blocks[index] = NewBlock::Text(words);
                tokens
            }
            None => {
                draft.blocks[index] = NewBlock::Dropped;
                0
            }
        }
    }

    fn cut_structured(&self, measure: Measure, share: usize, draft: &mut Draft) -> usize {
        let Some(structured) = &self.parts.structured else {
            return 0;
        };
        let counter = &*self.fitter.counter;
        let policy = &self.fitter.policy;
        let drops_structured = policy.repeated == RepeatedText::Text
            && (self.schema.is_none() || policy.on_misfit == OnSchemaMisfit::DropStructured)
            && self.repeats.contains(&true);
        let document = Document::of_json(&structured.text, &self.fitter.limits);
        if let Some(document) = document.as_ref().filter(|_| !drops_structured) {
            let is_minified = document.text().len() == structured.text.len();
            if !(is_minified && measure.is_estimate)
                && let Some(tokens) = counter.count_up_to(document.text(), share)
            {
                // White space is no part of a value, but of the text that repeats it.
                if let Some(first) = self.repeats.iter().position(|repeats| *repeats) {
                    draft.blocks[first] = NewBlock::Text(document.text().to_owned());
                }
                return tokens;
            }
            let note = note::note(measure.tokens, share, self.rest);
            let rules = self
                .schema
                .map_or_else(Rules::none, |schema| Rules::of(&schema.json));
            let cut = ToCut {
                document,
                rules: &rules,
                kept: self.fitter.policy.kept_text,
                note: Some(&note),
                tokens: None,
                limit: share,
                counter,
                is_valid: &|json| self.is_valid(json),
            };
            if let Some(JsonCut { shrunk, tokens }) = cut.cut() {
                draft.structured = NewStructured::Json(shrunk.json);
                let places = below("/structuredContent", shrunk.places);
                draft.add_places(places, shrunk.places_count);
                return tokens;
            }
        }
        self.drop_structured(measure, share, draft)
    }

    /// Drops `structuredContent`. Its JSON is cut as text: in the first block that repeats it, or in
    /// a block of its own.
    fn drop_structured(&self, measure: Measure, share: usize, draft: &mut Draft) -> usize {
        draft.structured = NewStructured::Dropped;
        draft.became_error =
            self.schema.is_some() && self.fitter.policy.on_misfit == OnSchemaMisfit::ToolError;
        let pointer = "/structuredContent";
        let repeating = self.repeats.iter().position(|repeats| *repeats);
        let text = repeating.and_then(|index| self.parts.blocks[index].text());
        if let (Some(index), Some(text)) = (repeating, text) {
            draft.add_place(pointer.to_owned(), "nothing".to_owned());
            return self.cut_text(index, text, measure, share, draft);
        }
        let text = self.parts.structured.as_ref().map_or("", |it| &it.text);
        let Some((now, tokens)) = self.shortened(text, pointer, measure, share, draft) else {
            draft.add_place(pointer.to_owned(), "nothing".to_owned());
            return 0;
        };
        draft.added = Some(now);
        tokens
    }

    /// Changes the blocks that repeat `structuredContent` as it was changed.
    fn cut_repeats(&self, draft: &mut Draft) {
        let kept = self.fitter.policy.repeated;
        let mut repeating = (0..self.repeats.len()).filter(|index| self.repeats[*index]);
        match &draft.structured {
            NewStructured::Same => {}
            NewStructured::Json(json) if kept == RepeatedText::Both => {
                if let Some(first) = repeating.next() {
                    draft.blocks[first] = NewBlock::Text(json.clone());
                }
            }
            NewStructured::Json(_) => {}
            // The first one has the text.
            NewStructured::Dropped => {
                repeating.next();
            }
        }
        if !matches!(draft.structured, NewStructured::Same) {
            for index in repeating {
                draft.blocks[index] = NewBlock::Dropped;
            }
        }
    }

    fn is_valid(&self, json: &str) -> bool {
        let Some(schema) = self.schema else {
            return true;
        };
        super::assemble::read_json(json).is_some_and(|value: Value| schema.is_valid(&value))
    }

    fn pointer(&self, index: usize) -> String {
        let below = match self.parts.list {
            "messages" => "/content",
            _ => "",
        };
        format!("/{}/{index}{below}", self.parts.list)
    }
}

fn below(pointer: &str, mut places: Vec<Place>) -> Vec<Place> {
    for place in &mut places {
        place.pointer.insert_str(0, pointer);
    }
    places
}
