//! The protocol's own vocabulary.

mod cache_hints;

pub(crate) use cache_hints::cache_hints;
