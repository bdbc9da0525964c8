use std::sync::Mutex;

use crate::util::lock;

/// The highest progress of a call whose notifications have several sources, such as its attempts.
///
/// Progress must increase with each notification (MCP 2026-07-28, basic/utilities/progress).
///
/// ```
/// use rmcp_layers::MonotonicProgress;
///
/// let progress = MonotonicProgress::default();
/// assert!(progress.advance(0.0));
/// assert!(progress.advance(2.0));
/// // Another attempt begins again.
/// assert!(!progress.advance(1.0));
/// assert!(progress.advance(3.0));
/// ```
#[derive(Debug, Default)]
pub struct MonotonicProgress(Mutex<Option<f64>>);

impl MonotonicProgress {
    /// Records this progress. Returns `true` if it is higher than any before, so that the caller
    /// may be notified of it.
    pub fn advance(&self, progress: f64) -> bool {
        let mut highest = lock(&self.0);
        // `NaN` is not higher than anything.
        let is_higher = progress > highest.unwrap_or(f64::NEG_INFINITY);
        if is_higher {
            *highest = Some(progress);
        }
        is_higher
    }

    /// Returns the highest progress so far.
    #[cfg(feature = "progress")]
    pub(crate) fn highest(&self) -> Option<f64> {
        *lock(&self.0)
    }
}
