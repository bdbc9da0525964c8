//! State that all clones of a gateway share.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rmcp::model::Implementation;
use serde_json::Value;

use super::{
    active_members::{ActiveMembers, only},
    lists::{
        gather::{self, Gathered},
        list_item::ListItem,
        list_key::ListKey,
        listed_member::{Age, ListedMember},
        merge::{self, ListRules, MergedLists},
    },
    members::{active_member::ActiveMember, member::Member, watch::watch_member},
    names::prefix::Prefix,
    notifier::ChangeNotifier,
    rewrite::Outward,
    seal::Seal,
};
use crate::{CallContext, ConfigError, in_flight::InFlight, util::lock};

/// Returns the member for a custom method, given the method, its params and the call's context.
pub(super) type CustomRule =
    Box<dyn Fn(&str, Option<&Value>, &CallContext) -> Option<String> + Send + Sync>;

/// State that all clones of a gateway share.
pub(super) struct Shared {
    members: Mutex<Arc<ActiveMembers>>,
    pub(super) rules: ListRules,
    pub(super) prefix: Prefix,
    pub(super) seal: Seal,
    pub(super) notifier: ChangeNotifier,
    pub(super) merged: MergedLists,
    /// The partial lists that are used to suggest names near an unknown one, where no complete
    /// merged list is cached.
    pub(super) partial: MergedLists,
    pub(super) custom: Option<CustomRule>,
    pub(super) server_info: Option<Implementation>,
    pub(super) instructions: Option<String>,
    next_place: AtomicU64,
    pub(super) in_flight: InFlight,
}

impl Shared {
    pub(super) fn new(rules: ListRules, prefix: Prefix, seal: Seal) -> Self {
        Self {
            members: Mutex::default(),
            rules,
            prefix,
            seal,
            notifier: ChangeNotifier::new(),
            merged: MergedLists::default(),
            partial: MergedLists::default(),
            custom: None,
            server_info: None,
            instructions: None,
            next_place: AtomicU64::new(0),
            in_flight: InFlight::default(),
        }
    }

    pub(super) fn members(&self) -> Arc<ActiveMembers> {
        lock(&self.members).clone()
    }

    /// Adds a member, or replaces the one of the same name.
    pub(super) fn insert_member(&self, member: Member, replaces: bool) -> Result<(), ConfigError> {
        self.check_member(&member)?;
        let mut slot = lock(&self.members);
        let present = slot.get(&member.name).cloned();
        let refuse = |reason| Err(ConfigError::new("gateway", "member", reason));
        if self.in_flight.is_draining() {
            return refuse("the gateway is closed; build another one".to_owned());
        }
        let place = match (&present, replaces) {
            (Some(present), true) => present.place,
            (None, false) => self.next_place.fetch_add(1, Ordering::Relaxed),
            (None, true) => {
                let name = &member.name;
                return refuse(format!("there is no member `{name}`; add it instead"));
            }
            (Some(present), false) => {
                let name = &present.name;
                return refuse(format!(
                    "there is a member `{name}` already; use another name"
                ));
            }
        };
        let removed = self.in_flight.ended().child_token();
        let member = ActiveMember::new(
            member,
            place,
            self.prefix,
            self.rules.style.clone(),
            removed,
        );
        let mut list = slot.list.clone();
        list.retain(|other| other.name != member.name);
        list.push(Arc::new(ListedMember::new(member, self.notifier.clone())));
        *slot = Arc::new(ActiveMembers::of(list)?);
        drop(slot);
        self.members_changed(present.as_slice());
        Ok(())
    }

    /// Checks the names of a member and of the items that it renames.
    fn check_member(&self, member: &Member) -> Result<(), ConfigError> {
        let style = &self.rules.style;
        let name = match member.prefix.unwrap_or(self.prefix) {
            // The name is never shown to callers.
            Prefix::Never if member.name.is_empty() || member.name.contains('\n') => {
                Err("a name is empty or has a line break; use one line of text".to_owned())
            }
            Prefix::Never => Ok(()),
            _ => style.check_member(&member.name),
        };
        name.map_err(|reason| ConfigError::new("gateway", "member", reason))?;
        let overrides = [
            ("rename", &member.options.tools),
            ("rename_prompt", &member.options.prompts),
        ];
        for (option, overrides) in overrides {
            let mut names = overrides.values().filter_map(|one| one.name.as_ref());
            if let Some(name) = names.find(|name| !style.fits(name)) {
                let reason = format!(
                    "`{name}` is not a valid name; use 1 to {} letters, digits, `_`, `-` and `.`",
                    style.max_length
                );
                return Err(ConfigError::new("gateway", option, reason));
            }
        }
        Ok(())
    }

    pub(super) fn remove_member(&self, name: &str) -> bool {
        let mut slot = lock(&self.members);
        let Some(present) = slot.get(name).cloned() else {
            return false;
        };
        let mut list = slot.list.clone();
        list.retain(|other| other.id != present.id);
        // Removing a member causes no new conflict.
        *slot = Arc::new(ActiveMembers::of(list).unwrap_or_default());
        drop(slot);
        self.members_changed(&[present]);
        true
    }

    /// Drains the gateway, and drops its members. Returns the number of calls that were cut off.
    pub(super) async fn drain(&self, limit: Duration) -> usize {
        let cut_off = self.in_flight.drain(limit).await;
        let members = std::mem::take(&mut *lock(&self.members));
        self.forget(&members.list);
        cut_off
    }

    fn members_changed(&self, removed: &[Arc<ListedMember>]) {
        self.forget(removed);
        self.notifier.members_changed();
    }

    /// Drops members, and the lists that may have their items.
    fn forget(&self, removed: &[Arc<ListedMember>]) {
        for member in removed {
            member.mark_removed();
        }
        merge::clear(&self.merged);
        merge::clear(&self.partial);
    }

    /// Returns the only member, if nothing has to be changed between it and its callers.
    pub(super) fn pass_through_member(&self, members: &ActiveMembers) -> Option<Arc<ListedMember>> {
        only(members.list.iter())
            .filter(|member| member.is_transparent() && !self.rules.read_only)
            .cloned()
    }

    pub(super) fn outward(&self, member: &Arc<ActiveMember>, context: &CallContext) -> Outward {
        Outward {
            member: member.clone(),
            seal: self.seal.clone(),
            principal: context.principal().cloned(),
        }
    }

    pub(super) async fn gather<T: ListItem>(
        &self,
        members: &ActiveMembers,
        context: &CallContext,
        age: Age,
    ) -> Gathered<T> {
        let key = members.list_key(context);
        self.gather_into::<T>(&self.merged, &members.list, key, context, age)
            .await
    }

    pub(super) async fn gather_into<T: ListItem>(
        &self,
        merged: &MergedLists,
        members: &[Arc<ListedMember>],
        key: ListKey,
        context: &CallContext,
        age: Age,
    ) -> Gathered<T> {
        for member in members {
            watch_member(member, context);
        }
        gather::gather::<T>(members, key, merged, &self.rules, context, age).await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.in_flight.ended().cancel();
    }
}
