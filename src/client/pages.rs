//! Paginated lists.

use std::future::Future;

use rmcp::model::{
    Cursor, ListPromptsRequest, ListPromptsResult, ListResourceTemplatesRequest,
    ListResourceTemplatesResult, ListResourcesRequest, ListResourcesResult, ListSkillsRequest,
    ListSkillsResult, ListToolsRequest, ListToolsResult, PaginatedRequestParams, Prompt, Resource,
    ResourceTemplate, Skill, Tool,
};

use super::McpClient;
use crate::{
    Error, Stack,
    protocol::{
        pages::{Next, Pages},
        results,
    },
};

macro_rules! lists {
    ($($one:ident $all:ident $method:literal: $Request:ident -> $Result:ident { $items:ident: $Item:ident })*) => {
        impl<S> McpClient<S>
        where
            S: Stack,
        {$(
            #[doc = concat!("One page of `", $method, "`: the first, or the one that an earlier page's \
                `next_cursor` names.")]
            ///
            /// # Errors
            ///
            /// The server's JSON-RPC error, or any other error of the stack.
            pub async fn $one(&self, cursor: Option<Cursor>) -> Result<$Result, Error> {
                let params = PaginatedRequestParams::default().with_cursor(cursor);
                let call = self.call();
                let result = call.run(call.request($Request::with_param(params))).await?;
                results::expect(result)
            }

            #[doc = concat!("All pages of `", $method, "`, in order.")]
            ///
            /// # Errors
            ///
            /// Fails as for one page.
            ///
            /// The list ends, with a warning in the log, where a cursor is empty or repeats, and
            /// after 1000 pages. The items read until then are returned.
            pub async fn $all(&self) -> Result<Vec<$Item>, Error> {
                follow($method, |cursor| async move {
                    let page = self.$one(cursor).await?;
                    Ok((page.$items, page.next_cursor))
                })
                .await
            }
        )*}
    };
}

lists! {
    list_tools list_all_tools "tools/list":
        ListToolsRequest -> ListToolsResult { tools: Tool }
    list_prompts list_all_prompts "prompts/list":
        ListPromptsRequest -> ListPromptsResult { prompts: Prompt }
    list_resources list_all_resources "resources/list":
        ListResourcesRequest -> ListResourcesResult { resources: Resource }
    list_resource_templates list_all_resource_templates "resources/templates/list":
        ListResourceTemplatesRequest -> ListResourceTemplatesResult {
            resource_templates: ResourceTemplate
        }
    list_skills list_all_skills "skills/list":
        ListSkillsRequest -> ListSkillsResult { skills: Skill }
}

/// Follows a list from its first page to its last.
pub(super) async fn follow<T, F>(
    method: &'static str,
    mut page: impl FnMut(Option<Cursor>) -> F,
) -> Result<Vec<T>, Error>
where
    F: Future<Output = Result<(Vec<T>, Option<Cursor>), Error>>,
{
    let mut pages = Pages::default();
    let (mut all, mut next) = page(None).await?;
    loop {
        let cursor = match pages.after(next) {
            Next::Page(cursor) => cursor,
            Next::End => return Ok(all),
            Next::CutShort(why) => {
                tracing::warn!(method, reason = why, "a list is not followed further");
                return Ok(all);
            }
        };
        let (items, following) = page(Some(cursor)).await?;
        all.extend(items);
        next = following;
    }
}
