//! The kinds of items that members list.

use rmcp::model::{
    CacheScope, ClientRequest, ErrorData, ListPromptsRequest, ListPromptsResult,
    ListResourceTemplatesRequest, ListResourceTemplatesResult, ListResourcesRequest,
    ListResourcesResult, ListSkillsRequest, ListSkillsResult, ListToolsRequest, ListToolsResult,
    MetaObject, PaginatedRequestParams, Prompt, Resource, ResourceTemplate, ServerResult, Skill,
    SkillResources, Tool,
};

use serde::Serialize;
use tokio_util::bytes::Bytes;

use super::text::Listed;
use crate::gateway::names::{app_views, uris::UriPrefix};
use crate::{
    Item, ToolHints, UnreadableItem,
    listen::change::Change,
    protocol::{results, tool_schema},
};

/// The members of a page beside its items.
#[derive(Clone, Debug, Default)]
pub(in crate::gateway) struct ListHead {
    pub(in crate::gateway) next_cursor: Option<String>,
    pub(in crate::gateway) ttl_ms: Option<u64>,
    pub(in crate::gateway) cache_scope: Option<CacheScope>,
    pub(in crate::gateway) meta: Option<MetaObject>,
}

/// One page of a list of any kind.
pub(in crate::gateway) struct ListPage<T> {
    pub(in crate::gateway) items: Vec<Listed<T>>,
    /// The text of the page, or of the first one of several, if it came from a text.
    pub(in crate::gateway) text: Option<Bytes>,
    pub(in crate::gateway) head: ListHead,
}

impl<T> ListPage<T> {
    /// Adds the items of the next page, and applies its cache hints.
    pub(in crate::gateway) fn append(&mut self, next: Self) {
        self.items.extend(next.items);
        let (head, next) = (&mut self.head, next.head);
        head.ttl_ms = head.ttl_ms.min(next.ttl_ms);
        head.cache_scope = strictest(head.cache_scope, next.cache_scope);
    }
}

impl<T> Default for ListPage<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            text: None,
            head: ListHead::default(),
        }
    }
}

/// Returns the stricter of two cache scopes.
pub(in crate::gateway) fn strictest(
    a: Option<CacheScope>,
    b: Option<CacheScope>,
) -> Option<CacheScope> {
    match (a, b) {
        (Some(CacheScope::Public), Some(CacheScope::Public)) => Some(CacheScope::Public),
        (None, None) => None,
        _ => Some(CacheScope::Private),
    }
}

/// A type for each kind of item.
pub(in crate::gateway) trait PerItem {
    type Of<T: ListItem>: Default;
}

/// A kind of item that members list.
pub(in crate::gateway) trait ListItem:
    Clone + Serialize + Send + Sync + 'static
{
    /// The word for one item in error texts.
    const NOUN: &'static str;
    /// `true` if items are identified by name, `false` if by URI.
    const NAMED: bool;
    /// The member of a page that has the items.
    const ITEMS: &'static str;
    /// The member of an item that has its name or URI.
    const KEY: &'static str;
    /// The member of an item that lists its files.
    const FILES: Option<&'static str>;
    /// The kind of change that invalidates a list of these items.
    const CHANGE: Option<Change>;

    fn request(cursor: Option<String>) -> ClientRequest;
    /// Reads a page. Its items have no texts yet.
    fn page(result: ServerResult) -> Result<ListPage<Self>, ErrorData>;
    fn answer(head: ListHead, items: Vec<Self>) -> ServerResult;
    /// Returns the value for this kind of item.
    fn of<P: PerItem>(all: &ForEachItem<P>) -> &P::Of<Self>;
    fn key(&self) -> &str;
    /// Returns the item with this name or URI, for a visibility question.
    fn item(key: &str) -> Item<'_>;
    fn set_key(&mut self, key: String);
    /// Completes items for official clients, and removes items for which they refuse a whole list.
    fn complete(_items: &mut Vec<Listed<Self>>) -> Vec<UnreadableItem> {
        Vec::new()
    }
    /// Returns the description, if items of this kind have one that is changed.
    fn description(&self) -> Option<&str> {
        None
    }
    fn set_description(&mut self, _description: String) {}
    /// Puts the prefix before URIs that the item mentions beside its own: URIs in `_meta`, and a
    /// skill's files.
    fn rewrite_mentioned_uris(&mut self, prefix: &UriPrefix);
    /// Puts the prefix before the URIs of the item's files.
    fn rewrite_files(&mut self, _prefix: &UriPrefix) {}
    /// Puts the prefix before all URIs of the item. Returns `true` if that changes the item.
    fn rewrite_uris(&mut self, prefix: &UriPrefix) -> bool {
        self.rewrite_mentioned_uris(prefix);
        let mut key = self.key().to_owned();
        let is_changed = prefix.put_before(&mut key);
        if is_changed {
            self.set_key(key);
        }
        is_changed
    }
    /// Returns the item's own claims of how harmless it is.
    fn hints(&self) -> Option<ToolHints> {
        None
    }
}

macro_rules! list_items {
    ($($Item:ident $noun:literal $named:literal $change:expr,
       $Request:ident -> $Result:ident { $items:ident $member:literal }, $field:ident,
       $key:ident $name:literal = $set:expr, files: $files:expr, { $($more:item)* })*) => {
        /// One value for each kind of item.
        pub(in crate::gateway) struct ForEachItem<P: PerItem> { $($field: P::Of<$Item>,)* }

        impl<P: PerItem> Default for ForEachItem<P> {
            fn default() -> Self {
                Self { $($field: P::Of::<$Item>::default(),)* }
            }
        }

        $(impl ListItem for $Item {
            const NOUN: &'static str = $noun;
            const NAMED: bool = $named;
            const ITEMS: &'static str = $member;
            const KEY: &'static str = $name;
            const FILES: Option<&'static str> = $files;
            const CHANGE: Option<Change> = $change;

            fn request(cursor: Option<String>) -> ClientRequest {
                $Request::with_param(PaginatedRequestParams::default().with_cursor(cursor)).into()
            }

            fn page(result: ServerResult) -> Result<ListPage<Self>, ErrorData> {
                let page: $Result = results::expect(result)?;
                Ok(ListPage {
                    items: page.$items.into_iter().map(Listed::new).collect(),
                    text: None,
                    head: ListHead {
                        next_cursor: page.next_cursor,
                        ttl_ms: page.ttl_ms,
                        cache_scope: page.cache_scope,
                        meta: page.meta,
                    },
                })
            }

            fn answer(head: ListHead, items: Vec<Self>) -> ServerResult {
                let mut result = $Result::with_all_items(items);
                result.next_cursor = head.next_cursor;
                result.ttl_ms = head.ttl_ms;
                result.cache_scope = head.cache_scope;
                result.meta = head.meta;
                result.into()
            }

            fn of<P: PerItem>(all: &ForEachItem<P>) -> &P::Of<Self> {
                &all.$field
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

            fn rewrite_mentioned_uris(&mut self, prefix: &UriPrefix) {
                if prefix.is_set() {
                    app_views::rewrite_meta(prefix, &mut self.meta);
                    self.rewrite_files(prefix);
                }
            }

            $($more)*
        })*
    };
}

list_items! {
    Tool "tool" true Some(Change::Tools), ListToolsRequest -> ListToolsResult { tools "tools" },
        tools, name "name" = |tool, name| tool.name = name.into(), files: None, {
            fn complete(items: &mut Vec<Listed<Self>>) -> Vec<UnreadableItem> {
                tool_schema::complete_each(items, |tool| tool, |tool| {
                    match tool_schema::is_whole(tool) {
                        true => Ok(()),
                        false => tool.change(tool_schema::complete_tool),
                    }
                })
            }

            fn description(&self) -> Option<&str> {
                self.description.as_deref()
            }

            fn set_description(&mut self, description: String) {
                self.description = Some(description.into());
            }

            fn hints(&self) -> Option<ToolHints> {
                Some(ToolHints::of(self))
            }
        }
    Prompt "prompt" true Some(Change::Prompts), ListPromptsRequest -> ListPromptsResult { prompts "prompts" },
        prompts, name "name" = |prompt, name| prompt.name = name, files: None, {
            fn description(&self) -> Option<&str> {
                self.description.as_deref()
            }

            fn set_description(&mut self, description: String) {
                self.description = Some(description);
            }
        }
    Resource "resource" false Some(Change::Resources),
        ListResourcesRequest -> ListResourcesResult { resources "resources" },
        resources, uri "uri" = |resource, uri| resource.uri = uri, files: None, {}
    ResourceTemplate "resource template" false Some(Change::Resources),
        ListResourceTemplatesRequest -> ListResourceTemplatesResult {
            resource_templates "resourceTemplates"
        },
        templates, uri_template "uriTemplate" = |template, uri| template.uri_template = uri,
        files: None, {}
    Skill "skill" false None, ListSkillsRequest -> ListSkillsResult { skills "skills" },
        skills, uri "uri" = |skill, uri| skill.uri = uri, files: Some("resources"), {
            fn rewrite_files(&mut self, prefix: &UriPrefix) {
                if let SkillResources::Files(files) = &mut self.resources {
                    for file in files {
                        prefix.put_before(&mut file.uri);
                    }
                }
            }
        }
}
