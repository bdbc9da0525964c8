//! The texts of items and pages of lists.
//!
//! An item is cut out of the text of its page. The gateway's changes are applied to that text when
//! the merged list is first answered, and a page of the merged list is a piece of it.

use std::{ops::Deref, ops::Range};

use serde::Serialize;
use serde_json::{
    Map, Value,
    value::{RawValue, to_raw_value},
};
use tokio_util::bytes::Bytes;

use super::{
    list_item::{ListHead, ListItem, ListPage},
    merge::{Entry, MergedList},
};
use crate::{
    Lossless, McpResponse,
    caller::Era,
    gateway::names::{app_views, uris::UriPrefix},
    wire::{
        Elements, Members, Reading, Source,
        answers::{Expected, ReadResult},
        apply_to, with_members,
    },
};

/// An item of a list, with the text that it was read from.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Listed<T> {
    item: T,
    text: Option<Bytes>,
}

impl<T> Listed<T> {
    pub(super) fn new(item: T) -> Self {
        Self { item, text: None }
    }

    pub(super) fn text(&self) -> Option<&Bytes> {
        self.text.as_ref()
    }
}

impl<T> Deref for Listed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

impl<T: Serialize> Listed<T> {
    /// Changes the item and its text.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        let read = self.text.as_ref().map(|_| serde_json::to_value(&self.item));
        let changed = change(&mut self.item);
        self.text = self.text.take().zip(read).and_then(|(text, read)| {
            let (read, now) = (read.ok()?, serde_json::to_value(&self.item).ok()?);
            let text: &RawValue = serde_json::from_slice(&text).ok()?;
            apply_to(text, &read, &now, Elements::ByIdentity)
                .ok()
                .map(Bytes::from)
        });
        changed
    }
}

/// Gives a page and each of its items the text that it was read from.
pub(super) fn keep<T: ListItem>(page: &mut ListPage<T>, text: Option<Bytes>) {
    let Some(text) = text else { return };
    if let Some(texts) = items_in::<T>(&text, &page.items) {
        for (item, text) in page.items.iter_mut().zip(texts) {
            item.text = Some(text);
        }
    }
    page.text = Some(text);
}

/// Returns the texts of items in the text of their page, which may have more items than could be
/// read.
fn items_in<T: ListItem>(page: &Bytes, items: &[Listed<T>]) -> Option<Vec<Bytes>> {
    let members: Members<'_> = serde_json::from_slice(page).ok()?;
    let all: Vec<&RawValue> = serde_json::from_str(members.get(T::ITEMS)?.get()).ok()?;
    let slice = |item: &RawValue| page.slice_ref(item.get().as_bytes());
    if all.len() == items.len() {
        return Some(all.into_iter().map(slice).collect());
    }
    let key = |item: &RawValue| -> Option<String> {
        serde_json::from_str(Members::of(item)?.get(T::KEY)?.get()).ok()
    };
    let mut all = all.into_iter();
    let text = |item: &Listed<T>| {
        let own = all.find(|one| key(one).is_some_and(|key| key == item.key()));
        own.map(slice)
    };
    items.iter().map(text).collect()
}

/// The texts of a merged list.
pub(in crate::gateway) struct ListTexts {
    /// The members of the only member's page in their order. That with the items has no text.
    head: Vec<(String, Option<Box<RawValue>>)>,
    /// The shown items, separated by commas.
    text: Bytes,
    /// The end of each item in it, of those that are not shown too.
    ends: Vec<usize>,
}

impl ListTexts {
    /// Makes the texts of a list of these entries. `page` is the text of the only member's page.
    pub(super) fn of<T: ListItem>(
        entries: &[Entry<T>],
        page: Option<&Bytes>,
    ) -> serde_json::Result<Self> {
        let page: Members<'_> = match page {
            Some(page) => serde_json::from_slice(page)?,
            None => Members::default(),
        };
        let text = |name: &str, value: &RawValue| (name != T::ITEMS).then(|| value.to_owned());
        let members = page.0.iter();
        let head = members.map(|(name, value)| (name.to_string(), text(name, value)));
        let head = head.collect();
        let mut text = Vec::new();
        let mut ends = Vec::with_capacity(entries.len());
        for entry in entries {
            if entry.shown {
                if !text.is_empty() {
                    text.push(b',');
                }
                write_entry(&mut text, entry)?;
            }
            ends.push(text.len());
        }
        Ok(Self {
            head,
            text: text.into(),
            ends,
        })
    }

    /// Returns the texts of the shown items in a range of the list.
    fn range(&self, range: &Range<usize>) -> &[u8] {
        let end = |count: usize| count.checked_sub(1).and_then(|last| self.ends.get(last));
        let start = end(range.start).copied().unwrap_or_default();
        let end = end(range.end).copied().unwrap_or_default();
        let items = self.text.get(start..end).unwrap_or_default();
        items.strip_prefix(b",").unwrap_or(items)
    }
}

/// Writes an item under its outward name.
fn write_entry<T: ListItem>(out: &mut Vec<u8>, entry: &Entry<T>) -> serde_json::Result<()> {
    let Some(text) = &entry.text else {
        return serde_json::to_writer(out, &entry.item);
    };
    let uris = &entry.member.uris;
    if !(entry.is_prefixed() || entry.is_described || uris.is_set()) {
        out.extend_from_slice(text);
        return Ok(());
    }
    let members: Members<'_> = serde_json::from_slice(text)?;
    let mut changed = Vec::new();
    if entry.is_prefixed() {
        changed.push((T::KEY, to_raw_value(entry.item.key())?));
    }
    if entry.is_described {
        changed.push(("description", to_raw_value(&entry.item.description())?));
    }
    if uris.is_set() {
        let meta = |value: &mut Value| app_views::rewrite_json(uris, value);
        changed.extend(rewritten(&members, "_meta", meta)?.map(|text| ("_meta", text)));
        if let Some(name) = T::FILES {
            let files = rewritten(&members, name, |files| rewrite_files(uris, files))?;
            changed.extend(files.map(|text| (name, text)));
        }
    }
    let changed: Vec<_> = changed
        .iter()
        .map(|(name, text)| (*name, &**text))
        .collect();
    out.extend_from_slice(&with_members(members, &changed)?);
    Ok(())
}

/// Returns a member with a change to its JSON. Returns `None` if nothing changes.
fn rewritten(
    members: &Members<'_>,
    name: &str,
    rewrite: impl FnOnce(&mut Value) -> bool,
) -> serde_json::Result<Option<Box<RawValue>>> {
    let Some(came) = members.get(name) else {
        return Ok(None);
    };
    // A number beyond the range of JSON values is not in a URI.
    let Ok(read) = serde_json::from_str::<Value>(came.get()) else {
        return Ok(None);
    };
    let mut now = read.clone();
    if !rewrite(&mut now) {
        return Ok(None);
    }
    let text = apply_to(came, &read, &now, Elements::InPlace)?;
    serde_json::from_slice::<&RawValue>(&text).map(|text| Some(text.to_owned()))
}

fn rewrite_files(uris: &UriPrefix, files: &mut Value) -> bool {
    let mut any = false;
    for file in files.as_array_mut().into_iter().flatten() {
        if let Some(Value::String(uri)) = file.get_mut("uri") {
            any |= uris.put_before(uri);
        }
    }
    any
}

/// The members of a page that the gateway writes itself.
const OWN: &[&str] = &["resultType", "_meta", "nextCursor", "ttlMs", "cacheScope"];

/// Returns the response with a page of a merged list, which has the items in this range.
pub(super) fn response<T: ListItem>(
    merged: &MergedList<T>,
    range: &Range<usize>,
    head: ListHead,
    era: Era,
) -> McpResponse {
    let text = page_text(merged, range, head.clone(), era);
    let shown = merged.entries.get(range.clone()).unwrap_or_default();
    let shown = shown.iter().filter(|entry| entry.shown);
    let result = T::answer(head, shown.map(|entry| entry.item.clone()).collect());
    let Ok(text) = text else {
        return McpResponse::new(result);
    };
    let expected = Expected::of(&T::request(None));
    let reading = Reading::Result(ReadResult { expected, era });
    let source = Source::new(text, reading);
    McpResponse::lossless(Lossless::from_source(result, Some(source)))
}

/// Returns the text of a page: that of the only member's page with these items, or else one of the
/// gateway's own.
fn page_text<T: ListItem>(
    merged: &MergedList<T>,
    range: &Range<usize>,
    head: ListHead,
    era: Era,
) -> serde_json::Result<Bytes> {
    let texts = merged.texts()?;
    let items = texts.range(range);
    let mut head = match serde_json::to_value(T::answer(head, Vec::new()))? {
        Value::Object(head) => head,
        _ => Map::new(),
    };
    head.shift_remove(T::ITEMS);
    if era == Era::Legacy {
        head.shift_remove("resultType");
    }
    let mut out = Vec::with_capacity(items.len() + 512);
    let mut has_items = false;
    out.push(b'{');
    for (name, value) in &texts.head {
        let Some(value) = value else {
            if !std::mem::replace(&mut has_items, true) {
                put_items::<T>(&mut out, items)?;
            }
            continue;
        };
        let own = head.shift_remove(name);
        if own.is_none() && OWN.contains(&name.as_str()) {
            continue;
        }
        put_name(&mut out, name)?;
        match own {
            Some(now) => {
                let read = serde_json::from_str(value.get()).unwrap_or_default();
                out.extend(apply_to(value, &read, &now, Elements::ByIdentity)?);
            }
            None => out.extend_from_slice(value.get().as_bytes()),
        }
    }
    for (name, value) in &head {
        put_name(&mut out, name)?;
        serde_json::to_writer(&mut out, value)?;
    }
    if !has_items {
        put_items::<T>(&mut out, items)?;
    }
    out.push(b'}');
    Ok(out.into())
}

fn put_items<T: ListItem>(out: &mut Vec<u8>, items: &[u8]) -> serde_json::Result<()> {
    put_name(out, T::ITEMS)?;
    out.push(b'[');
    out.extend_from_slice(items);
    out.push(b']');
    Ok(())
}

fn put_name(out: &mut Vec<u8>, name: &str) -> serde_json::Result<()> {
    if out.len() > 1 {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name)?;
    out.push(b':');
    Ok(())
}
