//! Look-up of a tool or a prompt by its name.

use std::sync::Arc;

use rmcp::model::Tool;

use super::errors::{ambiguous, unknown};
use crate::gateway::{
    active_members::ActiveMembers,
    lists::{
        list_item::ListItem,
        listed_member::{Age, ListedMember, Presence},
        merge::{MergedList, NameTarget},
    },
    members::active_member::ActiveMember,
    names::prefix::Prefix,
    shared::Shared,
};
use crate::{CallContext, Error, ToolHints};

impl Shared {
    /// Returns the member that has this name, and the member's own name for it.
    pub(in crate::gateway) async fn look_up_name<T: ListItem>(
        &self,
        name: &str,
        context: &CallContext,
    ) -> Result<FoundItem, Error> {
        let members = self.members();
        if let Some(only) = self.pass_through_member(&members) {
            return Ok(FoundItem::unlisted(&only, name));
        }
        let merged = T::of(&self.merged).get(&members.list_key(context));
        if let Some(target) = merged.as_ref().and_then(|merged| merged.get(name))
            && !target.member.is_removed()
        {
            return match target.shown {
                true => Ok(FoundItem::by(target, name)),
                false => Err(unknown(name, merged.as_deref(), context)),
            };
        }
        match self.read_name::<T>(&members, name, context) {
            NameReading::Found(found) => Ok(found),
            NameReading::NotFound => {
                Box::pin(self.look_up_own_name::<T>(&members, name, context)).await
            }
            NameReading::NeedsLists(by_name) => {
                Box::pin(self.look_up_listed_name::<T>(&members, by_name, name, context)).await
            }
        }
    }

    /// Looks up a name that no member has as its outward name.
    async fn look_up_own_name<T: ListItem>(
        &self,
        members: &ActiveMembers,
        name: &str,
        context: &CallContext,
    ) -> Result<FoundItem, Error> {
        let known = self.known_lists::<T>(members, context).await;
        if !known.as_deref().is_some_and(|known| known.has_own(name)) {
            return Err(unknown(name, known.as_deref(), context));
        }
        // The cached list may be outdated.
        let gathered = self.gather::<T>(members, context, Age::Paging).await;
        own_name(name, &gathered.merged, context)
    }

    /// Looks up a name in the members' lists. `by_name` is its literal reading.
    async fn look_up_listed_name<T: ListItem>(
        &self,
        members: &ActiveMembers,
        by_name: Option<FoundItem>,
        name: &str,
        context: &CallContext,
    ) -> Result<FoundItem, Error> {
        let gathered = self.gather::<T>(members, context, Age::Fresh).await;
        if let Some(target) = gathered.merged.get(name).filter(|target| target.shown) {
            return Ok(FoundItem::by(target, name));
        }
        // The name may belong to a member that could not be asked. That member's error then says
        // what is wrong.
        let report = &gathered.report;
        let unasked = |member: &ActiveMember| {
            report
                .stale
                .iter()
                .chain(&report.missing)
                .any(|m| *m == member.name)
        };
        match by_name {
            Some(found) if unasked(&found.member) || found.member.options.unlisted => Ok(found),
            _ => match gathered.errors.into_iter().next() {
                Some(error) if members.list.len() == 1 => Err(error),
                _ => own_name(name, &gathered.merged, context),
            },
        }
    }

    /// Reads the member from a name alone, without any list.
    fn read_name<T: ListItem>(
        &self,
        members: &ActiveMembers,
        name: &str,
        context: &CallContext,
    ) -> NameReading {
        let style = &self.rules.style;
        let renamed = members.renamed(T::item(name));
        let (member, inner) = if let Some((member, inner)) = renamed {
            (member, &**inner)
        } else {
            let named = style
                .split(name)
                .and_then(|(member, inner)| Some((members.get(member)?, inner)));
            if named.is_some_and(|(member, _)| member.prefix == Prefix::OnCollision) {
                return NameReading::NeedsLists(None);
            }
            let prefixed = named.filter(|(member, _)| member.prefix == Prefix::Always);
            match (prefixed, &*members.unprefixed) {
                (Some(prefixed), _) => prefixed,
                (None, []) => return NameReading::NotFound,
                (None, [member]) => (member, name),
                (None, _) => return NameReading::NeedsLists(None),
            }
        };
        if T::NOUN == Tool::NOUN && self.rules.read_only {
            return NameReading::NeedsLists(None);
        }
        if !member.options.expose(T::item(inner), name) {
            return NameReading::NotFound;
        }
        let by_name = FoundItem::unlisted(member, inner);
        match member.presence::<T>(context, inner) {
            Presence::Listed(hints) => NameReading::Found(FoundItem { hints, ..by_name }),
            // The original of a shortened name is known only from the list.
            _ if style.may_be_fitted(name) => NameReading::NeedsLists(Some(by_name)),
            Presence::Missing if !member.options.unlisted => NameReading::NotFound,
            Presence::MissingInOldList if !member.options.unlisted => {
                NameReading::NeedsLists(Some(by_name))
            }
            _ => NameReading::Found(by_name),
        }
    }
}

/// Looks up a member's own name that is not an outward name: an app calls the tools of its own
/// server by the server's names (SEP-1865). A name of several members is ambiguous even if the
/// caller may see only one of them, because another one may be meant.
fn own_name<T: ListItem>(
    name: &str,
    merged: &MergedList<T>,
    context: &CallContext,
) -> Result<FoundItem, Error> {
    let mut all = merged.entries_of(name);
    match (all.next(), all.next()) {
        (Some(entry), None) if entry.shown && context.sees(T::item(entry.item.key())) => {
            let outward = entry.item.key();
            let found = merged
                .get(outward)
                .map(|target| FoundItem::by(target, outward));
            let found = found.map(|found| FoundItem {
                outward: Some(outward.to_owned()),
                ..found
            });
            found.ok_or_else(|| unknown(name, Some(merged), context))
        }
        (Some(_), Some(_)) => Err(ambiguous(name, merged, context)),
        _ => Err(unknown(name, Some(merged), context)),
    }
}

/// The target of an outward name.
pub(in crate::gateway) struct FoundItem {
    pub(in crate::gateway) member: Arc<ListedMember>,
    /// The member's own name.
    pub(in crate::gateway) inner: String,
    /// The tool's own annotations, if a list that has it is known.
    pub(in crate::gateway) hints: Option<ToolHints>,
    /// The outward name, if the item was found by the member's own name. Outer layers have not
    /// decided on it.
    pub(in crate::gateway) outward: Option<String>,
}

impl FoundItem {
    fn by(target: &NameTarget, outward: &str) -> Self {
        Self {
            member: target.member.clone(),
            inner: target.inner(outward).to_owned(),
            hints: target.hints,
            outward: None,
        }
    }

    fn unlisted(member: &Arc<ListedMember>, inner: &str) -> Self {
        Self {
            member: member.clone(),
            inner: inner.to_owned(),
            hints: None,
            outward: None,
        }
    }
}

/// The information in a name alone.
enum NameReading {
    Found(FoundItem),
    NotFound,
    /// Only the lists can tell. Without them, the name is taken literally if it has a literal
    /// reading.
    NeedsLists(Option<FoundItem>),
}
