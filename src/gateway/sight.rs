//! What a caller may know of, asked by a member's own names.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{Prompt, Tool};

use super::{Prefix, hub::Hub, listed::Listed, merge::Catalogue, names::Style, seat::Seat, uris};
use crate::{CallContext, Error, Item, McpRequest, Sight};

/// Turns a member's names into outward ones, on their way to whoever limits what the caller may know of.
struct MemberSight {
    outside: Arc<dyn Sight>,
    seat: Arc<Seat>,
    style: Arc<Style>,
    /// What is called what, where names alone do not say it.
    tools: Option<Arc<Catalogue<Tool>>>,
    prompts: Option<Arc<Catalogue<Prompt>>>,
}

impl Hub {
    /// Has what is asked about a member's names asked about those that they have outside.
    pub(super) fn map_sight(&self, seat: &Arc<Seat>, context: &mut CallContext) {
        if seat.is_plain() || !context.asks_outside() {
            return;
        }
        let class = (seat.prefix == Prefix::OnCollision).then(|| self.seats().class(context));
        let class = class.as_ref();
        context.map_sight(|outside| MemberSight {
            outside,
            seat: seat.clone(),
            style: self.rules.style.clone(),
            tools: class.and_then(|class| Tool::merged(&self.merged).get(class)),
            prompts: class.and_then(|class| Prompt::merged(&self.merged).get(class)),
        });
    }
}

impl MemberSight {
    /// What a member's tool or prompt is called outside. Where only a list would say it, and none does, it may be
    /// either.
    fn outward<'a, T: Listed>(
        &self,
        catalogue: Option<&Catalogue<T>>,
        inner: &'a str,
    ) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        let (seat, style) = (&self.seat, &self.style);
        let said = T::overrides(&seat.options).and_then(|overrides| overrides.get(inner));
        if let Some(name) = said.and_then(|one| one.name.clone()) {
            return (name.into(), None);
        }
        let bare = || match seat.prefix {
            Prefix::Never => Cow::Borrowed(inner),
            _ => style.fit(inner, 0),
        };
        let prefixed = || {
            let prefixed = style.prefixed(&seat.name, inner);
            Cow::Owned(style.fit(&prefixed, 0).into_owned())
        };
        match seat.prefix {
            Prefix::Always => (prefixed(), None),
            Prefix::Never => (bare(), None),
            Prefix::OnCollision => {
                let bare = bare();
                let holder = catalogue.map(|catalogue| catalogue.get(&bare));
                match holder {
                    Some(Some(way)) if way.seat.id != seat.id => (prefixed(), None),
                    Some(Some(way)) if way.inner(&bare) == inner => (bare, None),
                    // Nobody has the name.
                    Some(None) if style.split(inner).is_none() => (bare, None),
                    _ => (prefixed(), Some(bare)),
                }
            }
        }
    }

    fn sees_named<T: Listed>(&self, catalogue: Option<&Catalogue<T>>, inner: &str) -> bool {
        let (name, other) = self.outward(catalogue, inner);
        self.outside.sees(T::item(&name))
            && other.is_none_or(|other| self.outside.sees(T::item(&other)))
    }

    fn uri<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        match self.seat.prefixes_uris() {
            true => uris::prefixed(&self.seat.name, uri).into(),
            false => uri.into(),
        }
    }
}

impl Sight for MemberSight {
    fn sees(&self, item: Item<'_>) -> bool {
        match item {
            Item::Tool(name) => self.sees_named::<Tool>(self.tools.as_deref(), name),
            Item::Prompt(name) => self.sees_named::<Prompt>(self.prompts.as_deref(), name),
            Item::Resource(uri) => self.outside.sees(Item::Resource(&self.uri(uri))),
            Item::ResourceTemplate(uri) => {
                let uri = self.uri(uri);
                self.outside.sees(Item::ResourceTemplate(&uri))
            }
            Item::Skill(uri) => self.outside.sees(Item::Skill(&self.uri(uri))),
        }
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        // Calls write a version behind a name, and so they would outside.
        let (base, version) = match tool.rsplit_once('@') {
            Some((base, _)) => (base, tool.get(base.len()..).unwrap_or_default()),
            None => (tool, ""),
        };
        let (name, other) = self.outward(self.tools.as_deref(), base);
        for name in [Some(name), other].into_iter().flatten() {
            self.outside.admits(&format!("{name}{version}"), call)?;
        }
        Ok(())
    }
}
