//! Request coalescing: one fetch for all callers that send the same request at the same time.

use std::{
    collections::{HashMap, hash_map},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    entry::{Entry, Selection, Subject},
    memory::Hashed,
};
use crate::{Error, util::lock};

/// All fetches under way. The future of a call adds its fetch, and removes it when it ends or is
/// dropped.
#[derive(Default)]
pub(super) struct SingleFlight {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    fetches: HashMap<u64, Arc<Fetch>>,
    /// The fetches that other callers may join, by the hash of their key.
    open: HashMap<u128, Arc<Flight>, BuildHasherDefault<Hashed>>,
}

/// A fetch under way.
struct Fetch {
    subject: Subject,
    /// The target has changed since the fetch began, so the response is not cached.
    outdated: AtomicBool,
}

struct Flight {
    fetch: u64,
    key: Arc<[u8]>,
    phase: watch::Sender<Phase>,
}

/// The progress of a shared fetch.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// The response, for all followers.
    Completed(Arc<Entry>),
    /// The response is for the leader only: each follower makes its own call.
    NotShared,
    /// The leader failed. The error is set only if the operator lets followers share errors.
    Failed(Option<Error>),
    /// The leader was dropped: the next follower leads.
    Abandoned,
}

/// The role of a caller that joins a fetch.
pub(super) enum Join {
    /// The caller fetches.
    Leader(Leader),
    /// Another caller fetches already.
    Follower(Follower),
}

/// A fetch that a follower waits for.
pub(super) struct Follower {
    pub fetch: u64,
    pub phase: watch::Receiver<Phase>,
}

impl SingleFlight {
    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Leads a new fetch, or follows the one that is under way for the same request.
    pub(super) fn join(self: &Arc<Self>, subject: Subject) -> Join {
        let mut table = self.table();
        let key = subject.key.clone();
        match table.open.get(&key.hash) {
            Some(open) if open.key == key.bytes => Join::Follower(Follower {
                fetch: open.fetch,
                phase: open.phase.subscribe(),
            }),
            Some(_) => {
                // Two keys share one hash: this caller fetches alone.
                Join::Leader(self.enter(&mut table, subject, None))
            }
            None => {
                let phase = watch::Sender::new(Phase::Running);
                Join::Leader(self.enter(&mut table, subject, Some(phase)))
            }
        }
    }

    /// Leads a fetch in place of one that takes too long: later callers follow this one. If another
    /// caller has replaced it already, this fetch is for one caller alone.
    pub(super) fn overtake(self: &Arc<Self>, subject: Subject, fetch: u64) -> Leader {
        let mut table = self.table();
        let open = table.open.get(&subject.key.hash);
        let phase = open
            .is_some_and(|open| open.fetch == fetch)
            .then(|| watch::Sender::new(Phase::Running));
        self.enter(&mut table, subject, phase)
    }

    /// Leads a fetch that no other caller may join.
    pub(super) fn alone(self: &Arc<Self>, subject: Subject) -> Leader {
        let mut table = self.table();
        self.enter(&mut table, subject, None)
    }

    fn enter(
        self: &Arc<Self>,
        table: &mut Table,
        subject: Subject,
        phase: Option<watch::Sender<Phase>>,
    ) -> Leader {
        table.next += 1;
        let number = table.next;
        let flight = phase.map(|phase| {
            Arc::new(Flight {
                fetch: number,
                key: subject.key.bytes.clone(),
                phase,
            })
        });
        if let Some(flight) = &flight {
            table.open.insert(subject.key.hash, flight.clone());
        }
        let fetch = Arc::new(Fetch {
            subject,
            outdated: AtomicBool::new(false),
        });
        table.fetches.insert(number, fetch.clone());
        Leader {
            single_flight: self.clone(),
            number,
            fetch,
            flight,
        }
    }

    /// Marks the matching fetches as outdated: their responses are not cached and no further caller
    /// joins them.
    pub(super) fn invalidate(&self, selection: &Selection<'_>) {
        let mut table = self.table();
        let Table { fetches, open, .. } = &mut *table;
        for (number, fetch) in fetches.iter() {
            if selection.contains(&fetch.subject) {
                fetch.outdated.store(true, Ordering::SeqCst);
                let hash = fetch.subject.key.hash;
                if let hash_map::Entry::Occupied(flight) = open.entry(hash)
                    && flight.get().fetch == *number
                {
                    flight.remove();
                }
            }
        }
    }

    /// Returns the number of fetches under way.
    pub(super) fn len(&self) -> usize {
        self.table().fetches.len()
    }
}

/// The leader of a fetch. If it is dropped without [`end`](Self::end), a follower takes over.
pub(super) struct Leader {
    single_flight: Arc<SingleFlight>,
    number: u64,
    fetch: Arc<Fetch>,
    flight: Option<Arc<Flight>>,
}

impl Leader {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.fetch.subject
    }

    /// Returns `true` if the target has changed since the fetch began.
    pub(super) fn is_outdated(&self) -> bool {
        self.fetch.outdated.load(Ordering::SeqCst)
    }

    /// Ends the fetch and tells its followers the outcome.
    pub(super) fn end(mut self, phase: Phase) {
        self.leave(phase);
    }

    fn leave(&mut self, phase: Phase) {
        let mut table = self.single_flight.table();
        table.fetches.remove(&self.number);
        let Some(flight) = self.flight.take() else {
            return;
        };
        if let hash_map::Entry::Occupied(open) = table.open.entry(self.fetch.subject.key.hash)
            && open.get().fetch == self.number
        {
            open.remove();
        }
        drop(table);
        flight.phase.send_replace(phase);
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.leave(Phase::Abandoned);
    }
}
