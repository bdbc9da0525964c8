//! Lists: cached for each member, and merged for the callers.

pub(super) mod all_pages;
pub(super) mod cached_list;
pub(super) mod fetch;
pub(super) mod gather;
pub(super) mod list_item;
pub(super) mod list_key;
pub(super) mod listed_member;
pub(super) mod merge;
pub(super) mod option_checks;
pub(super) mod pages;
pub(super) mod text;
pub(super) mod unmatched;
