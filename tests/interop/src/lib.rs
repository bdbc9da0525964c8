//! Foreign servers, clients and the conformance suite against `rmcp-layers`.

// Sampling, roots, logging and resource subscriptions are deprecated as of 2026-07-28, but they are
// in the revisions before it, which are tested as well.
#![allow(deprecated)]

pub mod client;
pub mod conformance;
pub mod layers;
pub mod serve;
