//! The client side of the conformance suite, which starts it once a scenario: `conformance_client URL`.

use std::time::Duration;

use rmcp_layers_interop::client::Bare;
use rmcp_layers_interop::client::scenarios::{Assignment, play};
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
        tokio::time::timeout(LIMIT, play::<Bare>(&assigned)).await?
    })
}
