//! Look-up of a resource by its URI.

use std::sync::Arc;

use rmcp::model::{Resource, ResourceTemplate, Skill};

use super::{errors::not_found, known_lists::LOOKUP_TIMEOUT};
use crate::gateway::{
    active_members::{ActiveMembers, only},
    lists::{
        list_item::ListItem,
        listed_member::{Age, ListedMember},
    },
    names::uris,
    shared::Shared,
};
use crate::{CallContext, Error, Item};

impl Shared {
    /// Returns the member that has this resource, and the member's own URI for it.
    pub(in crate::gateway) async fn look_up_uri(
        &self,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<ListedMember>, String), Error> {
        let members = self.members();
        let prefixed = uris::split(uri).and_then(|(member, inner)| {
            let member = members.get(&member)?;
            member
                .uris
                .is_set()
                .then(|| (member.clone(), inner.into_owned()))
        });
        let unprefixed = || members.list.iter().filter(|member| !member.uris.is_set());
        let found = match prefixed {
            Some((member, inner)) if uris::is_ui(uri) => {
                match self.is_own_view(&member, uri, &inner, context).await {
                    true => return self.if_exposed(member, uri, context),
                    false => Some((member, inner)),
                }
            }
            Some(found) => Some(found),
            None => match only(unprefixed()) {
                Some(member) => Some((member.clone(), uri.to_owned())),
                None if unprefixed().next().is_none() => None,
                None => self.look_up_unprefixed(&members, uri, context).await,
            },
        };
        match found {
            Some((member, inner)) if member.options.filter.exposes(uri) => Ok((member, inner)),
            Some(_) => Err(not_found(uri, &[], context)),
            None => {
                let member = self.look_up_own_uri(&members, uri, context).await?;
                self.if_exposed(member, uri, context)
            }
        }
    }

    /// Returns `true` if the URI of a view is the member's own. Such a URI often begins with the
    /// server's name, as outward URIs do with the member's.
    async fn is_own_view(
        &self,
        member: &Arc<ListedMember>,
        uri: &str,
        inner: &str,
        context: &CallContext,
    ) -> bool {
        self.fetch_if_unknown::<Resource>(member, context).await;
        if member.lists_uri(context, uri) || member.lists_uri(context, inner) {
            return !member.lists_uri(context, inner);
        }
        self.fetch_if_unknown::<ResourceTemplate>(member, context)
            .await;
        member.has_template_of(context, uri) && !member.has_template_of(context, inner)
    }

    /// Asks a member briefly for a list that is not known, once in the time that a list is kept.
    async fn fetch_if_unknown<T: ListItem>(
        &self,
        member: &Arc<ListedMember>,
        context: &CallContext,
    ) {
        if member.cached::<T>(&member.list_key(context)).is_none()
            && member.begin_suggestion_fetch::<T>(context)
        {
            let timeout = LOOKUP_TIMEOUT.min(self.rules.list_timeout);
            let part = member.list_part::<T>(context, Age::Any, self.rules.list_timeout);
            // Without the list, the URI is taken as an outward one.
            let _ = tokio::time::timeout(timeout, part).await;
        }
    }

    /// Returns the member found by its own URI, if the caller may see the outward URI.
    fn if_exposed(
        &self,
        member: Arc<ListedMember>,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<ListedMember>, String), Error> {
        let outward = uris::prefixed(&member.name, uri);
        let seen =
            member.options.filter.exposes(&outward) && context.sees(Item::Resource(&outward));
        match seen {
            true => Ok((member, uri.to_owned())),
            false => Err(not_found(uri, &[], context)),
        }
    }

    /// Returns the one member that has a URI as its own, though it is prefixed outside: an app
    /// reads its own server's resources by the server's URIs (SEP-1865). The member that lists the
    /// URI has precedence over one with a matching template.
    async fn look_up_own_uri(
        &self,
        members: &ActiveMembers,
        uri: &str,
        context: &CallContext,
    ) -> Result<Arc<ListedMember>, Error> {
        let resources = self.known_lists::<Resource>(members, context).await;
        let mut owners: Vec<Arc<ListedMember>> = Vec::new();
        let listed = resources.iter().flat_map(|known| known.entries_of(uri));
        owners.extend(listed.map(|entry| entry.member.clone()));
        if owners.is_empty() {
            let templates = self.known_lists::<ResourceTemplate>(members, context).await;
            let entries = templates.iter().flat_map(|known| &known.entries);
            for entry in entries.filter(|entry| entry.is_prefixed()) {
                if uris::fits(&entry.inner, uri)
                    && owners.iter().all(|owner| owner.id != entry.member.id)
                {
                    owners.push(entry.member.clone());
                }
            }
        }
        match owners.as_slice() {
            [owner] => Ok(owner.clone()),
            owners => Err(not_found(uri, owners, context)),
        }
    }

    /// Returns the member that has a URI, of several members without prefixes: the one that lists
    /// it, or else the one with the most specific matching template.
    async fn look_up_unprefixed(
        &self,
        members: &ActiveMembers,
        uri: &str,
        context: &CallContext,
    ) -> Option<(Arc<ListedMember>, String)> {
        if let Some(merged) = Resource::of(&self.merged).get(&members.list_key(context))
            && let Some(target) = merged.get(uri)
            && !target.member.is_removed()
        {
            return Some((target.member.clone(), target.inner(uri).to_owned()));
        }
        let resources = self.gather::<Resource>(members, context, Age::Paging).await;
        if let Some(target) = resources.merged.get(uri) {
            return Some((target.member.clone(), target.inner(uri).to_owned()));
        }
        let skills = self.gather::<Skill>(members, context, Age::Paging).await;
        if let Some(target) = skills.merged.get(uri) {
            return Some((target.member.clone(), target.inner(uri).to_owned()));
        }
        let templates = self
            .gather::<ResourceTemplate>(members, context, Age::Paging)
            .await;
        let entries = templates.merged.entries.iter();
        entries
            .filter(|entry| !entry.member.uris.is_set())
            .map(|entry| (uris::literal(&entry.inner), entry))
            .filter(|(literal, _)| uri.starts_with(literal))
            .max_by_key(|(literal, _)| literal.len())
            .map(|(_, entry)| (entry.member.clone(), uri.to_owned()))
    }
}
