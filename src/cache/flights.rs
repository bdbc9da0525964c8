//! What is being fetched: once for all who ask the same at the same time.

use std::{
    collections::{HashMap, hash_map},
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    entry::{Concerned, Entry, Subject},
    memory::Hashed,
};
use crate::Error;

/// All calls that fetch. There are as many as calls in flight: each is entered by the future of its call, and leaves
/// when that ends or is dropped.
#[derive(Default)]
pub(super) struct Flights {
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    fetches: HashMap<u64, Arc<Fetch>>,
    /// Those that others may join, by the hash of their key.
    open: HashMap<u128, Arc<Flight>, BuildHasherDefault<Hashed>>,
}

/// One call that fetches.
struct Fetch {
    subject: Subject,
    /// What it fetches has changed meanwhile: nobody keeps it.
    outdated: AtomicBool,
}

struct Flight {
    fetch: u64,
    key: Arc<[u8]>,
    phase: watch::Sender<Phase>,
}

/// How far a flight is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// The answer, for all who wait.
    Landed(Arc<Entry>),
    /// The answer is the leader's alone: each who waits calls for itself.
    Apart,
    /// The leader failed. The error is for those who wait only if the operator says so.
    Failed(Option<Error>),
    /// The leader went away: the next one leads.
    Abandoned,
}

/// What somebody who asks finds.
pub(super) enum Join {
    /// It is the one that fetches.
    Lead(Lead),
    /// Somebody fetches already.
    Follow(Followed),
}

/// What is waited for.
pub(super) struct Followed {
    pub fetch: u64,
    pub phase: watch::Receiver<Phase>,
}

impl Flights {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches for all who ask the same, or waits for whoever does.
    pub fn join(self: &Arc<Self>, subject: Subject) -> Join {
        let mut table = self.table();
        let key = subject.key.clone();
        match table.open.get(&key.hash) {
            Some(open) if open.key == key.bytes => Join::Follow(Followed {
                fetch: open.fetch,
                phase: open.phase.subscribe(),
            }),
            Some(_) => {
                // Two keys of one hash: this one goes alone.
                Join::Lead(self.enter(&mut table, subject, None))
            }
            None => {
                let phase = watch::Sender::new(Phase::Running);
                Join::Lead(self.enter(&mut table, subject, Some(phase)))
            }
        }
    }

    /// Fetches in place of one that takes too long: those who ask from now on wait for this one. If somebody else
    /// has done so already, it is for one caller alone.
    pub fn overtake(self: &Arc<Self>, subject: Subject, fetch: u64) -> Lead {
        let mut table = self.table();
        let open = table.open.get(&subject.key.hash);
        let phase = open
            .is_some_and(|open| open.fetch == fetch)
            .then(|| watch::Sender::new(Phase::Running));
        self.enter(&mut table, subject, phase)
    }

    /// Fetches for one caller alone.
    pub fn alone(self: &Arc<Self>, subject: Subject) -> Lead {
        let mut table = self.table();
        self.enter(&mut table, subject, None)
    }

    fn enter(
        self: &Arc<Self>,
        table: &mut Table,
        subject: Subject,
        phase: Option<watch::Sender<Phase>>,
    ) -> Lead {
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
        Lead {
            flights: self.clone(),
            number,
            fetch,
            flight,
        }
    }

    /// What is being fetched of this is not kept, and nobody joins it any more.
    pub fn invalidate(&self, concerned: &Concerned<'_>) {
        let mut table = self.table();
        let Table { fetches, open, .. } = &mut *table;
        for (number, fetch) in fetches.iter() {
            if concerned.includes(&fetch.subject) {
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

    /// How many calls fetch now.
    pub fn len(&self) -> usize {
        self.table().fetches.len()
    }
}

/// Whoever fetches. Dropped without an end, it hands the flight on.
pub(super) struct Lead {
    flights: Arc<Flights>,
    number: u64,
    fetch: Arc<Fetch>,
    flight: Option<Arc<Flight>>,
}

impl Lead {
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn subject(&self) -> &Subject {
        &self.fetch.subject
    }

    /// Whether what it fetches has changed since it began.
    pub fn is_outdated(&self) -> bool {
        self.fetch.outdated.load(Ordering::SeqCst)
    }

    /// Tells those who wait how it ended.
    pub fn end(mut self, phase: Phase) {
        self.leave(phase);
    }

    fn leave(&mut self, phase: Phase) {
        let mut table = self.flights.table();
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

impl Drop for Lead {
    fn drop(&mut self) {
        self.leave(Phase::Abandoned);
    }
}
