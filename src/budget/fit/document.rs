use std::borrow::Cow;

use memchr::memchr2;
use serde::de::IgnoredAny;

use crate::budget::ResultLimits;

/// JSON without insignificant white space, and the places of its values in it.
///
/// Strings, keys and numbers are as they came: no escape and no digit is lost.
#[derive(Debug)]
pub(super) struct Document<'a> {
    text: Cow<'a, str>,
    nodes: Vec<Node>,
}

/// A value or a key: its place in the text, and the index of the node after it and all inside it.
#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    next: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number, `true`, `false` or `null`.
    Scalar,
    String,
    /// The name of a member. The node after it is the value.
    Key,
    Array,
    Object,
}

/// The index of a node.
pub(super) type Index = usize;

impl<'a> Document<'a> {
    /// Reads a text that is JSON as a whole. Returns `None` for other text, and for JSON beyond the
    /// limits.
    pub(super) fn parse(text: &'a str, limits: &ResultLimits) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Self::of_json(text, limits)
    }

    /// Reads a text that is known to be JSON. Returns `None` for JSON beyond the limits.
    pub(super) fn of_json(text: &'a str, limits: &ResultLimits) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        Scan::new(text, *limits).run()
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const ROOT: Index = 0;

    pub(super) fn kind(&self, node: Index) -> Kind {
        self.nodes[node].kind
    }

    /// Returns the text of a value or key.
    pub(super) fn source(&self, node: Index) -> &str {
        let node = &self.nodes[node];
        &self.text[node.start as usize..node.end as usize]
    }

    /// Returns the length in bytes of the text of a value or key.
    pub(super) fn size(&self, node: Index) -> usize {
        let node = &self.nodes[node];
        (node.end - node.start) as usize
    }

    /// Returns the elements of an array, or the keys of an object.
    pub(super) fn children(&self, node: Index) -> impl Iterator<Item = Index> + '_ {
        let end = self.nodes[node].next as usize;
        let mut at = node + 1;
        std::iter::from_fn(move || {
            let child = at;
            if child >= end {
                return None;
            }
            let value = match self.nodes[child].kind {
                Kind::Key => child + 1,
                _ => child,
            };
            at = self.nodes[value].next as usize;
            Some(child)
        })
    }
}

/// The reading of a text that is known to be JSON.
struct Scan<'a> {
    text: &'a str,
    limits: ResultLimits,
    nodes: Vec<Node>,
    /// The nodes of the containers that are open.
    open: Vec<Index>,
    /// The text without white space, once there was some.
    minified: String,
    /// The end of what is in `minified`.
    copied: usize,
    /// The bytes of white space so far.
    skipped: usize,
    expects_key: bool,
}

impl<'a> Scan<'a> {
    fn new(text: &'a str, limits: ResultLimits) -> Self {
        Self {
            text,
            limits,
            nodes: Vec::new(),
            open: Vec::new(),
            minified: String::new(),
            copied: 0,
            skipped: 0,
            expects_key: false,
        }
    }

    fn run(mut self) -> Option<Document<'a>> {
        let bytes = self.text.as_bytes();
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => {
                    at = self.skip(at);
                    continue;
                }
                b'{' | b'[' => self.begin(*byte, at)?,
                b'}' | b']' => self.end(at)?,
                b',' => {
                    let inside = self.open.last().map(|open| self.nodes[*open].kind);
                    self.expects_key = inside == Some(Kind::Object);
                }
                b':' => self.expects_key = false,
                b'"' => {
                    let end = end_of_string(bytes, at + 1)?;
                    let kind = match self.expects_key {
                        true => Kind::Key,
                        false => Kind::String,
                    };
                    self.add(kind, at, end)?;
                    at = end;
                    continue;
                }
                _ => {
                    let is_end = |byte: &u8| {
                        matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\r' | b'\t')
                    };
                    let length = bytes[at..].iter().position(is_end);
                    let end = length.map_or(bytes.len(), |length| at + length);
                    self.add(Kind::Scalar, at, end)?;
                    at = end;
                    continue;
                }
            }
            at += 1;
        }
        let text = match self.skipped {
            0 => Cow::Borrowed(self.text),
            _ => {
                self.minified.push_str(&self.text[self.copied..]);
                Cow::Owned(self.minified)
            }
        };
        Some(Document {
            text,
            nodes: self.nodes,
        })
    }

    /// Leaves white space out. Returns the index after it.
    fn skip(&mut self, at: usize) -> usize {
        if self.skipped == 0 {
            self.minified.reserve(self.text.len());
        }
        self.minified.push_str(&self.text[self.copied..at]);
        let is_token = |byte: &u8| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
        let bytes = &self.text.as_bytes()[at..];
        let length = bytes.iter().position(is_token).unwrap_or(bytes.len());
        self.skipped += length;
        self.copied = at + length;
        self.copied
    }

    fn add(&mut self, kind: Kind, start: usize, end: usize) -> Option<()> {
        if self.nodes.len() >= self.limits.nodes {
            return None;
        }
        self.nodes.push(Node {
            start: u32::try_from(start - self.skipped).ok()?,
            end: u32::try_from(end - self.skipped).ok()?,
            next: u32::try_from(self.nodes.len() + 1).ok()?,
            kind,
        });
        Some(())
    }

    fn begin(&mut self, byte: u8, at: usize) -> Option<()> {
        if self.open.len() >= self.limits.depth {
            return None;
        }
        let is_object = byte == b'{';
        self.open.push(self.nodes.len());
        self.add(
            if is_object { Kind::Object } else { Kind::Array },
            at,
            at + 1,
        )?;
        self.expects_key = is_object;
        Some(())
    }

    fn end(&mut self, at: usize) -> Option<()> {
        let open = self.open.pop()?;
        let next = u32::try_from(self.nodes.len()).ok()?;
        let node = self.nodes.get_mut(open)?;
        node.end = u32::try_from(at + 1 - self.skipped).ok()?;
        node.next = next;
        self.expects_key = false;
        Some(())
    }
}

/// Returns the index after the closing quotation mark.
fn end_of_string(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        match bytes[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

/// Returns the end of the last whole character or escape in a JSON string's inside that ends at
/// `at` or before it. A pair of surrogates counts as one escape.
pub(super) fn escape_boundary(inside: &str, at: usize) -> usize {
    let at = crate::util::text::boundary(inside, at);
    let bytes = inside.as_bytes();
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'\\', &bytes[from..at]) {
        let escape = from + found;
        let end = escape + escape_length(&bytes[escape..]);
        if end > at {
            return escape;
        }
        from = end;
    }
    at
}

/// The length of a pair of surrogates, in which each character may be written.
pub(super) const LONGEST_ESCAPE: usize = 12;

/// Returns the length of the escape that starts here.
pub(super) fn escape_length(bytes: &[u8]) -> usize {
    let is_surrogate = |at: usize, digits: &[u8]| {
        bytes.get(at..at + 3).is_some_and(|escape| {
            escape[..2].eq_ignore_ascii_case(b"ud")
                && digits.contains(&escape[2].to_ascii_lowercase())
        })
    };
    match bytes.get(1) {
        Some(b'u')
            if is_surrogate(1, b"89ab")
                && bytes.get(6) == Some(&b'\\')
                && is_surrogate(7, b"cdef") =>
        {
            12
        }
        Some(b'u') => 6,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<Document<'_>> {
        Document::parse(text, &ResultLimits::default())
    }

    #[test]
    fn white_space_between_values_goes_and_nothing_else_does() {
        let text = "{ \"a b\" : [ 1.0 , -2e400,\n\t\"x \\\" \\\\\" ] , \"\\u00e9\":{ } }\n";
        let document = parsed(text).unwrap();
        let minified = r#"{"a b":[1.0,-2e400,"x \" \\"],"\u00e9":{}}"#;
        assert_eq!(document.text(), minified);
        assert_eq!(document.source(Document::ROOT), minified);
    }

    #[test]
    fn children_are_elements_and_keys() {
        let document = parsed(r#" {"a":[1,[2,3],{"b":4}],"c":"d"} "#).unwrap();
        let keys: Vec<_> = document.children(Document::ROOT).collect();
        let sources = keys.iter().map(|key| document.source(*key));
        assert_eq!(sources.collect::<Vec<_>>(), [r#""a""#, r#""c""#]);
        let elements = document.children(keys[0] + 1);
        let sources = elements.map(|element| document.source(element));
        assert_eq!(sources.collect::<Vec<_>>(), ["1", "[2,3]", r#"{"b":4}"#]);
    }

    #[test]
    fn other_text_and_json_beyond_the_limits_are_no_document() {
        for text in ["", "{", "[1,]", "[1] x", "{\"a\":1,}", "text"] {
            assert!(parsed(text).is_none(), "{text}");
        }
        let deep = "[".repeat(64) + &"]".repeat(64);
        assert!(parsed(&deep).is_some());
        assert!(parsed(&format!("[{deep}]")).is_none());
        let limits = ResultLimits::default().max_nodes(3);
        assert!(Document::parse("[1,2]", &limits).is_some());
        assert!(Document::parse("[1,2,3]", &limits).is_none());
    }

    #[test]
    fn a_boundary_is_never_inside_an_escape() {
        let inside = r"a\n\u00e9\ud83d\ude00é\\b";
        let ends = [0, 1, 3, 9, 21, 23, 25, 26];
        for at in 0..=26 {
            let found = ends.iter().rev().find(|end| **end <= at).unwrap();
            assert_eq!(escape_boundary(inside, at), *found, "{at}");
        }
    }
}
