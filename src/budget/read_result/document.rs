use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::kept::{KeptPart, KeptResult};
use crate::{util::text::boundary, wire::Members};

/// The text that is read: a part of a kept result, or a value in its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::budget) struct Document {
    pub text: Arc<str>,
    pub mime_type: Option<String>,
    /// `true` if the text is base64.
    pub is_blob: bool,
}

impl Document {
    /// Returns the text at a pointer, else the main text.
    ///
    /// # Errors
    ///
    /// The reason, with the remedy.
    pub(in crate::budget) fn of(kept: &KeptResult, pointer: Option<&str>) -> Result<Self, String> {
        let main = kept
            .main_part()
            .ok_or_else(|| "the result has neither text nor data".to_owned())?;
        let Some(pointer) = pointer else {
            return Ok(Self::part(main));
        };
        let within = |part: &KeptPart| {
            let rest = pointer.strip_prefix(&*part.pointer)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        // A pointer to a block means its text or its data.
        let of_block = |part: &KeptPart| {
            let rest = part.pointer.strip_prefix(pointer);
            rest.is_some_and(|rest| rest.starts_with('/'))
                .then(String::new)
        };
        let find = |rest: &dyn Fn(&KeptPart) -> Option<String>| {
            let mut parts = kept.parts().iter();
            parts.find_map(|part| Some((part, rest(part)?)))
        };
        let named = find(&within).or_else(|| find(&of_block));
        // A pointer that names no part is one into the JSON of the result.
        let json = kept.json_part().unwrap_or(main);
        let (part, rest) = named.unwrap_or_else(|| (json, pointer.to_owned()));
        match &*rest {
            "" => Ok(Self::part(part)),
            rest => Self::value(part, rest),
        }
    }

    fn part(part: &KeptPart) -> Self {
        Self {
            text: part.data.clone(),
            mime_type: part.mime_type.clone(),
            is_blob: part.is_blob,
        }
    }

    /// Returns the value at a pointer into the JSON of a part: a string as its text, and any other
    /// value as the JSON that it is in the part.
    fn value(part: &KeptPart, pointer: &str) -> Result<Self, String> {
        let json = (!part.is_blob).then(|| serde_json::from_str(&part.data).ok());
        let Some(mut value) = json.flatten() else {
            return Err(format!(
                "`{}` is not JSON, so `pointer` leads nowhere; read it by `page` or `offset`",
                part.pointer
            ));
        };
        let mut walked = String::new();
        for token in pointer.split('/').skip(1) {
            let name = token.replace("~1", "/").replace("~0", "~");
            let Some(next) = child(value, &name) else {
                let at = if walked.is_empty() {
                    "the top"
                } else {
                    &walked
                };
                return Err(format!(
                    "there is no `{}` at {}: {}",
                    shown(&name),
                    shown(at),
                    description(value)
                ));
            };
            walked = format!("{walked}/{token}");
            value = next;
        }
        let json: &RawValue = value;
        let (text, mime_type) = match serde_json::from_str::<String>(json.get()) {
            Ok(text) => (text, "text/plain"),
            Err(_) => (json.get().to_owned(), "application/json"),
        };
        Ok(Self {
            text: text.into(),
            mime_type: Some(mime_type.to_owned()),
            is_blob: false,
        })
    }
}

fn child<'a>(value: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    if value.get().starts_with('{') {
        return Members::of(value)?.get(name);
    }
    let elements: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    elements.get(name.parse::<usize>().ok()?).copied()
}

/// The longest name in an error, in bytes.
const MAX_NAME: usize = 100;

/// Returns a name for an error, without the rest of a long one.
fn shown(name: &str) -> String {
    match boundary(name, MAX_NAME) {
        end if end < name.len() => format!("{}…", &name[..end]),
        _ => name.to_owned(),
    }
}

/// Returns what leads on from a value, in words. Limit: 20 names of 100 bytes.
fn description(value: &RawValue) -> String {
    if value.get().starts_with('{') {
        let members = Members::of(value).unwrap_or_default().0;
        let names = members.iter().take(20);
        let names = names.map(|(name, _)| format!("`{}`", shown(name)));
        let more = if members.len() > 20 { ", …" } else { "" };
        return format!("it has {}{more}", names.collect::<Vec<_>>().join(", "));
    }
    match serde_json::from_str::<Vec<&RawValue>>(value.get()) {
        Ok(elements) => format!("it is an array of {} elements", elements.len()),
        Err(_) => "it is a single value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pointer: &str) -> Result<String, String> {
        let json = r#"{"items":[{"name":"é","size":1.50},{"name":"b"}],"a/b":{"~":1e400}}"#;
        let parts = vec![
            KeptPart::text("/content/0/text", None, "a note"),
            KeptPart::text("/content/1/text", None, json),
        ];
        let kept = KeptResult::new(parts, 10);
        Document::of(&kept, Some(pointer)).map(|document| document.text.to_string())
    }

    #[test]
    fn a_pointer_leads_to_a_part_or_into_its_json() {
        let item = r#"{"name":"é","size":1.50}"#;
        assert_eq!(at("/content/0/text").unwrap(), "a note");
        assert_eq!(at("/content/0").unwrap(), "a note");
        assert_eq!(at("/items/0/name").unwrap(), "é");
        assert_eq!(at("/content/1/text/items/0").unwrap(), item);
        // Numbers keep their digits.
        assert_eq!(at("/items/0/size").unwrap(), "1.50");
        assert_eq!(at("/a~1b/~0").unwrap(), "1e400");
    }

    #[test]
    fn a_pointer_to_nothing_is_answered_with_what_there_is() {
        assert_eq!(
            at("/items/9").unwrap_err(),
            "there is no `9` at /items: it is an array of 2 elements"
        );
        assert_eq!(
            at("/name").unwrap_err(),
            "there is no `name` at the top: it has `items`, `a/b`"
        );
        assert!(at("/content/0/text/x").unwrap_err().contains("is not JSON"));
    }
}
