//! The client side of the conformance suite, which starts it once a scenario: `conformance_client URL`.
//!
//! With `CONFORMANCE_CLIENT=layers` it is the crate's client, else rmcp's.

use std::time::Duration;

use rmcp_layers_interop::client::scenarios::{Assignment, play};
use rmcp_layers_interop::client::{Bare, Layered};
use rmcp_layers_interop::serve::{self, Result};

/// Some of the suite's servers never answer. Its own limit is 30 s, and it kills by then.
const LIMIT: Duration = Duration::from_secs(25);

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let assigned = Assignment::from_environment()?;
    serve::run(async {
        // Which client is under test is decided here and nowhere else.
        match std::env::var("CONFORMANCE_CLIENT").as_deref() {
            Ok("layers") => tokio::time::timeout(LIMIT, play::<Layered>(&assigned)).await?,
            _ => tokio::time::timeout(LIMIT, play::<Bare>(&assigned)).await?,
        }
    })
}
