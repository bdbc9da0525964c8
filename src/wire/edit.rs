//! Changes that are applied to a result's text at once, without a second reading.

use std::ops::Range;

use rmcp::model::{ClientRequest, ServerResult, Tool};
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use tokio_util::bytes::{BufMut, Bytes, BytesMut};

use super::{
    apply::apply,
    lossless::Lossless,
    members::{Members, with_members},
};
use crate::{
    Item,
    protocol::{
        lists::{self, ListKind},
        results,
    },
};

/// The place of a member's value in a text.
pub(crate) type Place = Range<usize>;

/// A change of one item of a list.
#[derive(Clone, Debug)]
pub(crate) enum Edit<T> {
    Keep,
    Remove,
    Replace(T),
}

impl Lossless<ServerResult> {
    /// Returns the place of a member of the result in its text. Returns `None` if there is none, or
    /// if the text is not up to date.
    pub(crate) fn place_of(&self, member: &str) -> Option<Place> {
        let text = self.source()?.text();
        let members: Members<'_> = serde_json::from_slice(text).ok()?;
        members
            .get_only(member)
            .filter(|_| !self.is_changed())
            .and_then(|value| place(text, value))
    }

    /// Sets a member: in the typed result by `set`, and in the text at its place there.
    pub(crate) fn set_at(
        &mut self,
        place: Option<&Place>,
        json: &str,
        set: impl FnOnce(&mut ServerResult),
    ) {
        let edited = self
            .unchanged_text()
            .zip(place)
            .and_then(|(text, place)| replaced(text, place, |out| out.put_slice(json.as_bytes())));
        self.set_both(edited, set);
    }

    /// Sets a member of the result's `_meta`, if the result has one.
    pub(crate) fn set_meta(&mut self, key: &str, value: Value) {
        if results::meta(self.as_read_mut()).is_none() {
            return;
        }
        let edited = self.unchanged_text().and_then(|text| {
            let members: Members<'_> = serde_json::from_slice(text).ok()?;
            let own = match members.get("_meta") {
                Some(own) => Members::of(own).unwrap_or_default(),
                None => Members::default(),
            };
            let json = serde_json::value::to_raw_value(&value).ok()?;
            let own = with_members(own, &[(key, &json)]).ok()?;
            let own: &RawValue = serde_json::from_slice(&own).ok()?;
            with_members(members, &[("_meta", own)])
                .ok()
                .map(Bytes::from)
        });
        self.set_both(edited, |result| {
            if let Some(meta) = results::meta(result) {
                meta.get_or_insert_default().insert(key.to_owned(), value);
            }
        });
    }

    /// Removes the items of a list that are not to be shown. Order and cursor stay, so a page may
    /// be short or empty. A result that is not a list stays as it is.
    pub(crate) fn retain_items(&mut self, shows: impl Fn(Item<'_>) -> bool) {
        let Some((kind, shown)) = lists::shown(self, shows) else {
            return;
        };
        if shown.iter().all(|is_shown| *is_shown) {
            return;
        }
        let edited = self.unchanged_text().and_then(|text| {
            edited_items(
                text,
                kind,
                [&[(); 0]; 2],
                shown.len(),
                |index, item, out| {
                    let is_shown = shown.get(index).copied().unwrap_or_default();
                    if is_shown {
                        out.put_slice(item.get().as_bytes());
                    }
                    Some(is_shown)
                },
            )
        });
        self.set_both(edited, |result| lists::retain(result, &shown));
    }

    /// Changes the tools of a list: one edit for each. The tools of `first` come before them, and
    /// those of `last` after them.
    pub(crate) fn edit_tools(&mut self, edits: Vec<Edit<Tool>>, first: Vec<Tool>, last: Vec<Tool>) {
        let ServerResult::ListToolsResult(list) = &**self else {
            return;
        };
        let adds = !first.is_empty() || !last.is_empty();
        if !adds && edits.iter().all(|edit| matches!(edit, Edit::Keep)) {
            return;
        }
        let write = |index: usize, item: &RawValue, out: &mut BytesMut| {
            match edits.get(index)? {
                Edit::Keep => out.put_slice(item.get().as_bytes()),
                Edit::Remove => return Some(false),
                Edit::Replace(now) => {
                    let read = serde_json::to_value(list.tools.get(index)?).ok()?;
                    let now = serde_json::to_value(now).ok()?;
                    out.put_slice(&apply(item, &read, &now).ok()?);
                }
            }
            Some(true)
        };
        let edited = self.unchanged_text().and_then(|text| {
            let added = [&first[..], &last[..]];
            edited_items(text, ListKind::Tools, added, list.tools.len(), write)
        });
        self.set_both(edited, |result| {
            if let ServerResult::ListToolsResult(list) = result {
                let mut tools = first;
                let edited = std::mem::take(&mut list.tools).into_iter().zip(edits);
                tools.extend(edited.filter_map(|(tool, edit)| match edit {
                    Edit::Keep => Some(tool),
                    Edit::Remove => None,
                    Edit::Replace(tool) => Some(tool),
                }));
                tools.extend(last);
                list.tools = tools;
            }
        });
    }

    /// Changes the typed result, and its text if the same change to it is known.
    fn set_both(&mut self, edited: Option<Bytes>, change: impl FnOnce(&mut ServerResult)) {
        match edited {
            Some(text) => {
                self.set_text(text);
                change(self.as_read_mut());
            }
            None => change(self),
        }
    }
}

impl Lossless<ClientRequest> {
    /// Returns the params of the call for which a call of a registry's `call_tool` stands: its
    /// arguments have the `name` and the `arguments`. Returns `None` if they are not known as text.
    pub(crate) fn inner_call_params(&self) -> Option<Bytes> {
        let text = self.unchanged_text()?;
        let members: Members<'_> = serde_json::from_slice(text).ok()?;
        let inner = Members::of(members.get("arguments")?)?;
        let name = inner.get("name")?;
        let mut out = BytesMut::with_capacity(text.len()).writer();
        let members = members.0.iter().filter_map(|(member, value)| {
            let value = match &**member {
                "name" => Some(name),
                "arguments" => inner.get("arguments"),
                _ => Some(*value),
            };
            Some((&**member, value?))
        });
        super::members::write(&mut out, members).ok()?;
        Some(out.into_inner().freeze())
    }
}

/// Returns the place of a part of a text.
fn place(text: &Bytes, part: &RawValue) -> Option<Place> {
    let start = (part.get().as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(part.get().len())?;
    (end <= text.len()).then_some(start..end)
}

fn replaced(text: &Bytes, place: &Place, write: impl FnOnce(&mut BytesMut)) -> Option<Bytes> {
    let (before, after) = (text.get(..place.start)?, text.get(place.end..)?);
    let mut out = BytesMut::with_capacity(text.len() + 32);
    out.put_slice(before);
    write(&mut out);
    out.put_slice(after);
    Some(out.freeze())
}

/// Writes the items of a list again: those of `first`, each of the text by `write`, which returns
/// `false` if it has written none, and those of `last`. Returns `None` if the text does not have so
/// many items.
fn edited_items(
    text: &Bytes,
    kind: ListKind,
    [first, last]: [&[impl Serialize]; 2],
    count: usize,
    mut write: impl FnMut(usize, &RawValue, &mut BytesMut) -> Option<bool>,
) -> Option<Bytes> {
    let members: Members<'_> = serde_json::from_slice(text).ok()?;
    // Of a list that is given twice, the other one would stay as it is.
    let list = members.get_only(kind.member())?;
    let items: Vec<&RawValue> = serde_json::from_str(list.get()).ok()?;
    if items.len() != count {
        return None;
    }
    let mut out = BytesMut::with_capacity(list.get().len());
    out.put_u8(b'[');
    let add = |items: &[_], out: &mut BytesMut| {
        for item in items {
            if out.len() > 1 {
                out.put_u8(b',');
            }
            out.put_slice(&serde_json::to_vec(item).ok()?);
        }
        Some(())
    };
    add(first, &mut out)?;
    for (index, item) in items.into_iter().enumerate() {
        let end = out.len();
        if end > 1 {
            out.put_u8(b',');
        }
        if !write(index, item, &mut out)? {
            out.truncate(end);
        }
    }
    add(last, &mut out)?;
    out.put_u8(b']');
    replaced(text, &place(text, list)?, |whole| whole.put_slice(&out))
}
