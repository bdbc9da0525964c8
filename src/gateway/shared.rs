//! State that all clones of a gateway share, and the members at one moment.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rmcp::model::{Implementation, Prompt, Tool};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    Member, Prefix,
    active_member::Seat,
    listen::{self, Bell},
    lists::{
        self,
        cached_list::Age,
        list_item::{Listed, Merged},
        list_key::Class,
        merge::Rules,
    },
    rewrite::Outward,
    seal::Seal,
};
use crate::{CallContext, McpResponse, caller::Era};

/// Returns the member for a custom method, given the method, its params and the call's context.
pub(super) type CustomRule =
    Box<dyn Fn(&str, Option<&Value>, &CallContext) -> Option<String> + Send + Sync>;

/// State that all clones of a gateway share.
pub(super) struct Hub {
    seats: Mutex<Arc<Seats>>,
    pub(super) rules: Rules,
    pub(super) prefix: Prefix,
    pub(super) seal: Seal,
    pub(super) bell: Bell,
    pub(super) merged: Merged,
    /// The partial lists that are used to suggest names near an unknown one, where no complete
    /// merged list is cached.
    pub(super) near: Merged,
    pub(super) custom: Option<CustomRule>,
    pub(super) server_info: Option<Implementation>,
    pub(super) instructions: Option<String>,
    next_place: AtomicU64,
    /// Cancelled when the last clone and handle are dropped.
    ended: CancellationToken,
}

/// The members at one moment, the highest priority first.
#[derive(Default)]
pub(super) struct Seats {
    pub(super) list: Vec<Arc<Seat>>,
    pub(super) by_name: HashMap<Arc<str>, Arc<Seat>>,
    /// The members whose tools and prompts may be called by their own names.
    pub(super) bare: Vec<Arc<Seat>>,
    /// The eras whose callers have a stack for each session at one of the members.
    by_session: Vec<Era>,
    /// Names that an operator gave, by the kind of item.
    pub(super) renamed: HashMap<&'static str, Renamed>,
}

/// Outward names that an operator gave, with the member and its own name.
pub(super) type Renamed = HashMap<String, (Arc<Seat>, String)>;

impl Seats {
    fn of(mut list: Vec<Arc<Seat>>) -> Result<Self, String> {
        list.sort_by_key(|seat| (std::cmp::Reverse(seat.priority), seat.place));
        let by_name = list
            .iter()
            .map(|seat| (seat.name.clone(), seat.clone()))
            .collect();
        let bare = list
            .iter()
            .filter(|seat| seat.prefix != Prefix::Always)
            .cloned()
            .collect();
        let renamed = HashMap::from([
            (Tool::NOUN, renamed::<Tool>(&list)?),
            (Prompt::NOUN, renamed::<Prompt>(&list)?),
        ]);
        Ok(Self {
            by_name,
            bare,
            by_session: [Era::Legacy, Era::Modern]
                .into_iter()
                .filter(|era| list.iter().any(|seat| seat.is_per_session(*era)))
                .collect(),
            renamed,
            list,
        })
    }

    /// Marks an answer of all these members together as private, where one of them requires it.
    pub(super) fn mark(&self, response: &mut McpResponse, context: &CallContext) {
        for seat in &self.list {
            seat.mark(response, context.principal());
        }
    }

    /// Returns the class of a merged list for this caller.
    pub(super) fn class(&self, context: &CallContext) -> Class {
        Class::of(context, self.by_session.contains(&context.era()))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Seat>> {
        self.by_name.get(name)
    }
}

/// Returns the names that the operator gave to items of this kind.
fn renamed<T: Listed>(list: &[Arc<Seat>]) -> Result<Renamed, String> {
    let mut renamed = Renamed::new();
    for seat in list {
        for (inner, said) in T::overrides(&seat.options).into_iter().flatten() {
            let Some(name) = &said.name else { continue };
            if let Some((other, _)) = renamed.get(name) {
                return Err(format!(
                    "two {}s are renamed to `{name}`: one of `{}`, one of `{}`",
                    T::NOUN,
                    other.name,
                    seat.name
                ));
            }
            renamed.insert(name.clone(), (seat.clone(), inner.clone()));
        }
    }
    Ok(renamed)
}

/// Returns the only element, if there is exactly one.
pub(super) fn only<'a>(mut seats: impl Iterator<Item = &'a Arc<Seat>>) -> Option<&'a Arc<Seat>> {
    seats.next().filter(|_| seats.next().is_none())
}

impl Hub {
    pub(super) fn new(rules: Rules, prefix: Prefix, seal: Seal) -> Self {
        Self {
            seats: Mutex::default(),
            rules,
            prefix,
            seal,
            bell: Bell::new(),
            merged: Merged::default(),
            near: Merged::default(),
            custom: None,
            server_info: None,
            instructions: None,
            next_place: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Arc<Seats>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seats(&self) -> Arc<Seats> {
        self.slot().clone()
    }

    /// Adds a member, or replaces the one of the same name.
    pub(super) fn seat(&self, member: Member, replaces: bool) -> Result<(), String> {
        let style = &self.rules.style;
        match member.prefix.unwrap_or(self.prefix) {
            // The name is never shown to callers.
            Prefix::Never if member.name.is_empty() || member.name.contains('\n') => {
                return Err("a member's name is one line".to_owned());
            }
            Prefix::Never => {}
            _ => style.check_member(&member.name)?,
        }
        let overrides = [
            (Tool::NOUN, &member.options.tools),
            (Prompt::NOUN, &member.options.prompts),
        ];
        for (noun, overrides) in overrides {
            let mut names = overrides.values().filter_map(|one| one.name.as_ref());
            if let Some(name) = names.find(|name| !style.fits(name)) {
                return Err(format!(
                    "`{name}` cannot name a {noun}: 1 to {} letters, digits, `_`, `-` and `.`",
                    style.max_length
                ));
            }
        }
        let mut slot = self.slot();
        let present = slot.get(&member.name).cloned();
        let place = match (&present, replaces) {
            (Some(present), true) => present.place,
            (None, true) => return Err(format!("there is no member `{}`", member.name)),
            (Some(present), false) => {
                return Err(format!("there is a member `{}` already", present.name));
            }
            (None, false) => self.next_place.fetch_add(1, Ordering::Relaxed),
        };
        let seat = Arc::new(Seat::new(
            member,
            place,
            self.prefix,
            self.ended.child_token(),
        ));
        let mut list = slot.list.clone();
        list.retain(|other| other.name != seat.name);
        list.push(seat);
        *slot = Arc::new(Seats::of(list)?);
        drop(slot);
        self.members_changed(present);
        Ok(())
    }

    pub(super) fn unseat(&self, name: &str) -> bool {
        let mut slot = self.slot();
        let Some(present) = slot.get(name).cloned() else {
            return false;
        };
        let mut list = slot.list.clone();
        list.retain(|other| other.id != present.id);
        // Removing a member causes no new conflict.
        *slot = Arc::new(Seats::of(list).unwrap_or_default());
        drop(slot);
        self.members_changed(Some(present));
        true
    }

    fn members_changed(&self, gone: Option<Arc<Seat>>) {
        if let Some(gone) = gone {
            gone.leave();
        }
        self.merged.clear();
        self.near.clear();
        self.bell.members_changed();
    }

    /// Returns the only member, if nothing has to be changed between it and its callers.
    pub(super) fn sole(&self, seats: &Seats) -> Option<Arc<Seat>> {
        only(seats.list.iter())
            .filter(|seat| seat.is_plain() && !self.rules.read_only)
            .cloned()
    }

    pub(super) fn outward(&self, seat: &Arc<Seat>, context: &CallContext) -> Outward {
        Outward {
            seat: seat.clone(),
            seal: self.seal.clone(),
            principal: context.principal().cloned(),
        }
    }

    pub(super) async fn gather<T: Listed>(
        &self,
        seats: &Seats,
        context: &CallContext,
        age: Age,
    ) -> lists::Gathered<T> {
        let class = seats.class(context);
        self.gather_into::<T>(&self.merged, &seats.list, class, context, age)
            .await
    }

    pub(super) async fn gather_into<T: Listed>(
        &self,
        merged: &Merged,
        seats: &[Arc<Seat>],
        class: Class,
        context: &CallContext,
        age: Age,
    ) -> lists::Gathered<T> {
        for seat in seats {
            listen::watch_member(seat, context);
        }
        lists::gather::<T>(seats, class, merged, &self.rules, &self.bell, context, age).await
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}
