use std::{
    fmt,
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tower::Layer;

use super::{Progress, ProgressHandle};
use crate::{ConfigError, util::log_limit::LogLimit};

/// Makes progress lawful and light; see the [module](super).
#[derive(Clone)]
pub struct ProgressLayer {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) counters: Counters,
    pub(super) foreign_log: LogLimit,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) coalesced: AtomicU64,
    pub(super) foreign: AtomicU64,
    pub(super) not_increasing: AtomicU64,
    pub(super) heartbeats: AtomicU64,
    pub(super) timeouts: AtomicU64,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The least time between two notifications of one token.
    pub(super) interval: Duration,
    pub(super) max_message_bytes: usize,
    pub(super) heartbeat: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// The least time between progress and the result on a line transport.
    pub(super) result_gap: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            max_message_bytes: 1_024,
            heartbeat: None,
            timeout: None,
            idle_timeout: None,
            result_gap: Duration::from_millis(20),
        }
    }
}

impl ProgressLayer {
    /// Creates a layer with the defaults: 10 notifications a second, no heartbeats, no timeouts.
    pub fn new() -> Self {
        ProgressLayerBuilder::default().made()
    }

    /// Creates a builder of a layer.
    pub fn builder() -> ProgressLayerBuilder {
        ProgressLayerBuilder::default()
    }

    /// Returns the handle that reads the counters.
    pub fn handle(&self) -> ProgressHandle {
        ProgressHandle {
            shared: self.shared.clone(),
        }
    }
}

impl Default for ProgressLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ProgressLayer {
    type Service = Progress<S>;

    fn layer(&self, inner: S) -> Progress<S> {
        Progress::new(self.shared.clone(), inner)
    }
}

impl fmt::Debug for ProgressLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgressLayer")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

/// Limit of notifications of one token in a second.
const MOST_A_SECOND: u32 = 1_000;
/// Limit of `result_gap`.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// Builds a [`ProgressLayer`].
#[derive(Clone, Debug, Default)]
#[must_use = "call `build` to make the layer"]
pub struct ProgressLayerBuilder {
    settings: Settings,
    rate: Option<u32>,
}

impl ProgressLayerBuilder {
    /// Sets the number of notifications of one call in a second. Default: 10. Limit: 1,000.
    /// The latest of the notifications that come sooner is sent when its time has come.
    pub fn max_per_second(mut self, rate: u32) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Sets the length of a message. Default: 1 KiB. A longer message is cut and ends with "…".
    pub fn max_message_bytes(mut self, max: usize) -> Self {
        self.settings.max_message_bytes = max;
        self
    }

    /// Sets the silence after which the caller is told that the call still runs. Default: none.
    ///
    /// Heartbeats help callers whose timeouts are reset by progress. TypeScript clients do so if
    /// they ask for it (`resetTimeoutOnProgress`), Python clients do not.
    pub fn heartbeat(mut self, silence: impl Into<Option<Duration>>) -> Self {
        self.settings.heartbeat = silence.into();
        self
    }

    /// Sets the time that a call may take, whatever it reports. Default: none.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.timeout = limit.into();
        self
    }

    /// Sets the time that a call may be silent. Default: none. Progress and any other message of
    /// the server for the call restart it. While the caller has a request of the server to answer,
    /// the call is not silent. A call without a progress token gets one for that.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = limit.into();
        self
    }

    /// Sets the least time between progress and the result on a line transport. Default: 20 ms.
    /// Limit: 1 s.
    ///
    /// A notification waits for so long, and a result that comes meanwhile replaces it. A result
    /// that comes sooner after a notification that was sent waits.
    pub fn result_gap(mut self, gap: Duration) -> Self {
        self.settings.result_gap = gap;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if an option is beyond its limit.
    pub fn build(mut self) -> Result<ProgressLayer, ConfigError> {
        let refuse = |option, reason: String| Err(ConfigError::new("progress", option, reason));
        if let Some(rate) = self.rate {
            match NonZeroU32::new(rate) {
                Some(rate) if rate.get() <= MOST_A_SECOND => {
                    self.settings.interval = Duration::from_secs(1) / rate.get();
                }
                _ => {
                    let reason = format!("{rate} is not between 1 and {MOST_A_SECOND}");
                    return refuse("max_per_second", reason);
                }
            }
        }
        if self.settings.result_gap > LONGEST_GAP {
            let reason = format!("{:?} is more than 1 s", self.settings.result_gap);
            return refuse("result_gap", reason);
        }
        for (option, time) in [
            ("heartbeat", self.settings.heartbeat),
            ("timeout", self.settings.timeout),
            ("idle_timeout", self.settings.idle_timeout),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                return refuse(option, "it is 0; leave it out for none".to_owned());
            }
        }
        Ok(self.made())
    }

    fn made(self) -> ProgressLayer {
        ProgressLayer {
            shared: Arc::new(Shared {
                settings: self.settings,
                counters: Counters::default(),
                foreign_log: LogLimit::default(),
            }),
        }
    }
}
