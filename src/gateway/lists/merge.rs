//! Merging of the members' lists under outward names.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use rmcp::model::{CacheScope, MetaObject, Prompt, Resource, ResourceTemplate, Skill, Tool};
use tokio_util::bytes::Bytes;

use super::{
    fetch::Part,
    list_item::{ForEachItem, ListItem, PerItem, strictest},
    list_key::ByListKey,
    listed_member::ListedMember,
    text::{ListTexts, Listed},
};
use crate::gateway::{
    members::active_member::ActiveMember,
    names::{prefix::Prefix, style::Style},
};
use crate::{ToolHints, context::audience::PrivateTo};

/// The maximum number of omitted names that are remembered for the handle.
const MAX_LEFT_OUT: usize = 100;

/// The settings of a merge.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct ListRules {
    pub(in crate::gateway) style: Arc<Style>,
    pub(in crate::gateway) read_only: bool,
    pub(in crate::gateway) page_size: usize,
    pub(in crate::gateway) list_timeout: Duration,
}

/// One item under its outward name.
pub(in crate::gateway) struct Entry<T> {
    pub(in crate::gateway) member: Arc<ListedMember>,
    pub(in crate::gateway) inner: Box<str>,
    pub(in crate::gateway) item: T,
    /// The text of the member's own item.
    pub(super) text: Option<Bytes>,
    /// The outward item has a description of the gateway's or the operator's.
    pub(super) is_described: bool,
    pub(in crate::gateway) shown: bool,
}

impl<T: ListItem> Entry<T> {
    /// Returns `true` if the outward name differs from the member's own.
    pub(in crate::gateway) fn is_prefixed(&self) -> bool {
        *self.inner != *self.item.key()
    }
}

/// The target of an outward name. It is stored apart from the entries, so that a call touches
/// little memory even if the list is long.
pub(in crate::gateway) struct NameTarget {
    pub(in crate::gateway) member: Arc<ListedMember>,
    inner: Inner,
    pub(in crate::gateway) shown: bool,
    /// The tool's own annotations.
    pub(in crate::gateway) hints: Option<ToolHints>,
}

/// The member's own name.
enum Inner {
    /// The outward name without its first bytes, of which this is the number.
    After(usize),
    Other(Box<str>),
}

impl NameTarget {
    fn to<T: ListItem>(entry: &Entry<T>) -> Self {
        let outward = entry.item.key();
        Self {
            member: entry.member.clone(),
            inner: match outward.strip_suffix(&*entry.inner) {
                Some(before) => Inner::After(before.len()),
                None => Inner::Other(entry.inner.clone()),
            },
            shown: entry.shown,
            hints: entry.item.hints(),
        }
    }

    /// Returns the member's own name for this outward name.
    pub(in crate::gateway) fn inner<'a>(&'a self, outward: &'a str) -> &'a str {
        match &self.inner {
            Inner::After(start) => outward.get(*start..).unwrap_or(outward),
            Inner::Other(name) => name,
        }
    }
}

/// A merged list.
pub(in crate::gateway) struct MergedList<T> {
    /// The ids and stamps of the lists that were merged.
    pub(in crate::gateway) sources: Vec<(u64, u64)>,
    pub(in crate::gateway) entries: Vec<Entry<T>>,
    pub(in crate::gateway) targets: HashMap<Box<str>, NameTarget>,
    /// The texts, which the first answer makes.
    texts: OnceLock<ListTexts>,
    /// The text of the only member's first page.
    page: Option<Bytes>,
    /// Names that two members have and that may not be prefixed: the name, the member that has it,
    /// and the member whose item is omitted.
    pub(in crate::gateway) contested: Vec<(String, Arc<str>, Arc<str>)>,
    pub(in crate::gateway) ttl_ms: Option<u64>,
    pub(in crate::gateway) cache_scope: Option<CacheScope>,
    pub(in crate::gateway) meta: Option<MetaObject>,
    pub(in crate::gateway) private: Option<PrivateTo>,
}

/// The cached [`MergedList`]s of one kind of item.
pub(in crate::gateway) struct MergedCaches;

impl PerItem for MergedCaches {
    type Of<T: ListItem> = ByListKey<Arc<MergedList<T>>>;
}

/// The cached merged lists of all kinds.
pub(in crate::gateway) type MergedLists = ForEachItem<MergedCaches>;

/// Removes all merged lists, because the members have changed.
pub(in crate::gateway) fn clear(merged: &MergedLists) {
    Tool::of(merged).clear();
    Prompt::of(merged).clear();
    Resource::of(merged).clear();
    ResourceTemplate::of(merged).clear();
    Skill::of(merged).clear();
}

impl<T: ListItem> MergedList<T> {
    /// Returns the target of this outward name.
    pub(in crate::gateway) fn get(&self, outward: &str) -> Option<&NameTarget> {
        self.targets.get(outward)
    }

    /// Returns the texts.
    pub(super) fn texts(&self) -> serde_json::Result<&ListTexts> {
        if let Some(texts) = self.texts.get() {
            return Ok(texts);
        }
        let texts = ListTexts::of(&self.entries, self.page.as_ref())?;
        Ok(self.texts.get_or_init(|| texts))
    }

    /// Returns the entries that are known outside by another name than their own, which this is.
    pub(in crate::gateway) fn entries_of(&self, own: &str) -> impl Iterator<Item = &Entry<T>> {
        let entries = self.entries.iter();
        entries.filter(move |entry| *entry.inner == *own && entry.is_prefixed())
    }

    /// Returns `true` if some member has an item with this name as its own.
    pub(in crate::gateway) fn has_own(&self, name: &str) -> bool {
        self.entries_of(name).next().is_some()
    }

    /// Returns the outward names that can be used.
    pub(in crate::gateway) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries
            .iter()
            .filter(|entry| entry.shown)
            .map(|entry| entry.item.key())
    }
}

struct NameClaim {
    part: usize,
    item: usize,
    /// The order of claims, lowest first: names given by an operator, then names that need no
    /// change.
    rank: u8,
    wanted: String,
    /// The name to use if the wanted one is taken, if such a name is allowed.
    instead: Option<String>,
    may_change: bool,
}

fn draft<T: ListItem>(
    member: &ActiveMember,
    inner: &str,
    style: &Style,
    reserved: &HashSet<&str>,
) -> (u8, String, Option<String>, bool) {
    if !T::NAMED {
        return match member.uris.is_set() {
            true => (1, member.uris.outward(inner).into_owned(), None, false),
            false => (2, inner.to_owned(), None, false),
        };
    }
    let said = member.options.override_of(T::item(inner));
    if let Some(name) = said.and_then(|one| one.name.clone()) {
        return (0, name, None, false);
    }
    let prefixed = style.prefixed(&member.name, inner);
    // A name that reads as another member's belongs to that member, even if the member does not
    // have it now.
    let foreign = style
        .split(inner)
        .is_some_and(|(member, _)| reserved.contains(member));
    let (wanted, instead, may_change) = match member.prefix {
        Prefix::Always => (prefixed, None, true),
        Prefix::OnCollision if foreign => (prefixed, None, true),
        Prefix::OnCollision => (inner.to_owned(), Some(prefixed), true),
        Prefix::Never => (inner.to_owned(), None, false),
    };
    let natural = style.fits(&wanted);
    let rank = match (natural, member.prefix) {
        (true, Prefix::Always) => 1,
        (true, _) => 2,
        (false, _) => 3,
    };
    (rank, wanted, instead, may_change)
}

/// Merges the members' lists, in the members' order.
pub(in crate::gateway) fn merge<T: ListItem>(
    parts: &[Part<T>],
    rules: &ListRules,
) -> MergedList<T> {
    let drafts = drafts(parts, &rules.style);
    let mut merged = MergedList {
        sources: sources(parts),
        entries: Vec::with_capacity(drafts.len()),
        targets: HashMap::with_capacity(drafts.len()),
        texts: OnceLock::new(),
        page: match parts {
            [part] => part.list.as_ref().and_then(|list| list.page.clone()),
            _ => None,
        },
        contested: Vec::new(),
        ttl_ms: None,
        cache_scope: None,
        meta: None,
        private: None,
    };
    let names = claim(&drafts, parts, &rules.style, &mut merged.contested);
    for (draft, name) in drafts.into_iter().zip(names) {
        let (Some(name), Some(part)) = (name, parts.get(draft.part)) else {
            continue;
        };
        let list = part.list.as_ref();
        let Some(listed) = list.and_then(|list| list.items.get(draft.item)) else {
            continue;
        };
        let outward = name.clone().into_boxed_str();
        let entry = entry(&part.member, listed, name, rules);
        merged.targets.insert(outward, NameTarget::to(&entry));
        merged.entries.push(entry);
    }
    set_cache_hints(&mut merged, parts);
    merged
}

/// Returns the name that each item would like to have.
fn drafts<T: ListItem>(parts: &[Part<T>], style: &Style) -> Vec<NameClaim> {
    let reserved: HashSet<&str> = parts
        .iter()
        .filter(|part| part.member.prefix == Prefix::Always)
        .map(|part| &*part.member.name)
        .collect();
    let mut drafts = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut own = HashSet::new();
        let items = part.list.iter().flat_map(|list| list.items.iter());
        for (item, listed) in items.enumerate() {
            if !own.insert(listed.key()) {
                continue;
            }
            let (rank, wanted, instead, may_change) =
                draft::<T>(&part.member, listed.key(), style, &reserved);
            drafts.push(NameClaim {
                part: index,
                item,
                rank,
                wanted,
                instead,
                may_change,
            });
        }
    }
    drafts
}

/// Returns the name of each item. An item has none if its name is taken and no other is allowed.
fn claim<T: ListItem>(
    drafts: &[NameClaim],
    parts: &[Part<T>],
    style: &Style,
    contested: &mut Vec<(String, Arc<str>, Arc<str>)>,
) -> Vec<Option<String>> {
    let fit = |name: &str, again| match T::NAMED {
        true => style.fit(name, again).into_owned(),
        false => name.to_owned(),
    };
    let member = |draft: &NameClaim| parts.get(draft.part).map(|part| part.member.name.clone());
    let mut order: Vec<(usize, &NameClaim)> = drafts.iter().enumerate().collect();
    order.sort_by_key(|(_, draft)| draft.rank);
    let mut claimed: HashMap<String, &NameClaim> = HashMap::with_capacity(drafts.len());
    let mut names: Vec<Option<String>> = vec![None; drafts.len()];
    for (index, draft) in order {
        let mut name = fit(&draft.wanted, 0);
        if claimed.contains_key(&name)
            && let Some(instead) = &draft.instead
        {
            name = fit(instead, 0);
        }
        let mut again = 1;
        while claimed.contains_key(&name) && draft.may_change {
            name = fit(draft.instead.as_ref().unwrap_or(&draft.wanted), again);
            again += 1;
        }
        if let Some(winner) = claimed.get(&name) {
            if contested.len() < MAX_LEFT_OUT
                && let (Some(winner), Some(loser)) = (member(winner), member(draft))
            {
                contested.push((name, winner, loser));
            }
            continue;
        }
        claimed.insert(name.clone(), draft);
        if let Some(slot) = names.get_mut(index) {
            *slot = Some(name);
        }
    }
    names
}

fn entry<T: ListItem>(
    member: &Arc<ListedMember>,
    listed: &Listed<T>,
    name: String,
    rules: &ListRules,
) -> Entry<T> {
    let inner = listed.key().to_owned();
    let mut item = T::clone(listed);
    let options = &member.options;
    let is_read_only = || {
        let hints = item.hints();
        hints.is_none_or(|hints| hints.read_only && options.trusted == Some(true))
    };
    let shown = options.expose(T::item(&inner), &name) && (!rules.read_only || is_read_only());
    let given = options.override_of(T::item(&inner));
    let prefixed = T::NAMED && name != inner && member.prefix != Prefix::Never;
    let description = match given.and_then(|given| given.description.clone()) {
        Some(given) => Some(given),
        None if prefixed => item
            .description()
            .map(|own| format!("[{}] {own}", member.name)),
        None => None,
    };
    let is_described = description.is_some();
    if let Some(description) = description {
        item.set_description(description);
    }
    item.rewrite_mentioned_uris(&member.uris);
    if name != inner {
        item.set_key(name);
    }
    Entry {
        member: member.clone(),
        inner: inner.into(),
        item,
        text: listed.text().cloned(),
        is_described,
        shown,
    }
}

/// Sets the strictest of the members' cache hints (MCP 2026-07-28, Caching).
fn set_cache_hints<T: ListItem>(merged: &mut MergedList<T>, parts: &[Part<T>]) {
    let lists = || parts.iter().filter_map(|part| part.list.as_ref());
    let any = lists().any(|list| list.ttl_ms.is_some());
    merged.ttl_ms = any
        .then(|| lists().map(|list| list.ttl_ms.unwrap_or(0)).min())
        .flatten();
    merged.cache_scope = lists()
        .map(|list| list.cache_scope)
        .reduce(strictest)
        .flatten();
    let mut metas = lists().filter_map(|list| list.meta.clone());
    // The `_meta` of one member's list does not apply to the lists of others.
    merged.meta = match parts.len() {
        1 => metas.next(),
        _ => None,
    };
    let private = lists().filter_map(|list| list.private.clone());
    merged.private = private.reduce(|all, one| all.and(&one));
}

pub(in crate::gateway) fn sources<T>(parts: &[Part<T>]) -> Vec<(u64, u64)> {
    parts
        .iter()
        .map(|part| {
            (
                part.member.id,
                part.list.as_ref().map_or(0, |list| list.stamp),
            )
        })
        .collect()
}
