//! Visibility for a caller, asked by a member's own names.

use std::{borrow::Cow, sync::Arc};

use rmcp::model::{Prompt, Tool};

use super::{
    lists::{list_item::ListItem, merge::MergedList},
    members::active_member::ActiveMember,
    names::{prefix::Prefix, style::versioned},
    shared::Shared,
};
use crate::{CallContext, Error, Item, McpRequest, Visibility};

/// The mapping of a member's names to outward names.
#[derive(Clone)]
struct OutwardNames {
    member: Arc<ActiveMember>,
    /// The merged lists, where the name alone does not determine the outward name.
    tools: Option<Arc<MergedList<Tool>>>,
    prompts: Option<Arc<MergedList<Prompt>>>,
}

/// Translates a member's names into outward names for the layers that limit what the caller may
/// see.
struct MemberVisibility {
    asked: Arc<dyn Visibility>,
    outside: OutwardNames,
}

/// Applies the operator's filters to inner layers that search or call the member's tools.
struct ExposureFilter(OutwardNames);

impl Shared {
    /// Makes visibility questions about a member's names into questions about the outward names.
    pub(super) fn map_visibility(&self, member: &Arc<ActiveMember>, context: &mut CallContext) {
        let may_hide = member.options.may_hide();
        if member.is_transparent() || !(may_hide || context.asks_outside()) {
            return;
        }
        let key = (member.prefix == Prefix::OnCollision).then(|| self.members().list_key(context));
        let key = key.as_ref();
        let outside = OutwardNames {
            member: member.clone(),
            tools: key.and_then(|key| Tool::of(&self.merged).get(key)),
            prompts: key.and_then(|key| Prompt::of(&self.merged).get(key)),
        };
        context.map_visibility(|asked| MemberVisibility {
            asked,
            outside: outside.clone(),
        });
        if may_hide {
            context.limit_visibility(ExposureFilter(outside));
        }
    }
}

impl OutwardNames {
    /// Returns the outward name of a member's tool or prompt. Where only a list could decide and
    /// none is known, both possible names are returned.
    fn outward<'a, T: ListItem>(
        &self,
        merged: Option<&MergedList<T>>,
        inner: &'a str,
    ) -> (Cow<'a, str>, Option<Cow<'a, str>>) {
        let (name, unprefixed) = self.member.outward_names(T::item(inner));
        let (Some(unprefixed), Some(merged)) = (&unprefixed, merged) else {
            return (name, unprefixed);
        };
        match merged.get(unprefixed) {
            Some(target) if target.member.id != self.member.id => (name, None),
            Some(target) if target.inner(unprefixed) == inner => (unprefixed.clone(), None),
            // No member has the name.
            None if self.member.style.split(inner).is_none() => (unprefixed.clone(), None),
            _ => (name, Some(unprefixed.clone())),
        }
    }

    /// Returns `true` if `holds` accepts each possible outward name of the tool or prompt.
    fn named<T: ListItem>(
        &self,
        merged: Option<&MergedList<T>>,
        inner: &str,
        holds: impl Fn(&str) -> bool,
    ) -> bool {
        let (name, other) = self.outward(merged, inner);
        holds(&name) && other.is_none_or(|other| holds(&other))
    }

    fn uri<'a>(&self, uri: &'a str) -> Cow<'a, str> {
        self.member.uris.outward(uri)
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
        // An outward name has the version at its end, too.
        let (base, version) = versioned(tool);
        let (name, other) = self.outside.outward(self.outside.tools.as_deref(), base);
        for name in [Some(name), other].into_iter().flatten() {
            self.asked.admits(&format!("{name}{version}"), call)?;
        }
        Ok(())
    }
}

impl Visibility for ExposureFilter {
    fn sees(&self, item: Item<'_>) -> bool {
        let Self(outside) = self;
        let member = &outside.member;
        match item {
            Item::Tool(name) => {
                let (base, _) = versioned(name);
                outside.named::<Tool>(outside.tools.as_deref(), base, |outward| {
                    member.options.expose(Item::Tool(base), outward)
                })
            }
            Item::Prompt(name) => {
                outside.named::<Prompt>(outside.prompts.as_deref(), name, |outward| {
                    member.options.expose(item, outward)
                })
            }
            Item::Resource(uri) => member.options.expose(item, &outside.uri(uri)),
            Item::ResourceTemplate(uri) => member.options.expose(item, &outside.uri(uri)),
            Item::Skill(uri) => member.options.expose(item, &outside.uri(uri)),
        }
    }
}
