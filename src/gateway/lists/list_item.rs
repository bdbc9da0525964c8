//! The kinds of items that members list.

use std::sync::Arc;

use rmcp::model::{
    CacheScope, ClientRequest, ErrorData, ListPromptsRequest, ListPromptsResult,
    ListResourceTemplatesRequest, ListResourceTemplatesResult, ListResourcesRequest,
    ListResourcesResult, ListSkillsRequest, ListSkillsResult, ListToolsRequest, ListToolsResult,
    MetaObject, PaginatedRequestParams, Prompt, Resource, ResourceTemplate, ServerResult, Skill,
    SkillResources, Tool,
};

use super::{cached_list::ListCache, list_key::ByListKey, merge::MergedList};
use crate::gateway::{
    members::active_member::{ActiveMember, Change},
    members::member::{Options, Overrides},
};
use crate::{
    Item, ToolHints, UnreadableItem,
    protocol::{results, tool_schema},
};

/// One page of a list of any kind.
pub(in crate::gateway) struct Page<T> {
    pub(in crate::gateway) items: Vec<T>,
    pub(in crate::gateway) next_cursor: Option<String>,
    pub(in crate::gateway) ttl_ms: Option<u64>,
    pub(in crate::gateway) cache_scope: Option<CacheScope>,
    pub(in crate::gateway) meta: Option<MetaObject>,
}

/// A kind of item that members list.
pub(in crate::gateway) trait ListItem: Clone + Send + Sync + 'static {
    /// The word for one item in error texts.
    const NOUN: &'static str;
    /// `true` if items are identified by name, `false` if by URI.
    const NAMED: bool;
    /// The kind of change that invalidates a list of these items.
    const CHANGE: Option<Change>;

    fn request(cursor: Option<String>) -> ClientRequest;
    fn page(result: ServerResult) -> Result<Page<Self>, ErrorData>;
    fn answer(page: Page<Self>) -> ServerResult;
    fn shelf(lists: &Lists) -> &ListCache<Self>;
    fn merged(merged: &MergedLists) -> &ByListKey<Arc<MergedList<Self>>>;
    fn key(&self) -> &str;
    /// Returns the item with this name or URI, for a visibility question.
    fn item(key: &str) -> Item<'_>;
    fn set_key(&mut self, key: String);
    /// Completes items for official clients, and removes items for which they refuse a whole list.
    fn complete(_items: &mut Vec<Self>) -> Vec<UnreadableItem> {
        Vec::new()
    }
    /// The operator's overrides for single items of this kind.
    fn overrides(_options: &Options) -> Option<&Overrides> {
        None
    }
    /// Makes URIs outward that the item mentions beside its own: URIs in `_meta`, and a skill's
    /// files.
    fn put_mentions_outward(&mut self, member: &ActiveMember);
    /// Makes the URIs of the item's files outward.
    fn put_files_outward(&mut self, _seat: &ActiveMember) {}
    /// Makes all names and URIs of the item outward.
    fn put_outward(&mut self, member: &ActiveMember) {
        self.put_mentions_outward(member);
        let mut key = self.key().to_owned();
        member.put_outward(&mut key);
        self.set_key(key);
    }
    /// Adds the member's name and the operator's text to the description.
    fn describe(&mut self, _seat: &ActiveMember, _inner: &str, _prefixed: bool) {}
    /// Returns the item's own claims of how harmless it is.
    fn hints(&self) -> Option<ToolHints> {
        None
    }
    /// Returns `true` if the item changes nothing, as far as the member is trusted.
    fn is_read_only(&self, _seat: &ActiveMember) -> bool {
        true
    }
}

macro_rules! listed {
    ($($Item:ident $noun:literal $named:literal $change:expr, $Request:ident -> $Result:ident { $items:ident },
       $shelf:ident, $key:ident = $set:expr, { $($more:item)* })*) => {
        /// The lists of one member.
        #[derive(Default)]
        pub(in crate::gateway) struct Lists { $($shelf: ListCache<$Item>,)* }

        /// The merged lists.
        #[derive(Default)]
        pub(in crate::gateway) struct MergedLists { $($shelf: ByListKey<Arc<MergedList<$Item>>>,)* }

        impl MergedLists {
            /// Clears all merged lists, because the members have changed.
            pub(in crate::gateway) fn clear(&self) {
                $(self.$shelf.clear();)*
            }
        }

        $(impl ListItem for $Item {
            const NOUN: &'static str = $noun;
            const NAMED: bool = $named;
            const CHANGE: Option<Change> = $change;

            fn request(cursor: Option<String>) -> ClientRequest {
                $Request::with_param(PaginatedRequestParams::default().with_cursor(cursor)).into()
            }

            fn page(result: ServerResult) -> Result<Page<Self>, ErrorData> {
                let page: $Result = results::expect(result)?;
                Ok(Page {
                    items: page.$items,
                    next_cursor: page.next_cursor,
                    ttl_ms: page.ttl_ms,
                    cache_scope: page.cache_scope,
                    meta: page.meta,
                })
            }

            fn answer(page: Page<Self>) -> ServerResult {
                let mut result = $Result::with_all_items(page.items);
                result.next_cursor = page.next_cursor;
                result.ttl_ms = page.ttl_ms;
                result.cache_scope = page.cache_scope;
                result.meta = page.meta;
                result.into()
            }

            fn shelf(lists: &Lists) -> &ListCache<Self> {
                &lists.$shelf
            }

            fn merged(merged: &MergedLists) -> &ByListKey<Arc<MergedList<Self>>> {
                &merged.$shelf
            }

            fn key(&self) -> &str {
                &self.$key
            }

            fn item(key: &str) -> Item<'_> {
                Item::$Item(key)
            }

            fn set_key(&mut self, key: String) {
                let set: fn(&mut Self, String) = $set;
                set(self, key);
            }

            fn put_mentions_outward(&mut self, member: &ActiveMember) {
                if member.prefixes_uris() {
                    crate::gateway::rewrite::ui_in_meta(member, &mut self.meta);
                    self.put_files_outward(member);
                }
            }

            $($more)*
        })*
    };
}

listed! {
    Tool "tool" true Some(Change::Tools), ListToolsRequest -> ListToolsResult { tools },
        tools, name = |tool, name| tool.name = name.into(), {
            fn complete(items: &mut Vec<Self>) -> Vec<UnreadableItem> {
                tool_schema::complete(items)
            }

            fn overrides(options: &Options) -> Option<&Overrides> {
                Some(&options.tools)
            }

            fn describe(&mut self, member: &ActiveMember, inner: &str, prefixed: bool) {
                let own = self.description.as_deref();
                if let Some(said) = described::<Self>(member, inner, own, prefixed) {
                    self.description = Some(said.into());
                }
            }

            fn hints(&self) -> Option<ToolHints> {
                Some(ToolHints::of(self))
            }

            fn is_read_only(&self, member: &ActiveMember) -> bool {
                member.options.trusted == Some(true) && ToolHints::of(self).read_only
            }
        }
    Prompt "prompt" true Some(Change::Prompts), ListPromptsRequest -> ListPromptsResult { prompts },
        prompts, name = |prompt, name| prompt.name = name, {
            fn overrides(options: &Options) -> Option<&Overrides> {
                Some(&options.prompts)
            }

            fn describe(&mut self, member: &ActiveMember, inner: &str, prefixed: bool) {
                let own = self.description.as_deref();
                if let Some(said) = described::<Self>(member, inner, own, prefixed) {
                    self.description = Some(said);
                }
            }
        }
    Resource "resource" false Some(Change::Resources),
        ListResourcesRequest -> ListResourcesResult { resources },
        resources, uri = |resource, uri| resource.uri = uri, {}
    ResourceTemplate "resource template" false Some(Change::Resources),
        ListResourceTemplatesRequest -> ListResourceTemplatesResult { resource_templates },
        templates, uri_template = |template, uri| template.uri_template = uri, {}
    Skill "skill" false None, ListSkillsRequest -> ListSkillsResult { skills },
        skills, uri = |skill, uri| skill.uri = uri, {
            fn put_files_outward(&mut self, member: &ActiveMember) {
                if let SkillResources::Files(files) = &mut self.resources {
                    for file in files {
                        member.put_outward(&mut file.uri);
                    }
                }
            }
        }
}

/// Returns the description to show, if it is not the member's own.
fn described<T: ListItem>(
    member: &ActiveMember,
    inner: &str,
    own: Option<&str>,
    prefixed: bool,
) -> Option<String> {
    let said = T::overrides(&member.options)?.get(inner);
    match said.and_then(|one| one.description.clone()) {
        Some(said) => Some(said),
        None if prefixed => own.map(|own| format!("[{}] {own}", member.name)),
        None => None,
    }
}
