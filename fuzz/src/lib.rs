//! Parts that the fuzz targets of the readers share.

mod memory;
mod script;

use std::time::Duration;

pub use memory::{Counting, Peak};
pub use script::{Script, answer, call, is_answer};

/// The time in which everything is answered. It is the paused clock's: a hang takes none.
pub const SOON: Duration = Duration::from_secs(3_600);

/// Runs a future on one thread and with a paused clock.
///
/// # Panics
///
/// Panics if the future hangs.
pub fn run<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(SOON, future).await })
        .expect("it hangs")
}
