use std::collections::{HashMap, hash_map::Entry};

use crate::{auth::Scopes, util::glob};

/// The rules for one kind of item.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// Exact names with their position in the order of rules.
    exact: HashMap<String, (usize, Scopes)>,
    /// Globs with their positions, in order.
    globs: Vec<(usize, String, Scopes)>,
    next: usize,
    /// A rule that can never match: a duplicate, or one after a glob that matches the same names.
    pub(super) idle: Option<String>,
}

impl Table {
    pub(super) fn add(&mut self, name: String, scopes: Scopes) {
        let place = self.next;
        self.next += 1;
        if self.globs.iter().any(|(_, glob, _)| covers(glob, &name)) {
            self.idle.get_or_insert(name);
        } else if is_glob(&name) {
            self.globs.push((place, name, scopes));
        } else {
            match self.exact.entry(name) {
                Entry::Occupied(there) => {
                    self.idle.get_or_insert_with(|| there.key().clone());
                }
                Entry::Vacant(free) => {
                    free.insert((place, scopes));
                }
            }
        }
    }

    pub(super) fn of(&self, name: &str) -> Option<&Scopes> {
        self.first(name, |glob| glob::matches(glob, name))
    }

    /// Returns the scopes of `name@version`, which is `whole`. A rule for the name applies to each
    /// of its versions. A glob with an `@` applies to the written form.
    pub(super) fn of_version(&self, name: &str, whole: &str) -> Option<&Scopes> {
        self.first(name, |glob| {
            glob::matches(glob, if glob.contains('@') { whole } else { name })
        })
    }

    fn first(&self, name: &str, matches: impl Fn(&str) -> bool) -> Option<&Scopes> {
        let exact = self.exact.get(name);
        let before = exact.map_or(usize::MAX, |(place, _)| *place);
        let glob = self
            .globs
            .iter()
            .take_while(|(place, ..)| *place < before)
            .find(|(_, glob, _)| matches(glob));
        match glob {
            Some((.., scopes)) => Some(scopes),
            None => exact.map(|(_, scopes)| scopes),
        }
    }

    pub(super) fn exactly(&self, name: &str) -> Option<&Scopes> {
        self.exact.get(name).map(|(_, scopes)| scopes)
    }

    pub(super) fn scopes(&self) -> impl Iterator<Item = &Scopes> {
        let exact = self.exact.values().map(|(_, scopes)| scopes);
        exact.chain(self.globs.iter().map(|(.., scopes)| scopes))
    }
}

fn is_glob(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Returns `true` if a rule for `glob` leaves no match to a later rule for `name`, as far as this
/// is easy to decide.
fn covers(glob: &str, name: &str) -> bool {
    // A `*` in `name` stands for any text, which only a `*` in `glob` is certain to match.
    glob == name || (glob::matches(glob, name) && (!name.contains('*') || !glob.contains('?')))
}
