//! Token counts of results, and results that are cut to a number of tokens.
//!
//! Requires the feature `budget`.

mod counter;
#[allow(
    dead_code,
    unused_imports,
    reason = "the layer that uses it comes next"
)]
mod fit;
mod limits;
mod media;

pub use counter::{TokenCounter, Tokenizer};
pub use fit::{Charge, KeptText, OnSchemaMisfit, RepeatedText};
pub use limits::ResultLimits;
pub use media::MediaTokens;
