//! Which member has a name, or a URI.

use std::{sync::Arc, time::Duration};

use rmcp::model::{ErrorCode, ErrorData, Resource, ResourceTemplate, Skill, Tool};
use serde_json::json;

use super::{
    Prefix,
    hub::{Hub, Seats, only},
    known::{Age, Has},
    listed::Listed,
    merge::{Catalogue, Way},
    names,
    seat::Seat,
    uris,
};
use crate::{CallContext, Error, ToolHints, caller::Era};

/// How long an unknown name waits for lists of which nothing is known: it is answered without them then.
const PATIENCE: Duration = Duration::from_secs(1);

impl Hub {
    /// The member that has this name, and its own name for it.
    pub(super) async fn find_name<T: Listed>(
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
                return Err(unknown(name, known.as_deref(), context));
            }
            Read::Ask(as_it_says) => as_it_says,
        };
        let gathered = self.gather::<T>(&seats, context, Age::Fresh).await;
        if let Some(way) = gathered.catalogue.get(name).filter(|way| way.shown) {
            return Ok(Found::by(way, name));
        }
        // It may be one of those that could not be asked: then the member says what is amiss.
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
                _ => Err(unknown(name, Some(&gathered.catalogue), context)),
            },
        }
    }

    /// What a name says by itself.
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
            // A name that had to be changed is known by the list alone.
            _ if style.may_be_fitted(name) => Read::Ask(Some(as_it_says)),
            Has::No if !seat.options.unlisted => Read::Unknown,
            Has::NotBefore if !seat.options.unlisted => Read::Ask(Some(as_it_says)),
            _ => Read::As(as_it_says),
        }
    }

    /// The member that has this resource, and its own URI.
    pub(super) async fn find_uri(
        &self,
        uri: &str,
        context: &CallContext,
    ) -> Result<(Arc<Seat>, String), Error> {
        let seats = self.seats();
        let unknown = || {
            let code = match context.era() {
                Era::Modern => ErrorCode::INVALID_PARAMS,
                // Revisions before 2026-07-28 have a code of its own for it.
                Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
            };
            let message = format!("Resource not found: {uri}");
            Err(ErrorData::new(code, message, Some(json!({ "uri": uri }))).into())
        };
        let prefixed = uris::split(uri).and_then(|(member, inner)| {
            let seat = seats.get(&member)?;
            seat.prefixes_uris()
                .then(|| (seat.clone(), inner.to_owned()))
        });
        let bare = || seats.list.iter().filter(|seat| !seat.prefixes_uris());
        let found = match prefixed {
            Some(found) => Some(found),
            None => match only(bare()) {
                Some(seat) => Some((seat.clone(), uri.to_owned())),
                None if bare().next().is_none() => None,
                None => self.find_bare(&seats, uri, context).await,
            },
        };
        match found.filter(|(seat, _)| seat.options.filter.lets_out(uri)) {
            Some(found) => Ok(found),
            None => unknown(),
        }
    }

    /// Which of several members that prefix nothing has a URI: the one that lists it, else the one with the
    /// template that says most of it.
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

    /// What is known of the members' names. A member of which no list is known is asked for one, briefly, and not
    /// again for as long as a list would be good for: unknown names are no way to have members asked.
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
        // Not among the merged lists, by which calls are routed: it may not be all members'.
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

/// A name that nothing has (MCP 2026-07-28, Tools, "Error Handling"; Prompts likewise).
fn unknown<T: Listed>(name: &str, known: Option<&Catalogue<T>>, context: &CallContext) -> Error {
    let known = known.iter().flat_map(|known| known.names());
    let nearest = names::nearest(name, known, |name| context.sees(T::item(name)));
    let mut message = format!("Unknown {}: {name}", T::NOUN);
    if !nearest.is_empty() {
        let all: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
        message.push_str(&format!(". Did you mean {}?", all.join(" or ")));
    }
    let data = json!({ "name": name, "nearest": nearest });
    ErrorData::invalid_params(message, Some(data)).into()
}

/// What an outward name stands for.
pub(super) struct Found {
    pub(super) seat: Arc<Seat>,
    /// The member's own name.
    pub(super) inner: String,
    /// What the tool says of itself, if a list is known that has it.
    pub(super) says: Option<ToolHints>,
}

impl Found {
    fn by(way: &Way, outward: &str) -> Self {
        Self {
            seat: way.seat.clone(),
            inner: way.inner(outward).to_owned(),
            says: way.says,
        }
    }

    fn unlisted(seat: &Arc<Seat>, inner: &str) -> Self {
        Self {
            seat: seat.clone(),
            inner: inner.to_owned(),
            says: None,
        }
    }
}

/// What a name says by itself.
enum Read {
    As(Found),
    Unknown,
    /// Only the lists know. Where they cannot be had, it is as it says, if it says something.
    Ask(Option<Found>),
}
