use serde_json::{Map, Value, json};

use super::super::kept::{KeptId, SCHEME};

/// The place of a page in its text, and the way to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PageNote {
    pub id: KeptId,
    pub pointer: Option<String>,
    /// The bytes of the page.
    pub start: usize,
    pub end: usize,
    /// The length of the text.
    pub total: usize,
    pub kind: Kind,
    /// `true` if the text is base64.
    pub is_blob: bool,
    /// The tool that reads on. Without it, a URI does.
    pub tool: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A page of so many. It ends at `end`, unless there was no room for all of it.
    Page {
        number: usize,
        of: usize,
        end: usize,
    },
    Bytes,
    /// So many occurrences of a text, of so many from here on.
    Search {
        text: String,
        shown: usize,
        count: usize,
    },
}

impl PageNote {
    /// Returns the arguments that read on. Returns `None` at the end.
    fn next(&self) -> Option<Map<String, Value>> {
        let has_more = match self.kind {
            Kind::Search { shown, count, .. } => shown < count,
            Kind::Page { .. } | Kind::Bytes => self.end < self.total,
        };
        if !has_more {
            return None;
        }
        let mut next = Map::new();
        next.insert("id".to_owned(), self.id.to_string().into());
        if let Some(pointer) = &self.pointer {
            next.insert("pointer".to_owned(), pointer.clone().into());
        }
        match &self.kind {
            Kind::Page { number, end, .. } if self.end == *end => {
                next.insert("page".to_owned(), (number + 1).into());
                return Some(next);
            }
            Kind::Search { text, .. } => {
                next.insert("search".to_owned(), text.clone().into());
            }
            Kind::Page { .. } | Kind::Bytes => {}
        }
        next.insert("offset".to_owned(), self.end.into());
        Some(next)
    }

    /// Returns the note for the model.
    pub(super) fn to_text(&self) -> String {
        let (start, end, total) = (self.start, self.end, self.total);
        let base64 = if self.is_blob { " of base64" } else { "" };
        let place = match &self.kind {
            Kind::Page { number, of, .. } => {
                format!("page {number} of {of}, bytes {start} to {end} of {total}{base64}")
            }
            Kind::Bytes => format!("bytes {start} to {end} of {total}{base64}"),
            Kind::Search { shown, count, .. } => format!("{shown} of {count} occurrences"),
        };
        match (self.next(), &self.tool) {
            (None, _) => format!("[{place}]"),
            (Some(next), Some(tool)) => format!("[{place}. Next: {tool} {}]", Value::Object(next)),
            (Some(next), None) => format!("[{place}. Next: {}]", uri(&next)),
        }
    }

    /// Returns the facts for the `_meta` of the answer.
    pub(super) fn to_meta(&self) -> Value {
        let mut meta = json!({ "start": self.start, "end": self.end, "total": self.total });
        match self.kind {
            Kind::Page { number, of, .. } => {
                meta["page"] = number.into();
                meta["pages"] = of.into();
            }
            Kind::Search { shown, count, .. } => {
                meta["shown"] = shown.into();
                meta["count"] = count.into();
            }
            Kind::Bytes => {}
        }
        if let Some(next) = self.next() {
            meta["next"] = Value::Object(next);
        }
        meta
    }

    /// Returns the URI of the next page. Returns `None` at the end.
    pub(super) fn next_uri(&self) -> Option<String> {
        self.next().map(|next| uri(&next))
    }
}

/// Returns the URI with the same parameters as a call of the tool.
fn uri(arguments: &Map<String, Value>) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let mut id = "";
    for (name, value) in arguments {
        match value {
            Value::String(given) if name == "id" => id = given,
            Value::String(text) => {
                query.append_pair(name, text);
            }
            other => {
                query.append_pair(name, &other.to_string());
            }
        }
    }
    format!("{SCHEME}{id}?{}", query.finish())
}
