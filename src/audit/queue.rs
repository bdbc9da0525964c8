//! A sink with its own thread, and the bounded queue in front of it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    AuditError, AuditRecord, AuditSink,
    handle::SinkStats,
    sink::{Durability, SinkOptions, WhenFull},
};
use crate::{Error, Refusal, util::log_limit::LogLimit};

/// The first and the longest wait of the thread after a failure.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Limit of attempts for a record once the log is closing.
const LAST_TRIES: u32 = 3;

/// The sending side of a sink: reserves places and sends records.
pub(super) struct Queue {
    name: Arc<str>,
    when_full: WhenFull,
    places: Arc<Semaphore>,
    sender: Sender<Message>,
    state: Arc<State>,
}

/// A record's reserved place in a sink's queue.
pub(super) enum Place {
    Taken(OwnedSemaphorePermit),
    /// The queue was full: the record is dropped.
    None,
}

enum Message {
    Record(Arc<AuditRecord>, OwnedSemaphorePermit),
    Flush(oneshot::Sender<io::Result<()>>),
}

#[derive(Default)]
struct State {
    written: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    /// `true` if the last write or sync failed.
    failing: AtomicBool,
    /// `true` once no new calls come: records that cannot be written are no longer retried for
    /// ever.
    closing: AtomicBool,
    warnings: LogLimit,
}

impl State {
    fn drop_one(&self, sink: &str) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.warnings.count(1).is_some() {
            tracing::warn!(sink, dropped, "audit records are dropped");
        }
    }

    fn failed_once(&self, sink: &str, error: &io::Error) {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        self.failing.store(true, Ordering::Release);
        if self.warnings.count(1).is_some() {
            tracing::error!(sink, failed, %error, "audit records cannot be written");
        }
    }
}

impl Queue {
    /// Starts the sink's thread.
    pub(super) fn start(
        name: Arc<str>,
        sink: impl AuditSink,
        options: &SinkOptions,
    ) -> Result<Self, AuditError> {
        options.check()?;
        let places = Arc::new(Semaphore::new(options.capacity));
        let (sender, receiver) = mpsc::channel();
        let state = Arc::<State>::default();
        let writer = Writer {
            name: name.clone(),
            sink,
            when_full: options.when_full,
            durability: options.durability,
            unsynced: None,
            gave_up: false,
            state: state.clone(),
            places: places.clone(),
        };
        thread::Builder::new()
            .name("rmcp-audit".to_owned())
            .spawn(move || writer.run(&receiver))
            .map_err(|error| AuditError::io(&*name, error))?;
        Ok(Self {
            name,
            when_full: options.when_full,
            places,
            sender,
            state,
        })
    }

    /// Reserves a place for a record, as `when_full` says. An error refuses the call.
    pub(super) async fn take(&self) -> Result<Place, Error> {
        if let Some(taken) = self.try_take() {
            return taken;
        }
        match self.places.clone().acquire_owned().await {
            Ok(place) => Ok(Place::Taken(place)),
            Err(_closed) => Err(self.refusal()),
        }
    }

    /// Reserves a place as [`take`](Self::take) does. Returns `None` if the call has to wait.
    pub(super) fn try_take(&self) -> Option<Result<Place, Error>> {
        if self.when_full == WhenFull::Refuse && self.state.failing.load(Ordering::Acquire) {
            return Some(Err(self.refusal()));
        }
        match (self.take_now(), self.when_full) {
            (Place::None, WhenFull::Block) if !self.places.is_closed() => None,
            (Place::None, WhenFull::Block | WhenFull::Refuse) => Some(Err(self.refusal())),
            (place, _) => Some(Ok(place)),
        }
    }

    /// Reserves a place if there is one.
    pub(super) fn take_now(&self) -> Place {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Place::Taken(place),
            Err(_) => Place::None,
        }
    }

    pub(super) fn send(&self, record: &Arc<AuditRecord>, place: Place) {
        match place {
            Place::Taken(place) => {
                let message = Message::Record(record.clone(), place);
                if self.sender.send(message).is_err() {
                    self.state.drop_one(&self.name);
                }
            }
            Place::None => self.state.drop_one(&self.name),
        }
    }

    fn refusal(&self) -> Error {
        Refusal::new(
            "audit",
            "the audit log has no room, and nothing is done that is not on record; try again later",
        )
        .with_retry_after(Duration::from_secs(1))
        .into()
    }

    /// Waits until the records sent so far are written and durable, or given up.
    pub(super) async fn flush(&self) -> io::Result<()> {
        let (done, flushed) = oneshot::channel();
        let ended = || io::Error::other("the sink's thread has ended");
        if self.sender.send(Message::Flush(done)).is_err() {
            return Err(ended());
        }
        flushed.await.map_err(|_| ended())?
    }

    pub(super) fn stats(&self) -> SinkStats {
        SinkStats {
            sink: self.name.clone(),
            written: self.state.written.load(Ordering::Relaxed),
            dropped: self.state.dropped.load(Ordering::Relaxed),
            failed: self.state.failed.load(Ordering::Relaxed),
            failing: self.state.failing.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.state.closing.store(true, Ordering::Release);
    }
}

/// The receiving side: the thread that writes.
struct Writer<K> {
    name: Arc<str>,
    sink: K,
    when_full: WhenFull,
    durability: Durability,
    /// The time of the first write that is not yet synced.
    unsynced: Option<Instant>,
    /// A record could not be written while the log was closing: each later one is tried once.
    gave_up: bool,
    state: Arc<State>,
    places: Arc<Semaphore>,
}

impl<K: AuditSink> Writer<K> {
    /// Writes until the last queue is gone and everything is written.
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let due = self.sync_due();
            // A sync that is due is not delayed by waiting records.
            if due == Some(Duration::ZERO)
                && self.durability != Durability::Always
                && self.sync().is_err()
            {
                thread::sleep(FIRST_WAIT);
            }
            let message = match due {
                None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => receiver.recv_timeout(wait),
            };
            match message {
                Ok(Message::Record(record, place)) => {
                    self.write(&record);
                    drop(place);
                }
                Ok(Message::Flush(done)) => {
                    let synced = self.sync();
                    let _ = done.send(synced);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if self.sync().is_err() {
                        thread::sleep(FIRST_WAIT);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let _ = self.sync();
    }

    /// Returns the time until the next sync is due. Returns `None` if no sync is due.
    fn sync_due(&self) -> Option<Duration> {
        let since = self.unsynced?;
        match self.durability {
            Durability::System => None,
            Durability::Within(time) => Some(time.saturating_sub(since.elapsed())),
            Durability::Always => Some(Duration::ZERO),
        }
    }

    fn write(&mut self, record: &AuditRecord) {
        let (mut wait, mut tries) = (FIRST_WAIT, 0);
        loop {
            match self.sink.write(record) {
                Ok(()) => {
                    self.state.failing.store(false, Ordering::Release);
                    self.state.written.fetch_add(1, Ordering::Relaxed);
                    self.unsynced.get_or_insert_with(Instant::now);
                    return;
                }
                Err(error) => self.state.failed_once(&self.name, &error),
            }
            if self.when_full == WhenFull::Drop {
                self.state.drop_one(&self.name);
                return;
            }
            if self.state.closing.load(Ordering::Acquire) {
                tries += 1;
                if self.gave_up || tries == LAST_TRIES {
                    self.gave_up = true;
                    self.state.drop_one(&self.name);
                    return;
                }
            }
            thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.is_none() {
            return Ok(());
        }
        match self.sink.sync() {
            Ok(()) => {
                self.unsynced = None;
                self.state.failing.store(false, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                self.state.failed_once(&self.name, &error);
                Err(error)
            }
        }
    }
}

impl<K> Drop for Writer<K> {
    /// Closes the queue also when the sink panics, so that waiting calls learn that it is gone.
    fn drop(&mut self) {
        self.places.close();
        self.state.failing.store(true, Ordering::Release);
    }
}
