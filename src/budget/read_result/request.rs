use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::kept::{KeptId, SCHEME};

/// Maximum length of a searched text in characters.
pub(super) const MAX_SEARCH: usize = 1_000;

/// A read of a kept result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::budget) struct ReadRequest {
    pub id: KeptId,
    /// A place in the result, or in the JSON of its text.
    pub pointer: Option<String>,
    pub range: Range,
}

/// The part that is read of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::budget) enum Range {
    /// A page, from 1 on.
    Page(u64),
    Bytes {
        offset: u64,
        limit: Option<u64>,
    },
    /// The occurrences of a text, from an offset on.
    Search {
        text: String,
        offset: u64,
    },
}

/// The reason why a read cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::budget) enum Misread {
    /// The arguments are wrong. The text has the remedy.
    Arguments(String),
    /// The id is not one of a kept result.
    UnknownId,
}

/// The arguments of the tool, and the parameters of a URI.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Arguments {
    id: Option<String>,
    page: Option<u64>,
    offset: Option<u64>,
    limit: Option<u64>,
    pointer: Option<String>,
    search: Option<String>,
}

impl ReadRequest {
    /// Reads the arguments of the tool.
    pub(in crate::budget) fn from_arguments(
        arguments: Option<&Map<String, Value>>,
    ) -> Result<Self, Misread> {
        let arguments = Value::Object(arguments.cloned().unwrap_or_default());
        let mut arguments: Arguments = serde_json::from_value(arguments)
            .map_err(|error| Misread::Arguments(error.to_string()))?;
        let Some(id) = arguments.id.take() else {
            return Err(misread("give the `id` that the note in the result names"));
        };
        // A model may give the URI in place of the id.
        let id = match id.strip_prefix(SCHEME) {
            Some(rest) => rest.split('?').next().unwrap_or_default(),
            None => &id,
        };
        arguments.read(id)
    }

    /// Reads a URI.
    pub(in crate::budget) fn from_uri(uri: &str) -> Result<Self, Misread> {
        let rest = uri.strip_prefix(SCHEME).ok_or(Misread::UnknownId)?;
        let (id, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut arguments = Arguments::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let number = || {
                let number = value.parse().ok();
                number.ok_or_else(|| misread(format!("`{name}` is not a number from 0 on")))
            };
            match &*name {
                "page" => arguments.page = Some(number()?),
                "offset" => arguments.offset = Some(number()?),
                "limit" => arguments.limit = Some(number()?),
                "pointer" => arguments.pointer = Some(value.into_owned()),
                "search" => arguments.search = Some(value.into_owned()),
                other => {
                    return Err(misread(format!(
                        "unknown parameter `{other}`; give `page`, `offset`, `limit`, `pointer` or \
                         `search`"
                    )));
                }
            }
        }
        arguments.read(id.trim_end_matches('/'))
    }
}

impl Arguments {
    fn read(self, id: &str) -> Result<ReadRequest, Misread> {
        let pointer = self.pointer.clone().filter(|pointer| !pointer.is_empty());
        if pointer
            .as_ref()
            .is_some_and(|pointer| !pointer.starts_with('/'))
        {
            return Err(misread(
                "`pointer` is not a JSON pointer (RFC 6901); it begins with `/`, as in `/items/0`",
            ));
        }
        let range = self.range()?;
        let id = KeptId::parse(id).ok_or(Misread::UnknownId)?;
        Ok(ReadRequest { id, pointer, range })
    }

    fn range(self) -> Result<Range, Misread> {
        let offset = self.offset.unwrap_or(0);
        if let Some(text) = self.search {
            if self.page.is_some() || self.limit.is_some() {
                return Err(misread("`search` goes with neither `page` nor `limit`"));
            }
            if !(1..=MAX_SEARCH).contains(&text.chars().count()) {
                let reason = format!("`search` has to have 1 to {MAX_SEARCH} characters");
                return Err(misread(reason));
            }
            return Ok(Range::Search { text, offset });
        }
        match (self.page, self.offset, self.limit) {
            (None, None, None) => Ok(Range::Page(1)),
            (Some(0), ..) => Err(misread("`page` is 0; the first page is 1")),
            (Some(page), None, None) => Ok(Range::Page(page)),
            (Some(_), ..) => Err(misread("`page` goes with neither `offset` nor `limit`")),
            (.., Some(0)) => Err(misread("`limit` is 0; give at least 1")),
            (.., limit) => Ok(Range::Bytes { offset, limit }),
        }
    }
}

fn misread(reason: impl Into<String>) -> Misread {
    Misread::Arguments(reason.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn read(arguments: Value) -> Result<Range, Misread> {
        ReadRequest::from_arguments(arguments.as_object()).map(|read| read.range)
    }

    #[test]
    fn a_read_without_a_range_is_of_the_first_page() {
        let uri = format!("result://{ID}");
        let by_uri = ReadRequest::from_uri(&uri).map(|read| read.range);
        assert_eq!(by_uri, Ok(Range::Page(1)));
        for id in [ID, &uri] {
            assert_eq!(read(json!({ "id": id })), Ok(Range::Page(1)));
        }
    }

    #[test]
    fn a_uri_has_the_same_parameters_as_the_tool() {
        let uri = format!("result://{ID}?pointer=%2Fitems%2F0&offset=5&limit=10");
        let read = ReadRequest::from_uri(&uri).unwrap();
        assert_eq!(read.pointer.as_deref(), Some("/items/0"));
        let (offset, limit) = (5, Some(10));
        assert_eq!(read.range, Range::Bytes { offset, limit });
        let read = ReadRequest::from_uri(&format!("result://{ID}?search=a+b%26c")).unwrap();
        let (text, offset) = ("a b&c".to_owned(), 0);
        assert_eq!(read.range, Range::Search { text, offset });
    }

    #[test]
    fn wrong_arguments_are_named_with_the_remedy() {
        for (arguments, says) in [
            (json!({}), "give the `id`"),
            (json!({ "id": ID, "page": 0 }), "the first page is 1"),
            (
                json!({ "id": ID, "page": 1, "offset": 5 }),
                "neither `offset`",
            ),
            (json!({ "id": ID, "limit": 0 }), "at least 1"),
            (json!({ "id": ID, "search": "" }), "1 to 1000 characters"),
            (json!({ "id": ID, "pointer": "a" }), "begins with `/`"),
            (json!({ "id": ID, "pages": 1 }), "unknown field `pages`"),
            (json!({ "id": ID, "page": "1" }), "invalid type"),
        ] {
            match read(arguments) {
                Err(Misread::Arguments(reason)) => assert!(reason.contains(says), "{reason}"),
                other => panic!("{other:?}"),
            }
        }
        for id in ["", "12", "+123456789abcdef0123456789abcdef", "result://"] {
            assert_eq!(read(json!({ "id": id })), Err(Misread::UnknownId));
        }
        assert!(ReadRequest::from_uri(&format!("result://{ID}?page=x")).is_err());
        assert!(ReadRequest::from_uri(&format!("result://{ID}?pages=1")).is_err());
    }
}
