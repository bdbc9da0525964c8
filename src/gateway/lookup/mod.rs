//! Look-up of the member that has a name or a URI.

pub(super) mod collisions;

use std::{sync::Arc, time::Duration};

use rmcp::model::{ErrorCode, ErrorData, Resource, ResourceTemplate, Skill, Tool};
use serde_json::json;

use crate::gateway::{
    Prefix,
    lists::{
        cached_list::{Age, Presence},
        list_item::ListItem,
        merge::{Entry, MergedList, Target},
    },
    members::active_member::ActiveMember,
    names::{nearest::nearest, uris},
    shared::{ActiveMembers, Shared, only},
};
use crate::{CallContext, Error, Item, ToolHints, caller::Era};

/// The time that an unknown name waits for lists that are not cached. After that it is answered
/// without them.
pub(in crate::gateway) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(1);
/// The maximum number of outward names in an error about an ambiguous name.
const MAX_NAMED: usize = 20;

impl Shared {
    /// Returns the member that has this name, and the member's own name for it.
    pub(in crate::gateway) async fn look_up_name<T: ListItem>(
        &self,
        name: &str,
        context: &CallContext,
    ) -> Result<Found, Error> {
        let members = self.members();
        if let Some(only) = self.pass_through_member(&members) {
            return Ok(Found::unlisted(&only, name));
        }
        let merged = T::merged(&self.merged).get(&members.list_key(context));
        if let Some(target) = merged.as_ref().and_then(|merged| merged.get(name))
            && !target.member.is_removed()
        {
            return match target.shown {
                true => Ok(Found::by(target, name)),
                false => Err(unknown(name, merged.as_deref(), context)),
            };
        }
        let by_name = match self.read_name::<T>(&members, name, context) {
            NameReading::Found(found) => return Ok(found),
            NameReading::NotFound => {
                let known = self.known_names::<T>(&members, context).await;
                if !has_entry(known.as_deref(), name) {
                    return Err(unknown(name, known.as_deref(), context));
                }
                // The cached list may be outdated.
                let gathered = self.gather::<T>(&members, context, Age::Paging).await;
                return look_up_own_name(name, &gathered.merged, context);
            }
            NameReading::NeedsLists(by_name) => by_name,
        };
        let gathered = self.gather::<T>(&members, context, Age::Fresh).await;
        if let Some(target) = gathered.merged.get(name).filter(|target| target.shown) {
            return Ok(Found::by(target, name));
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
                _ => look_up_own_name(name, &gathered.merged, context),
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
        let renamed = members.renamed.get(T::NOUN);
        let (member, inner) = if let Some((member, inner)) = renamed.and_then(|all| all.get(name)) {
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
        if !member.exposes::<T>(inner, name) {
            return NameReading::NotFound;
        }
        let by_name = Found::unlisted(member, inner);
        match member.presence::<T>(context, inner) {
            Presence::Listed(hints) => NameReading::Found(Found { hints, ..by_name }),
            // The original of a shortened name is known only from the list.
            _ if style.may_be_fitted(name) => NameReading::NeedsLists(Some(by_name)),
            Presence::Missing if !member.options.unlisted => NameReading::NotFound,
            Presence::MissingInOldList if !member.options.unlisted => {
                NameReading::NeedsLists(Some(by_name))
            }
            _ => NameReading::Found(by_name),
        }
    }

    /// Returns the member that has this resource, and the member's own URI for it.
    pub(in crate::gateway) async fn look_up_uri(
        &self,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<ActiveMember>, String), Error> {
        let members = self.members();
        let prefixed = uris::split(uri).and_then(|(member, inner)| {
            let member = members.get(&member)?;
            member
                .prefixes_uris()
                .then(|| (member.clone(), inner.into_owned()))
        });
        let bare = || members.list.iter().filter(|member| !member.prefixes_uris());
        let found = match prefixed {
            Some((member, inner)) if uris::is_ui(uri) => {
                match self.is_own_view(&member, uri, &inner, context).await {
                    true => return self.if_exposed(member, uri, context),
                    false => Some((member, inner)),
                }
            }
            Some(found) => Some(found),
            None => match only(bare()) {
                Some(member) => Some((member.clone(), uri.to_owned())),
                None if bare().next().is_none() => None,
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
        member: &Arc<ActiveMember>,
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
        member: &Arc<ActiveMember>,
        context: &CallContext,
    ) {
        if member.cached::<T>(&member.list_key(context)).is_none()
            && member.begin_suggestion_fetch::<T>(context)
        {
            let timeout = LOOKUP_TIMEOUT.min(self.rules.deadline);
            let part =
                member.list_part::<T>(context, Age::Any, self.rules.deadline, &self.notifier);
            // Without the list, the URI is taken as an outward one.
            let _ = tokio::time::timeout(timeout, part).await;
        }
    }

    /// Returns the member found by its own URI, if the caller may see the outward URI.
    fn if_exposed(
        &self,
        member: Arc<ActiveMember>,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<ActiveMember>, String), Error> {
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
    ) -> Result<Arc<ActiveMember>, Error> {
        let resources = self.known_names::<Resource>(members, context).await;
        let mut owners: Vec<Arc<ActiveMember>> = Vec::new();
        let listed = resources.iter().flat_map(|known| entries_of(known, uri));
        owners.extend(listed.map(|entry| entry.member.clone()));
        if owners.is_empty() {
            let templates = self.known_names::<ResourceTemplate>(members, context).await;
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
    ) -> Option<(Arc<ActiveMember>, String)> {
        if let Some(merged) = Resource::merged(&self.merged).get(&members.list_key(context))
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
            .filter(|entry| !entry.member.prefixes_uris())
            .map(|entry| (uris::literal(&entry.inner), entry))
            .filter(|(literal, _)| uri.starts_with(literal))
            .max_by_key(|(literal, _)| literal.len())
            .map(|(_, entry)| (entry.member.clone(), uri.to_owned()))
    }

    /// Returns the known names of the members. A member without a cached list is asked for one,
    /// briefly, and not again while a list would be valid. Unknown names therefore do not cause a
    /// request each.
    async fn known_names<T: ListItem>(
        &self,
        members: &ActiveMembers,
        context: &CallContext,
    ) -> Option<Arc<MergedList<T>>> {
        let key = members.list_key(context);
        let merged = T::merged(&self.merged).get(&key);
        let (mut known, mut sought) = (Vec::new(), Vec::new());
        for member in &members.list {
            if member.cached::<T>(&member.list_key(context)).is_some() {
                known.push(member.clone());
            } else if member.begin_suggestion_fetch::<T>(context) {
                sought.push(member.clone());
            }
        }
        if sought.is_empty() && (merged.is_some() || known.is_empty()) {
            return merged;
        }
        // It is kept apart from the merged lists, by which calls are routed, because it may be
        // incomplete.
        let near = |of: Vec<Arc<ActiveMember>>| {
            let key = key.clone();
            async move {
                let gathered = self.gather_into::<T>(&self.partial, &of, key, context, Age::Any);
                gathered.await.merged
            }
        };
        if !sought.is_empty() {
            sought.extend(known.iter().cloned());
            let timeout = LOOKUP_TIMEOUT.min(self.rules.deadline);
            if let Ok(found) = tokio::time::timeout(timeout, near(sought)).await {
                return Some(found);
            }
        }
        match merged {
            Some(merged) => Some(merged),
            None => Some(near(known).await),
        }
    }
}

/// The error for a resource that no member has, or that several members have as their own.
fn not_found(uri: &str, owners: &[Arc<ActiveMember>], context: &CallContext) -> Error {
    let code = match context.era() {
        Era::Modern => ErrorCode::INVALID_PARAMS,
        // Revisions before 2026-07-28 define an error code for it.
        Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
    };
    let outward = owners.iter().filter_map(|owner| {
        let outward = uris::prefixed(&owner.name, uri);
        let seen = owner.options.filter.exposes(&outward);
        (seen && context.sees(Item::Resource(&outward))).then(|| format!("`{outward}`"))
    });
    let outward: Vec<_> = outward.take(MAX_NAMED).collect();
    let mut message = format!("Resource not found: {uri}");
    if !outward.is_empty() {
        message.push_str(&format!(". Did you mean {}?", outward.join(" or ")));
    }
    ErrorData::new(code, message, Some(json!({ "uri": uri }))).into()
}

/// Returns the entries with this name among the members' own names.
fn entries_of<'a, T: ListItem>(
    merged: &'a MergedList<T>,
    bare: &str,
) -> impl Iterator<Item = &'a Entry<T>> {
    let entries = merged.entries.iter();
    entries.filter(move |entry| *entry.inner == *bare && entry.is_prefixed())
}

fn has_entry<T: ListItem>(merged: Option<&MergedList<T>>, name: &str) -> bool {
    merged.is_some_and(|merged| entries_of(merged, name).next().is_some())
}

/// Looks up a member's own name that is not an outward name: an app calls the tools of its own
/// server by the server's names (SEP-1865). A name of several members is ambiguous even if the
/// caller may see only one of them, because another one may be meant.
fn look_up_own_name<T: ListItem>(
    name: &str,
    merged: &MergedList<T>,
    context: &CallContext,
) -> Result<Found, Error> {
    let mut all = entries_of(merged, name);
    match (all.next(), all.next()) {
        (Some(entry), None) if entry.shown && context.sees(T::item(entry.item.key())) => {
            let outward = entry.item.key();
            let found = merged.get(outward).map(|target| Found::by(target, outward));
            let found = found.map(|found| Found {
                outward: Some(outward.to_owned()),
                ..found
            });
            found.ok_or_else(|| unknown(name, Some(merged), context))
        }
        (Some(_), Some(_)) => Err(ambiguous(name, merged, context)),
        _ => Err(unknown(name, Some(merged), context)),
    }
}

/// The error for a name of several members. It lists those outward names that the caller may see.
fn ambiguous<T: ListItem>(name: &str, merged: &MergedList<T>, context: &CallContext) -> Error {
    let names = entries_of(merged, name).filter(|entry| entry.shown);
    let names = names.map(|entry| entry.item.key());
    let names = names.filter(|name| context.sees(T::item(name)));
    did_you_mean::<T>(name, names.take(MAX_NAMED).map(str::to_owned).collect())
}

/// The error for a name that no member has (MCP 2026-07-28, Tools, "Error Handling"; Prompts
/// likewise).
fn unknown<T: ListItem>(name: &str, known: Option<&MergedList<T>>, context: &CallContext) -> Error {
    let known = known.iter().flat_map(|known| known.names());
    did_you_mean::<T>(
        name,
        nearest(name, known, |name| context.sees(T::item(name))),
    )
}

fn did_you_mean<T: ListItem>(name: &str, nearest: Vec<String>) -> Error {
    let mut message = format!("Unknown {}: {name}", T::NOUN);
    if !nearest.is_empty() {
        let all: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
        message.push_str(&format!(". Did you mean {}?", all.join(" or ")));
    }
    let data = json!({ "name": name, "nearest": nearest });
    ErrorData::invalid_params(message, Some(data)).into()
}

/// The target of an outward name.
pub(in crate::gateway) struct Found {
    pub(in crate::gateway) member: Arc<ActiveMember>,
    /// The member's own name.
    pub(in crate::gateway) inner: String,
    /// The tool's own annotations, if a list that has it is known.
    pub(in crate::gateway) hints: Option<ToolHints>,
    /// The outward name, if the item was found by the member's own name. Outer layers have not
    /// decided on it.
    pub(in crate::gateway) outward: Option<String>,
}

impl Found {
    fn by(target: &Target, outward: &str) -> Self {
        Self {
            member: target.member.clone(),
            inner: target.inner(outward).to_owned(),
            hints: target.hints,
            outward: None,
        }
    }

    fn unlisted(member: &Arc<ActiveMember>, inner: &str) -> Self {
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
    Found(Found),
    NotFound,
    /// Only the lists can tell. Without them, the name is taken literally if it has a literal
    /// reading.
    NeedsLists(Option<Found>),
}
