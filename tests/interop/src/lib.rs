//! Foreign servers, clients and the conformance suite against `rmcp-layers`.
