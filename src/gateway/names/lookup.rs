//! Look-up of the member that has a name or a URI.

use std::{sync::Arc, time::Duration};

use rmcp::model::{ErrorCode, ErrorData, Resource, ResourceTemplate, Skill, Tool};
use serde_json::json;

use super::uris;
use crate::gateway::names;
use crate::gateway::{
    Prefix,
    active_member::Seat,
    lists::{
        cached_list::{Age, Has},
        list_item::Listed,
        merge::{Catalogue, Entry, Way},
    },
    shared::{Hub, Seats, only},
};
use crate::{CallContext, Error, Item, ToolHints, caller::Era};

/// The time that an unknown name waits for lists that are not cached. After that it is answered
/// without them.
pub(in crate::gateway) const PATIENCE: Duration = Duration::from_secs(1);
/// The maximum number of outward names in an error about an ambiguous name.
const MAX_NAMED: usize = 20;

impl Hub {
    /// Returns the member that has this name, and the member's own name for it.
    pub(in crate::gateway) async fn find_name<T: Listed>(
        &self,
        name: &str,
        context: &CallContext,
    ) -> Result<Found, Error> {
        let seats = self.seats();
        if let Some(sole) = self.sole(&seats) {
            return Ok(Found::unlisted(&sole, name));
        }
        let merged = T::merged(&self.merged).get(&seats.class(context));
        if let Some(way) = merged.as_ref().and_then(|merged| merged.get(name))
            && !way.seat.has_left()
        {
            return match way.shown {
                true => Ok(Found::by(way, name)),
                false => Err(unknown(name, merged.as_deref(), context)),
            };
        }
        let as_it_says = match self.read_name::<T>(&seats, name, context) {
            Read::As(found) => return Ok(found),
            Read::Unknown => {
                let known = self.at_hand::<T>(&seats, context).await;
                if !has_bare(known.as_deref(), name) {
                    return Err(unknown(name, known.as_deref(), context));
                }
                // The cached list may be outdated.
                let gathered = self.gather::<T>(&seats, context, Age::Walk).await;
                return bare(name, &gathered.catalogue, context);
            }
            Read::Ask(as_it_says) => as_it_says,
        };
        let gathered = self.gather::<T>(&seats, context, Age::Fresh).await;
        if let Some(way) = gathered.catalogue.get(name).filter(|way| way.shown) {
            return Ok(Found::by(way, name));
        }
        // The name may belong to a member that could not be asked. That member's error then says
        // what is wrong.
        let report = &gathered.report;
        let unasked = |seat: &Seat| {
            report
                .stale
                .iter()
                .chain(&report.missing)
                .any(|m| *m == seat.name)
        };
        match as_it_says {
            Some(found) if unasked(&found.seat) || found.seat.options.unlisted => Ok(found),
            _ => match gathered.errors.into_iter().next() {
                Some(error) if seats.list.len() == 1 => Err(error),
                _ => bare(name, &gathered.catalogue, context),
            },
        }
    }

    /// Reads the member from a name alone, without any list.
    fn read_name<T: Listed>(&self, seats: &Seats, name: &str, context: &CallContext) -> Read {
        let style = &self.rules.style;
        let renamed = seats.renamed.get(T::NOUN);
        let (seat, inner) = if let Some((seat, inner)) = renamed.and_then(|all| all.get(name)) {
            (seat, &**inner)
        } else {
            let named = style
                .split(name)
                .and_then(|(member, inner)| Some((seats.get(member)?, inner)));
            if named.is_some_and(|(seat, _)| seat.prefix == Prefix::OnCollision) {
                return Read::Ask(None);
            }
            let prefixed = named.filter(|(seat, _)| seat.prefix == Prefix::Always);
            match (prefixed, &*seats.bare) {
                (Some(prefixed), _) => prefixed,
                (None, []) => return Read::Unknown,
                (None, [seat]) => (seat, name),
                (None, _) => return Read::Ask(None),
            }
        };
        if T::NOUN == Tool::NOUN && self.rules.read_only {
            return Read::Ask(None);
        }
        if !seat.lets_out::<T>(inner, name) {
            return Read::Unknown;
        }
        let as_it_says = Found::unlisted(seat, inner);
        match seat.has::<T>(context, inner) {
            Has::Yes(says) => Read::As(Found { says, ..as_it_says }),
            // The original of a shortened name is known only from the list.
            _ if style.may_be_fitted(name) => Read::Ask(Some(as_it_says)),
            Has::No if !seat.options.unlisted => Read::Unknown,
            Has::NotBefore if !seat.options.unlisted => Read::Ask(Some(as_it_says)),
            _ => Read::As(as_it_says),
        }
    }

    /// Returns the member that has this resource, and the member's own URI for it.
    pub(in crate::gateway) async fn find_uri(
        &self,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<Seat>, String), Error> {
        let seats = self.seats();
        let prefixed = uris::split(uri).and_then(|(member, inner)| {
            let seat = seats.get(&member)?;
            seat.prefixes_uris()
                .then(|| (seat.clone(), inner.into_owned()))
        });
        let bare = || seats.list.iter().filter(|seat| !seat.prefixes_uris());
        let found = match prefixed {
            Some((seat, inner)) if uris::is_ui(uri) => {
                match self.is_own_view(&seat, uri, &inner, context).await {
                    true => return self.let_out_bare(seat, uri, context),
                    false => Some((seat, inner)),
                }
            }
            Some(found) => Some(found),
            None => match only(bare()) {
                Some(seat) => Some((seat.clone(), uri.to_owned())),
                None if bare().next().is_none() => None,
                None => self.find_bare(&seats, uri, context).await,
            },
        };
        match found {
            Some((seat, inner)) if seat.options.filter.lets_out(uri) => Ok((seat, inner)),
            Some(_) => Err(not_found(uri, &[], context)),
            None => {
                let seat = self.find_own(&seats, uri, context).await?;
                self.let_out_bare(seat, uri, context)
            }
        }
    }

    /// Returns `true` if the URI of a view is the member's own. Such a URI often begins with the
    /// server's name, as outward URIs do with the member's.
    async fn is_own_view(
        &self,
        seat: &Arc<Seat>,
        uri: &str,
        inner: &str,
        context: &CallContext,
    ) -> bool {
        self.seek::<Resource>(seat, context).await;
        if seat.lists_uri(context, uri) || seat.lists_uri(context, inner) {
            return !seat.lists_uri(context, inner);
        }
        self.seek::<ResourceTemplate>(seat, context).await;
        seat.has_template_of(context, uri) && !seat.has_template_of(context, inner)
    }

    /// Asks a member briefly for a list that is not known, once in the time that a list is kept.
    async fn seek<T: Listed>(&self, seat: &Arc<Seat>, context: &CallContext) {
        if seat.known::<T>(&seat.class(context)).is_none() && seat.seeks::<T>(context) {
            let patience = PATIENCE.min(self.rules.deadline);
            let part = seat.part::<T>(context, Age::Any, self.rules.deadline, &self.bell);
            // Without the list, the URI is taken as an outward one.
            let _ = tokio::time::timeout(patience, part).await;
        }
    }

    /// Returns the member found by its own URI, if the caller may see the outward URI.
    fn let_out_bare(
        &self,
        seat: Arc<Seat>,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<Seat>, String), Error> {
        let outward = uris::prefixed(&seat.name, uri);
        let seen = seat.options.filter.lets_out(&outward) && context.sees(Item::Resource(&outward));
        match seen {
            true => Ok((seat, uri.to_owned())),
            false => Err(not_found(uri, &[], context)),
        }
    }

    /// Returns the one member that has a URI as its own, though it is prefixed outside: an app
    /// reads its own server's resources by the server's URIs (SEP-1865). The member that lists the
    /// URI has precedence over one with a matching template.
    async fn find_own(
        &self,
        seats: &Seats,
        uri: &str,
        context: &CallContext,
    ) -> Result<Arc<Seat>, Error> {
        let resources = self.at_hand::<Resource>(seats, context).await;
        let mut owners: Vec<Arc<Seat>> = Vec::new();
        let listed = resources.iter().flat_map(|known| of_bare(known, uri));
        owners.extend(listed.map(|entry| entry.seat.clone()));
        if owners.is_empty() {
            let templates = self.at_hand::<ResourceTemplate>(seats, context).await;
            let entries = templates.iter().flat_map(|known| &known.entries);
            for entry in entries.filter(|entry| entry.is_prefixed()) {
                if uris::fits(&entry.inner, uri)
                    && owners.iter().all(|owner| owner.id != entry.seat.id)
                {
                    owners.push(entry.seat.clone());
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
    async fn find_bare(
        &self,
        seats: &Seats,
        uri: &str,
        context: &CallContext,
    ) -> Option<(Arc<Seat>, String)> {
        if let Some(merged) = Resource::merged(&self.merged).get(&seats.class(context))
            && let Some(way) = merged.get(uri)
            && !way.seat.has_left()
        {
            return Some((way.seat.clone(), way.inner(uri).to_owned()));
        }
        let resources = self.gather::<Resource>(seats, context, Age::Walk).await;
        if let Some(way) = resources.catalogue.get(uri) {
            return Some((way.seat.clone(), way.inner(uri).to_owned()));
        }
        let skills = self.gather::<Skill>(seats, context, Age::Walk).await;
        if let Some(way) = skills.catalogue.get(uri) {
            return Some((way.seat.clone(), way.inner(uri).to_owned()));
        }
        let templates = self
            .gather::<ResourceTemplate>(seats, context, Age::Walk)
            .await;
        let entries = templates.catalogue.entries.iter();
        entries
            .filter(|entry| !entry.seat.prefixes_uris())
            .map(|entry| (uris::literal(&entry.inner), entry))
            .filter(|(literal, _)| uri.starts_with(literal))
            .max_by_key(|(literal, _)| literal.len())
            .map(|(_, entry)| (entry.seat.clone(), uri.to_owned()))
    }

    /// Returns the known names of the members. A member without a cached list is asked for one,
    /// briefly, and not again while a list would be valid. Unknown names therefore do not cause a
    /// request each.
    async fn at_hand<T: Listed>(
        &self,
        seats: &Seats,
        context: &CallContext,
    ) -> Option<Arc<Catalogue<T>>> {
        let class = seats.class(context);
        let merged = T::merged(&self.merged).get(&class);
        let (mut known, mut sought) = (Vec::new(), Vec::new());
        for seat in &seats.list {
            if seat.known::<T>(&seat.class(context)).is_some() {
                known.push(seat.clone());
            } else if seat.seeks::<T>(context) {
                sought.push(seat.clone());
            }
        }
        if sought.is_empty() && (merged.is_some() || known.is_empty()) {
            return merged;
        }
        // It is kept apart from the merged lists, by which calls are routed, because it may be
        // incomplete.
        let near = |of: Vec<Arc<Seat>>| {
            let class = class.clone();
            async move {
                let gathered = self.gather_into::<T>(&self.near, &of, class, context, Age::Any);
                gathered.await.catalogue
            }
        };
        if !sought.is_empty() {
            sought.extend(known.iter().cloned());
            let patience = PATIENCE.min(self.rules.deadline);
            if let Ok(found) = tokio::time::timeout(patience, near(sought)).await {
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
fn not_found(uri: &str, owners: &[Arc<Seat>], context: &CallContext) -> Error {
    let code = match context.era() {
        Era::Modern => ErrorCode::INVALID_PARAMS,
        // Revisions before 2026-07-28 define an error code for it.
        Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
    };
    let outward = owners.iter().filter_map(|owner| {
        let outward = uris::prefixed(&owner.name, uri);
        let seen = owner.options.filter.lets_out(&outward);
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
fn of_bare<'a, T: Listed>(
    catalogue: &'a Catalogue<T>,
    bare: &str,
) -> impl Iterator<Item = &'a Entry<T>> {
    let entries = catalogue.entries.iter();
    entries.filter(move |entry| *entry.inner == *bare && entry.is_prefixed())
}

fn has_bare<T: Listed>(catalogue: Option<&Catalogue<T>>, name: &str) -> bool {
    catalogue.is_some_and(|catalogue| of_bare(catalogue, name).next().is_some())
}

/// Looks up a member's own name that is not an outward name: an app calls the tools of its own
/// server by the server's names (SEP-1865). A name of several members is ambiguous even if the
/// caller may see only one of them, because another one may be meant.
fn bare<T: Listed>(
    name: &str,
    catalogue: &Catalogue<T>,
    context: &CallContext,
) -> Result<Found, Error> {
    let mut all = of_bare(catalogue, name);
    match (all.next(), all.next()) {
        (Some(entry), None) if entry.shown && context.sees(T::item(entry.item.key())) => {
            let outward = entry.item.key();
            let found = catalogue.get(outward).map(|way| Found::by(way, outward));
            let found = found.map(|found| Found {
                outward: Some(outward.to_owned()),
                ..found
            });
            found.ok_or_else(|| unknown(name, Some(catalogue), context))
        }
        (Some(_), Some(_)) => Err(ambiguous(name, catalogue, context)),
        _ => Err(unknown(name, Some(catalogue), context)),
    }
}

/// The error for a name of several members. It lists those outward names that the caller may see.
fn ambiguous<T: Listed>(name: &str, catalogue: &Catalogue<T>, context: &CallContext) -> Error {
    let names = of_bare(catalogue, name).filter(|entry| entry.shown);
    let names = names.map(|entry| entry.item.key());
    let names = names.filter(|name| context.sees(T::item(name)));
    did_you_mean::<T>(name, names.take(MAX_NAMED).map(str::to_owned).collect())
}

/// The error for a name that no member has (MCP 2026-07-28, Tools, "Error Handling"; Prompts
/// likewise).
fn unknown<T: Listed>(name: &str, known: Option<&Catalogue<T>>, context: &CallContext) -> Error {
    let known = known.iter().flat_map(|known| known.names());
    did_you_mean::<T>(
        name,
        names::nearest(name, known, |name| context.sees(T::item(name))),
    )
}

fn did_you_mean<T: Listed>(name: &str, nearest: Vec<String>) -> Error {
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
    pub(in crate::gateway) seat: Arc<Seat>,
    /// The member's own name.
    pub(in crate::gateway) inner: String,
    /// The tool's own annotations, if a list that has it is known.
    pub(in crate::gateway) says: Option<ToolHints>,
    /// The outward name, if the item was found by the member's own name. Outer layers have not
    /// decided on it.
    pub(in crate::gateway) outward: Option<String>,
}

impl Found {
    fn by(way: &Way, outward: &str) -> Self {
        Self {
            seat: way.seat.clone(),
            inner: way.inner(outward).to_owned(),
            says: way.says,
            outward: None,
        }
    }

    fn unlisted(seat: &Arc<Seat>, inner: &str) -> Self {
        Self {
            seat: seat.clone(),
            inner: inner.to_owned(),
            says: None,
            outward: None,
        }
    }
}

/// The information in a name alone.
enum Read {
    As(Found),
    Unknown,
    /// Only the lists can tell. Without them, the name is taken literally if it has a literal
    /// reading.
    Ask(Option<Found>),
}
