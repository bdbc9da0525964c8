//! Changes of the parts of a result, applied to its text at once.

use rmcp::model::ServerResult;
use serde_json::value::RawValue;
use tokio_util::bytes::{BufMut, Bytes, BytesMut};

use super::{edit::Edit, lossless::Lossless, members::Members};

/// Changes of a result whose parts are replaced.
#[derive(Debug, Default)]
pub(crate) struct PartEdits {
    /// The member with the list of parts, such as `content`.
    pub(crate) list: &'static str,
    /// An edit for each part, with the JSON of a part that replaces it.
    pub(crate) parts: Vec<Edit<String>>,
    /// The JSON of parts that come after them.
    pub(crate) added: Vec<String>,
    /// The JSON of members that are set, and `None` for those that are removed.
    pub(crate) members: Vec<(&'static str, Option<String>)>,
}

impl Lossless<ServerResult> {
    /// Returns a result with `value`, to which the edits lead, and with the text after the edits.
    pub(crate) fn with_edited_parts(&self, value: ServerResult, edits: &PartEdits) -> Self {
        let edited = self.unchanged_text().and_then(|text| edits.apply(text));
        let mut result = Self::from_source(value, self.source().cloned());
        match edited {
            Some(text) => result.set_text(text),
            // The difference to what was read is applied where the result leaves.
            None => {
                let _: &mut ServerResult = &mut result;
            }
        }
        result
    }
}

impl PartEdits {
    fn apply(&self, text: &Bytes) -> Option<Bytes> {
        let members: Members<'_> = serde_json::from_slice(text).ok()?;
        let own = |name: &str| self.members.iter().find(|(own, _)| *own == name);
        let known = |name: &str| name == self.list || own(name).is_some();
        let mut out = BytesMut::new();
        let begin = |out: &mut BytesMut, name: &str| {
            out.put_u8(if out.is_empty() { b'{' } else { b',' });
            out.put_slice(&serde_json::to_vec(name).ok()?);
            out.put_u8(b':');
            Some(())
        };
        for (name, value) in &members.0 {
            // Of a member that is given twice, the other one would stay as it is.
            if known(name) {
                members.get_only(name)?;
            }
            match own(name) {
                Some((_, None)) => {}
                Some((_, Some(json))) => {
                    begin(&mut out, name)?;
                    out.put_slice(json.as_bytes());
                }
                None => {
                    begin(&mut out, name)?;
                    match name == self.list {
                        true => self.write_parts(Some(value), &mut out)?,
                        false => out.put_slice(value.get().as_bytes()),
                    }
                }
            }
        }
        if members.get(self.list).is_none() && !self.added.is_empty() {
            begin(&mut out, self.list)?;
            self.write_parts(None, &mut out)?;
        }
        for (name, json) in &self.members {
            if let Some(json) = json.as_ref().filter(|_| members.get(name).is_none()) {
                begin(&mut out, name)?;
                out.put_slice(json.as_bytes());
            }
        }
        if out.is_empty() {
            out.put_u8(b'{');
        }
        out.put_u8(b'}');
        Some(out.freeze())
    }

    fn write_parts(&self, list: Option<&RawValue>, out: &mut BytesMut) -> Option<()> {
        let came: Vec<&RawValue> = match list {
            Some(list) => serde_json::from_str(list.get()).ok()?,
            None => Vec::new(),
        };
        if came.len() != self.parts.len() {
            return None;
        }
        let edited = came.iter().zip(&self.parts);
        let edited = edited.filter_map(|(came, edit)| match edit {
            Edit::Keep => Some(came.get()),
            Edit::Remove => None,
            Edit::Replace(json) => Some(json),
        });
        out.put_u8(b'[');
        let added = self.added.iter().map(String::as_str);
        for (index, json) in edited.chain(added).enumerate() {
            if index > 0 {
                out.put_u8(b',');
            }
            out.put_slice(json.as_bytes());
        }
        out.put_u8(b']');
        Some(())
    }
}

impl Lossless<ServerResult> {
    /// Returns the text of a member of the result, if the result came from a text that is up to
    /// date.
    pub(crate) fn member_text(&self, member: &str) -> Option<&str> {
        let place = self.place_of(member)?;
        std::str::from_utf8(self.source()?.text().get(place)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edits: &PartEdits) -> Option<String> {
        let edited = edits.apply(&Bytes::copy_from_slice(text.as_bytes()))?;
        Some(String::from_utf8(edited.to_vec()).unwrap())
    }

    fn edits() -> PartEdits {
        PartEdits {
            list: "content",
            parts: vec![Edit::Keep, Edit::Replace("2".to_owned()), Edit::Remove],
            added: vec!["4".to_owned()],
            members: vec![
                ("structuredContent", Some("{\"n\":1e400}".to_owned())),
                ("gone", None),
                ("isError", Some("true".to_owned())),
            ],
        }
    }

    #[test]
    fn parts_and_members_change_and_all_else_stays() {
        let text =
            r#"{"x": 1.50, "gone":0, "content": [{"y":1e999}, "b", "c"], "structuredContent":{}}"#;
        let now = r#"{"x":1.50,"content":[{"y":1e999},2,4],"structuredContent":{"n":1e400},"isError":true}"#;
        assert_eq!(edited(text, &edits()).as_deref(), Some(now));
    }

    #[test]
    fn a_text_with_other_parts_or_a_list_given_twice_is_not_edited() {
        for text in [
            r#"{"content":[1,2]}"#,
            r#"{"content":[1,2,3],"content":[1,2,3]}"#,
            "[]",
        ] {
            assert_eq!(edited(text, &edits()), None, "{text}");
        }
    }
}
