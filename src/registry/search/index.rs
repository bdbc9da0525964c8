//! BM25 over tool definitions (Robertson and Zaragoza, 2009), with the fields weighted as in BM25F.

use std::collections::HashMap;

use rmcp::model::Tool;
use serde_json::Value;

/// Saturation of repeated words, and penalty for long definitions: the usual values.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// A tool with its search tags.
#[derive(Debug, PartialEq)]
pub(super) struct Document {
    pub(super) tool: Tool,
    pub(super) tags: Vec<String>,
}

/// The words of each tool, with their weights.
pub(super) struct Index {
    pub(super) documents: Vec<Document>,
    words: HashMap<String, Vec<(usize, f32)>>,
    lengths: Vec<f32>,
}

impl Index {
    pub(super) fn new(documents: Vec<Document>) -> Self {
        let mut words: HashMap<String, Vec<(usize, f32)>> = HashMap::new();
        let mut lengths = Vec::with_capacity(documents.len());
        for (number, document) in documents.iter().enumerate() {
            let weights = weights(document);
            lengths.push(weights.values().sum());
            for (word, weight) in weights {
                words.entry(word).or_default().push((number, weight));
            }
        }
        Self {
            documents,
            words,
            lengths,
        }
    }

    /// Returns the best matches, best first, and by name among equal ones. Only tools that `sees`
    /// allows take part in the ranking, because the rarity of a word would reveal hidden tools.
    pub(super) fn find(
        &self,
        query: &str,
        limit: usize,
        sees: impl Fn(&str) -> bool,
    ) -> Vec<&Tool> {
        let seen = self
            .documents
            .iter()
            .map(|document| sees(&document.tool.name));
        let seen: Vec<bool> = seen.collect();
        let lengths = self.lengths.iter().zip(&seen);
        let lengths: Vec<f32> = lengths
            .filter_map(|(length, seen)| seen.then_some(*length))
            .collect();
        let all = float(lengths.len());
        let average = (lengths.iter().sum::<f32>() / all.max(1.0)).max(1.0);
        let mut scores: HashMap<usize, f32> = HashMap::new();
        let mut asked: Vec<String> = words(query).collect();
        asked.sort_unstable();
        asked.dedup();
        for found in asked.iter().filter_map(|word| self.words.get(word)) {
            let found = || found.iter().filter(|(number, _)| seen[*number]);
            let in_documents = float(found().count());
            let rarity = ((all - in_documents + 0.5) / (in_documents + 0.5) + 1.0).ln();
            for &(number, weight) in found() {
                let length = 1.0 - B + B * self.lengths[number] / average;
                *scores.entry(number).or_default() +=
                    rarity * weight * (K1 + 1.0) / (weight + K1 * length);
            }
        }
        let mut ranked: Vec<(usize, f32)> = scores.into_iter().collect();
        let name = |number: usize| &self.documents[number].tool.name;
        ranked.sort_unstable_by(|(a, a_score), (b, b_score)| {
            b_score
                .total_cmp(a_score)
                .then_with(|| name(*a).cmp(name(*b)))
        });
        ranked.truncate(limit);
        ranked
            .into_iter()
            .map(|(number, _)| &self.documents[number].tool)
            .collect()
    }
}

/// The registry holds no more tools than an `f32` counts exactly.
fn float(count: usize) -> f32 {
    u32::try_from(count).map_or(f32::MAX, |count| count as f32)
}

/// Returns the weight of each word of a tool: a word of its name counts more than one of its
/// description.
fn weights(document: &Document) -> HashMap<String, f32> {
    let Document { tool, tags } = document;
    let mut weights: HashMap<String, f32> = HashMap::new();
    let mut add = |text: &str, weight: f32| {
        for word in words(text) {
            *weights.entry(word).or_default() += weight;
        }
    };
    add(&tool.name, 3.0);
    for tag in tags {
        add(tag, 2.0);
    }
    add(tool.title.as_deref().unwrap_or_default(), 2.0);
    add(tool.description.as_deref().unwrap_or_default(), 1.0);
    if let Some(Value::Object(arguments)) = tool.input_schema.get("properties") {
        for name in arguments.keys() {
            add(name, 1.0);
        }
    }
    weights
}

/// Returns the words of a text: runs of letters or digits, split at `camelCase`, in lower case,
/// without the plural's `s`.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut after_lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && after_lower) {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        after_lower = c.is_lowercase() || c.is_numeric();
    }
    words.push(word);
    words
        .into_iter()
        .filter(|word| !word.is_empty())
        .map(|mut word| {
            if word.len() > 3 && word.ends_with('s') && !word.ends_with("ss") {
                word.pop();
            }
            word
        })
}
