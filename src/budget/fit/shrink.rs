//! The cut of JSON by its structure, to a number of bytes.

use std::collections::HashSet;

use super::{
    Place,
    document::{Document, Index, Kind, LONGEST_ESCAPE, escape_boundary, escape_length},
    policy::KeptText,
    rules::Rules,
};

/// The bytes that a member keeps at least, where it can be cut. Objects whose members would have
/// less each lose their last ones.
const LEAST_MEMBER: usize = 48;

/// The bytes from which on a cut element is worth its place at the end of an array.
const LEAST_ELEMENT: usize = 64;

/// The member that has the note where no string was cut.
pub(super) const NOTE_MEMBER: &str = "_truncated";

/// JSON after a cut.
#[derive(Debug, Default)]
pub(super) struct Shrunk {
    pub(super) json: String,
    pub(super) places: Vec<Place>,
    /// The number of places, also of those that are not in the list.
    pub(super) places_count: usize,
    /// `true` if the note is in a string or a member.
    pub(super) has_note: bool,
}

/// The way of a cut.
#[derive(Clone, Copy)]
pub(super) struct Shrink<'a> {
    pub(super) document: &'a Document<'a>,
    pub(super) kept: KeptText,
    /// A note that goes into the first string that is cut.
    pub(super) note: Option<&'a str>,
    /// Whether the note may be a member of its own, where no string is cut.
    pub(super) adds_member: bool,
}

impl Shrink<'_> {
    /// Cuts the document to about this many bytes, the note aside. The rules may keep it larger.
    pub(super) fn to_bytes(self, bytes: usize, rules: &Rules<'_>) -> Shrunk {
        let mut writer = Writer {
            document: self.document,
            kept: self.kept,
            note: self.note,
            pointer: String::new(),
            out: Shrunk::default(),
        };
        let root = Document::ROOT;
        writer.write(root, rules, bytes);
        if let Some(note) = writer.note.filter(|_| self.adds_member)
            && self.document.kind(root) == Kind::Object
            && writer.out.json.ends_with('}')
            && !self
                .document
                .children(root)
                .any(|key| self.document.source(key).trim_matches('"') == NOTE_MEMBER)
        {
            let json = &mut writer.out.json;
            json.pop();
            if json.len() > 1 {
                json.push(',');
            }
            json.push_str(&format!("\"{NOTE_MEMBER}\":\"{}\"}}", escaped(note)));
            writer.out.has_note = true;
        }
        writer.out
    }
}

struct Writer<'a> {
    document: &'a Document<'a>,
    kept: KeptText,
    /// The note, until it is written.
    note: Option<&'a str>,
    pointer: String,
    out: Shrunk,
}

impl Writer<'_> {
    fn write(&mut self, node: Index, rules: &Rules<'_>, bytes: usize) {
        let document = self.document;
        if document.size(node) <= bytes {
            return self.out.json.push_str(document.source(node));
        }
        match document.kind(node) {
            Kind::String if rules.may_change_string() => self.write_string(node, rules, bytes),
            Kind::Array if !rules.is_fixed() => self.write_array(node, rules, bytes),
            Kind::Object if !rules.is_fixed() => self.write_object(node, rules, bytes),
            _ => self.out.json.push_str(document.source(node)),
        }
    }

    fn note_place(&mut self, change: String) {
        self.out.places_count += 1;
        if self.out.places.len() < super::MAX_PLACES && self.pointer.len() <= super::MAX_POINTER {
            let pointer = self.pointer.clone();
            self.out.places.push(Place { pointer, change });
        }
    }

    /// Writes `inner` at a place below the current one.
    fn inside(&mut self, name: &str, inner: impl FnOnce(&mut Self)) {
        let length = self.pointer.len();
        self.pointer.push('/');
        self.pointer.push_str(name);
        inner(self);
        self.pointer.truncate(length);
    }

    fn write_string(&mut self, node: Index, rules: &Rules<'_>, bytes: usize) {
        let source = self.document.source(node);
        let inside = &source[1..source.len() - 1];
        let (head, tail) = self.kept_ends(inside, rules.min_length(), bytes);
        let total = characters(inside);
        let kept = characters(&inside[..head]) + characters(&inside[tail..]);
        let mut mark = format!("…[{} more characters]", total - kept);
        let is_shorter = head + mark.len() + inside.len() - tail < inside.len();
        if !is_shorter || (rules.has_max_length() && kept + characters(&mark) > total) {
            return self.out.json.push_str(source);
        }
        if let Some(note) = self.note.take_if(|_| !rules.has_max_length()) {
            mark = format!("{mark} {}", escaped(note));
            self.out.has_note = true;
        }
        let json = &mut self.out.json;
        json.push('"');
        json.push_str(&inside[..head]);
        json.push_str(&mark);
        json.push_str(&inside[tail..]);
        json.push('"');
        self.note_place(format!("{kept} of {total} characters"));
    }

    /// Returns the end of the start and the start of the end that a string keeps.
    fn kept_ends(&self, inside: &str, min: usize, bytes: usize) -> (usize, usize) {
        // The rest is for the quotation marks, and for the mark of the cut.
        let keep = bytes.saturating_sub(32);
        let least = min.saturating_mul(LONGEST_ESCAPE);
        let keep = keep.max(least).min(inside.len());
        let (head, tail) = match self.kept {
            KeptText::Head => (keep, 0),
            KeptText::Tail => (0, keep),
            KeptText::Both => (keep.div_ceil(2), keep / 2),
        };
        let start = escape_boundary(inside, head);
        let end = escape_boundary(inside, inside.len() - tail);
        (start, end.max(start))
    }

    fn write_array(&mut self, node: Index, rules: &Rules<'_>, bytes: usize) {
        let document = self.document;
        let min = rules.min_items();
        let mut left = bytes.saturating_sub(2);
        let (mut kept, mut total, mut is_full) = (0, 0, false);
        self.out.json.push('[');
        for (index, element) in document.children(node).enumerate() {
            total += 1;
            let size = document.size(element) + 1;
            let needed = min.saturating_sub(index);
            let fits = size <= left;
            let is_worth = !fits
                && left >= LEAST_ELEMENT.max(bytes / 4)
                && document.kind(element) != Kind::Scalar;
            if needed == 0 && (is_full || !(fits || is_worth)) {
                is_full = true;
                continue;
            }
            if kept > 0 {
                self.out.json.push(',');
            }
            let start = self.out.json.len();
            let share = (left / needed.max(1)).saturating_sub(1);
            self.inside(&index.to_string(), |writer| {
                writer.write(element, &rules.element(index), share);
            });
            left = left.saturating_sub(self.out.json.len() - start + 1);
            kept += 1;
            is_full |= !fits;
        }
        self.out.json.push(']');
        if kept < total {
            self.note_place(format!("{kept} of {total} items"));
        }
    }

    fn write_object(&mut self, node: Index, rules: &Rules<'_>, bytes: usize) {
        let keys: Vec<Index> = self.document.children(node).collect();
        let kept = self.kept_members(&keys, rules, bytes);
        let own: usize = kept.iter().map(|key| self.document.size(*key) + 2).sum();
        let sizes = kept.iter().map(|key| self.document.size(key + 1));
        let shares = shares(sizes.collect(), bytes.saturating_sub(own + 1));
        self.out.json.push('{');
        for (index, (key, share)) in kept.iter().zip(shares).enumerate() {
            if index > 0 {
                self.out.json.push(',');
            }
            let source = self.document.source(*key);
            self.out.json.push_str(source);
            self.out.json.push(':');
            if self.document.size(key + 1) <= share {
                self.out.json.push_str(self.document.source(key + 1));
                continue;
            }
            let name: String = serde_json::from_str(source).unwrap_or_default();
            let rules = rules.member(&name);
            self.inside(&name.replace('~', "~0").replace('/', "~1"), |writer| {
                writer.write(key + 1, &rules, share);
            });
        }
        self.out.json.push('}');
        if kept.len() < keys.len() {
            self.note_place(format!("{} of {} members", kept.len(), keys.len()));
        }
    }

    /// Returns the members that an object keeps: all that it must, and the first of the others.
    fn kept_members(&self, keys: &[Index], rules: &Rules<'_>, bytes: usize) -> Vec<Index> {
        let least = |key: Index| {
            self.document.size(key) + 2 + self.document.size(key + 1).min(LEAST_MEMBER)
        };
        let mut needed: usize = keys.iter().map(|key| least(*key)).sum();
        if needed <= bytes {
            return keys.to_vec();
        }
        let required = rules.required();
        let mut removable = keys.len().saturating_sub(rules.min_members());
        let mut removed = HashSet::new();
        for key in keys.iter().rev() {
            if needed <= bytes || removable == 0 {
                break;
            }
            let name: String = serde_json::from_str(self.document.source(*key)).unwrap_or_default();
            if !required.contains(name.as_str()) {
                removed.insert(*key);
                removable -= 1;
                needed -= least(*key);
            }
        }
        let kept = keys.iter().filter(|key| !removed.contains(*key));
        kept.copied().collect()
    }
}

/// Divides a number of bytes: what needs less than an equal part gets what it needs, and leaves the
/// rest to the others.
pub(super) fn shares(sizes: Vec<usize>, total: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|index| sizes[*index]);
    let mut shares = vec![0; sizes.len()];
    let (mut left, mut count) = (total, sizes.len());
    for index in order {
        let share = sizes[index].min(left / count.max(1));
        shares[index] = share;
        left -= share;
        count -= 1;
    }
    shares
}

/// Returns the number of characters of a string, whose inside is JSON.
fn characters(inside: &str) -> usize {
    let escapes = memchr::memchr_iter(b'\\', inside.as_bytes());
    let (mut end, mut more) = (0, 0);
    for escape in escapes {
        if escape >= end {
            let length = escape_length(&inside.as_bytes()[escape..]);
            end = escape + length;
            more += length - 1;
        }
    }
    inside.chars().count() - more
}

/// Returns a text as the inside of a JSON string.
fn escaped(text: &str) -> String {
    let json = serde_json::Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::budget::ResultLimits;

    fn shrunk(value: &Value, schema: &Value, bytes: usize) -> (Value, Shrunk) {
        let text = value.to_string();
        let document = Document::parse(&text, &ResultLimits::default()).unwrap();
        let shrink = Shrink {
            document: &document,
            kept: KeptText::Head,
            note: Some("NOTE"),
            adds_member: true,
        };
        let shrunk = shrink.to_bytes(bytes, &Rules::of(schema));
        (serde_json::from_str(&shrunk.json).unwrap(), shrunk)
    }

    #[test]
    fn an_array_keeps_its_first_elements_and_the_note_is_a_member() {
        let value = json!({ "total": 1000, "items": (0..1000).collect::<Vec<_>>() });
        let (now, shrunk) = shrunk(&value, &Value::Null, 100);
        let kept = now["items"].as_array().unwrap();
        assert!((10..40).contains(&kept.len()), "{now}");
        assert_eq!((&now["total"], &kept[9]), (&json!(1000), &json!(9)));
        assert_eq!(now[NOTE_MEMBER], "NOTE");
        let change = format!("{} of 1000 items", kept.len());
        let pointer = "/items".to_owned();
        assert_eq!(shrunk.places, [Place { pointer, change }]);
    }

    #[test]
    fn a_long_string_is_elided_and_has_the_note() {
        let value = json!({ "name": "short", "log": "a\nb".repeat(1000) });
        let (now, shrunk) = shrunk(&value, &Value::Null, 200);
        let log = now["log"].as_str().unwrap();
        assert!(
            log.starts_with("a\nba\nb") && log.ends_with(" more characters] NOTE"),
            "{log}"
        );
        assert!(shrunk.has_note && now.get(NOTE_MEMBER).is_none());
        assert_eq!(now["name"], "short");
    }

    #[test]
    fn what_the_schema_fixes_stays() {
        let long = "x".repeat(500);
        let schema = json!({
            "properties": {
                "id": { "pattern": "^x+$" },
                "list": { "minItems": 3, "items": { "type": "string" } },
                "kind": { "enum": [long] },
                "text": { "type": "string" },
            },
            "required": ["id", "list", "kind"],
        });
        let value = json!({
            "id": long, "list": vec![&long; 5], "kind": long, "text": long, "more": long,
        });
        let (now, _) = shrunk(&value, &schema, 0);
        assert_eq!((&now["id"], &now["kind"]), (&value["id"], &value["kind"]));
        let list = now["list"].as_array().unwrap();
        assert!(
            list.len() == 3 && list[0].as_str().unwrap().len() < 40,
            "{now}"
        );
        assert!(
            now.get("text").is_none() && now.get("more").is_none(),
            "{now}"
        );
    }

    #[test]
    fn shares_leave_what_a_small_size_does_not_need_to_the_others() {
        assert_eq!(shares(vec![100, 5, 100], 65), [30, 5, 30]);
        assert_eq!(shares(vec![], 10), [0; 0]);
        assert_eq!(shares(vec![1, 2], 10), [1, 2]);
    }
}
