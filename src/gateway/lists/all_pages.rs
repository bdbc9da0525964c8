//! A list of a member, requested page by page.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rmcp::model::CacheScope;
use tokio::time::Instant;

use super::{
    list_item::{ListItem, ListPage},
    listed_member::ListedMember,
    text,
};
use crate::{
    Audience, CallContext, Error, McpRequest,
    context::{audience::PrivateTo, next_id},
    protocol::{
        pages::{Next, Pages},
        unreadable_items::Listing,
    },
};

/// The maximum lifetime of a list, whatever the server hints. Value: one day.
const MAX_TTL_MS: u64 = 24 * 60 * 60 * 1_000;

/// All pages of a list, joined.
pub(super) struct AllPages<T> {
    pub(super) page: ListPage<T>,
    /// The list was read to its end.
    pub(super) is_whole: bool,
    pub(super) expires: Option<Instant>,
    /// Every page is marked as public.
    pub(super) public: bool,
    pub(super) private: Option<PrivateTo>,
    pub(super) shareable: bool,
}

impl<T> AllPages<T> {
    /// The list of a member that does not implement the method: empty.
    pub(super) fn nothing(expires: Instant) -> Self {
        Self {
            page: ListPage::default(),
            is_whole: true,
            expires: Some(expires),
            public: false,
            private: None,
            shareable: true,
        }
    }

    fn followed_by(mut self, next: Self) -> Self {
        self.page.append(next.page);
        self.public &= next.public;
        self.shareable &= next.shareable;
        self.private = match (self.private, next.private) {
            (Some(all), Some(one)) => Some(all.and(&one)),
            (all, one) => all.or(one),
        };
        self
    }
}

/// Requests all pages of a list from a member.
pub(super) async fn fetch_pages<T: ListItem>(
    member: &Arc<ListedMember>,
    context: &CallContext,
) -> Result<AllPages<T>, Error> {
    let began = Instant::now();
    let audience = Audience::of(context);
    let mut all: Option<AllPages<T>> = None;
    let mut cursor = None;
    let mut pages = Pages::default();
    loop {
        let mut context = context.clone();
        context.id = next_id();
        let request = McpRequest::from_parts(T::request(cursor.take()), context);
        let mut page = fetch_page::<T>(member, request, &audience).await?;
        let next = page.page.head.next_cursor.take();
        let mut read = match all.take() {
            None => page,
            Some(all) => all.followed_by(page),
        };
        match pages.after(next) {
            Next::Page(next) => {
                cursor = Some(next);
                all = Some(read);
                continue;
            }
            Next::End => {}
            Next::CutShort(why) => {
                read.is_whole = false;
                member.log_cut_short::<T>(why);
            }
        }
        let ttl = read
            .page
            .head
            .ttl_ms
            .map(|ttl| Duration::from_millis(ttl.min(MAX_TTL_MS)));
        read.expires = ttl.map(|ttl| began + ttl);
        return Ok(read);
    }
}

async fn fetch_page<T: ListItem>(
    member: &Arc<ListedMember>,
    request: McpRequest,
    audience: &Audience,
) -> Result<AllPages<T>, Error> {
    let listing = Listing::of(&request.message);
    let response = member.call(request).await?;
    let private = response.private_to().cloned();
    // An inner layer may identify the caller more precisely.
    let shareable = private.is_none() || response.is_for(audience);
    let text = response.result.text();
    let mut page = T::page(response.into_result())?;
    text::keep(&mut page, text);
    let misfits = T::complete(&mut page.items);
    if let Some(listing) = listing.filter(|_| !misfits.is_empty()) {
        member.unreadable.add(listing.method, &misfits);
        member.unreadable.log(&member.name, &misfits);
    }
    Ok(AllPages {
        public: page.head.cache_scope == Some(CacheScope::Public),
        page,
        is_whole: true,
        expires: None,
        private,
        shareable,
    })
}

impl ListedMember {
    /// Logs, once for each kind of list, that the list is not read to its end.
    fn log_cut_short<T: ListItem>(&self, why: &str) {
        if !T::of(&self.lists).cut_short.swap(true, Ordering::Relaxed) {
            let noun = T::NOUN;
            tracing::warn!(member = %self.name, noun, reason = why, "a list is not followed further");
        }
    }
}
