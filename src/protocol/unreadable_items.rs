//! Items of lists that could not be read.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use rmcp::model::ClientRequest;

use super::methods::{self, Method};

use crate::util::{lock, text};

/// The maximum number of reported items of one list. Further items are only counted.
pub(crate) const MAX_REPORTED: usize = 100;
/// The maximum length of a name or a reason that is reported, in bytes.
const MAX_TEXT: usize = 200;
/// The maximum number of different items that are logged.
const MAX_LOGGED: usize = 1_000;

/// An item that was left out of a server's list. Either it could not be read, or official clients
/// refuse a list that contains it; see [`Upstream::unreadable`](crate::Upstream::unreadable).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UnreadableItem {
    /// The method of the list, for example `tools/list`.
    pub method: &'static str,
    /// The item's index in its page, from 0.
    pub index: usize,
    /// The item's name or URI, if it can be read.
    pub name: Option<String>,
    /// The invalid field, if it is known.
    pub field: Option<String>,
    /// The reason why the item was left out.
    pub reason: String,
}

impl fmt::Display for UnreadableItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "item {} of `{}`", self.index, self.method)?;
        if let Some(name) = &self.name {
            write!(f, ", `{name}`")?;
        }
        if let Some(field) = &self.field {
            write!(f, ", field `{field}`")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// The part of a server's text that is reported.
pub(crate) fn cut(mut text: String) -> String {
    text.truncate(text::boundary(&text, MAX_TEXT));
    text
}

/// The items that were left out of a list, in its response's extensions.
#[derive(Clone, Debug)]
pub(crate) struct LeftOut(pub(crate) Arc<[UnreadableItem]>);

/// A request for a page of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing {
    pub(crate) method: &'static str,
    is_first: bool,
}

impl Listing {
    pub(crate) fn of(request: &ClientRequest) -> Option<Self> {
        let params = methods::page_params(request)?;
        let method = Method::of(request)?;
        method.row().list?;
        Some(Self {
            method: method.name(),
            is_first: params.is_none_or(|params| params.cursor.is_none()),
        })
    }
}

/// The items that the lists of one server lacked when they were last read. Limit: 100 items of each
/// list.
#[derive(Default)]
pub(crate) struct UnreadableLog(Mutex<State>);

#[derive(Default)]
struct State {
    lists: HashMap<&'static str, Vec<UnreadableItem>>,
    logged: HashSet<UnreadableItem>,
}

impl UnreadableLog {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Records the items of a page. The first page replaces the record of the list.
    pub(crate) fn read(&self, listing: Listing, items: &[UnreadableItem]) {
        let mut state = self.state();
        if items.is_empty() && state.lists.is_empty() {
            return;
        }
        if listing.is_first {
            state.lists.remove(listing.method);
        }
        state.add(listing.method, items);
    }

    /// Records items that were left out of a list for another reason.
    pub(crate) fn add(&self, method: &'static str, items: &[UnreadableItem]) {
        self.state().add(method, items);
    }

    /// Logs, once for each item, that it was left out.
    pub(crate) fn log(&self, server: &str, items: &[UnreadableItem]) {
        let mut state = self.state();
        for item in items {
            if state.logged.len() < MAX_LOGGED && state.logged.insert(item.clone()) {
                tracing::warn!(
                    server,
                    method = item.method,
                    index = item.index,
                    name = item.name,
                    field = item.field,
                    reason = item.reason,
                    "an item of a server's list is left out"
                );
            }
        }
    }

    pub(crate) fn items(&self) -> Vec<UnreadableItem> {
        let state = self.state();
        let mut items: Vec<_> = state.lists.values().flatten().cloned().collect();
        items.sort_by_key(|item| (item.method, item.index));
        items
    }

    /// Returns the first item and the number of further ones, in one line.
    pub(crate) fn summary(&self) -> Option<String> {
        let items = self.items();
        let first = items.first()?;
        Some(match items.len() {
            1 => format!("a list was read without {first}"),
            all => format!("lists were read without {all} items, the first of them {first}"),
        })
    }
}

impl State {
    fn add(&mut self, method: &'static str, items: &[UnreadableItem]) {
        if items.is_empty() {
            return;
        }
        let known = self.lists.entry(method).or_default();
        for item in items {
            if known.len() < MAX_REPORTED && !known.contains(item) {
                known.push(item.clone());
            }
        }
    }
}

impl fmt::Debug for UnreadableLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.items()).finish()
    }
}
