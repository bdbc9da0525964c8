//! Visibility for a caller, asked by a member's own names.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{Prompt, Resource, ResourceTemplate, Skill, Tool};

use super::{
    Prefix,
    active_member::Seat,
    lists::{list_item::Listed, merge::Catalogue},
    names::{Style, uris, versioned},
    shared::Hub,
};
use crate::{CallContext, Error, Item, McpRequest, Visibility};

/// The mapping of a member's names to outward names.
#[derive(Clone)]
struct Outside {
    seat: Arc<Seat>,
    style: Arc<Style>,
    /// The merged lists, where the name alone does not determine the outward name.
    tools: Option<Arc<Catalogue<Tool>>>,
    prompts: Option<Arc<Catalogue<Prompt>>>,
}

/// Translates a member's names into outward names for the layers that limit what the caller may
/// see.
struct MemberVisibility {
    asked: Arc<dyn Visibility>,
    outside: Outside,
}

/// Applies the operator's filters to inner layers that search or call the member's tools.
struct LetOut(Outside);

impl Hub {
    /// Makes visibility questions about a member's names into questions about the outward names.
    pub(super) fn map_visibility(&self, seat: &Arc<Seat>, context: &mut CallContext) {
        let keeps_back = seat.keeps_back();
        if seat.is_plain() || !(keeps_back || context.asks_outside()) {
            return;
        }
        let class = (seat.prefix == Prefix::OnCollision).then(|| self.seats().class(context));
        let class = class.as_ref();
        let outside = Outside {
            seat: seat.clone(),
            style: self.rules.style.clone(),
            tools: class.and_then(|class| Tool::merged(&self.merged).get(class)),
            prompts: class.and_then(|class| Prompt::merged(&self.merged).get(class)),
        };
        context.map_visibility(|asked| MemberVisibility {
            asked,
            outside: outside.clone(),
        });
        if keeps_back {
            context.limit_visibility(LetOut(outside));
        }
    }
}

impl Outside {
    /// Returns the outward name of a member's tool or prompt. Where only a list could decide and
    /// none is known, both possible names are returned.
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
                    // No member has the name.
                    Some(None) if style.split(inner).is_none() => (bare, None),
                    _ => (prefixed(), Some(bare)),
                }
            }
        }
    }

    /// Returns `true` if `holds` accepts each possible outward name of the tool or prompt.
    fn named<T: Listed>(
        &self,
        catalogue: Option<&Catalogue<T>>,
        inner: &str,
        holds: impl Fn(&str) -> bool,
    ) -> bool {
        let (name, other) = self.outward(catalogue, inner);
        holds(&name) && other.is_none_or(|other| holds(&other))
    }

    fn uri<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        match self.seat.prefixes_uris() {
            true => uris::prefixed(&self.seat.name, uri).into(),
            false => uri.into(),
        }
    }
}

impl Visibility for MemberVisibility {
    fn sees(&self, item: Item<'_>) -> bool {
        let (asked, outside) = (&self.asked, &self.outside);
        match item {
            Item::Tool(name) => outside.named::<Tool>(outside.tools.as_deref(), name, |name| {
                asked.sees(Item::Tool(name))
            }),
            Item::Prompt(name) => {
                outside.named::<Prompt>(outside.prompts.as_deref(), name, |name| {
                    asked.sees(Item::Prompt(name))
                })
            }
            Item::Resource(uri) => asked.sees(Item::Resource(&outside.uri(uri))),
            Item::ResourceTemplate(uri) => asked.sees(Item::ResourceTemplate(&outside.uri(uri))),
            Item::Skill(uri) => asked.sees(Item::Skill(&outside.uri(uri))),
        }
    }

    fn admits(&self, tool: &str, call: &McpRequest) -> Result<(), Error> {
        // Outside, too, the version is written after the name.
        let (base, version) = versioned(tool);
        let (name, other) = self.outside.outward(self.outside.tools.as_deref(), base);
        for name in [Some(name), other].into_iter().flatten() {
            self.asked.admits(&format!("{name}{version}"), call)?;
        }
        Ok(())
    }
}

impl Visibility for LetOut {
    fn sees(&self, item: Item<'_>) -> bool {
        let Self(outside) = self;
        let seat = &outside.seat;
        match item {
            Item::Tool(name) => {
                let (base, _) = versioned(name);
                outside.named::<Tool>(outside.tools.as_deref(), base, |outward| {
                    seat.lets_out::<Tool>(base, outward)
                })
            }
            Item::Prompt(name) => {
                outside.named::<Prompt>(outside.prompts.as_deref(), name, |outward| {
                    seat.lets_out::<Prompt>(name, outward)
                })
            }
            Item::Resource(uri) => seat.lets_out::<Resource>(uri, &outside.uri(uri)),
            Item::ResourceTemplate(uri) => {
                seat.lets_out::<ResourceTemplate>(uri, &outside.uri(uri))
            }
            Item::Skill(uri) => seat.lets_out::<Skill>(uri, &outside.uri(uri)),
        }
    }
}
