use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use tokio::sync::mpsc::UnboundedSender;

use super::{super::driver::Event, Class};

/// The place of a task in the queue: by priority, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::delegate::orchestrator) struct Place(Reverse<i32>, u64);

impl Place {
    pub(super) fn new(priority: i32, age: u64) -> Self {
        Self(Reverse(priority), age)
    }
}

/// A task that waits.
pub(super) struct Ticket {
    pub(super) plan: UnboundedSender<Event>,
    pub(super) task: u32,
    pub(super) request: u32,
}

/// The tasks that wait, by the agents that may do them. There are few such classes, because the
/// agents that are registered bound them.
#[derive(Default)]
pub(super) struct Queue {
    classes: HashMap<Class, BTreeMap<Place, Ticket>>,
    len: usize,
    next_age: u64,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns the age of a task that begins to wait: the number of tasks before it.
    pub(super) fn next_age(&mut self) -> u64 {
        self.next_age += 1;
        self.next_age
    }

    pub(super) fn add(&mut self, class: &Class, place: Place, ticket: Ticket) {
        let added = match self.classes.get_mut(class) {
            Some(waiting) => waiting.insert(place, ticket),
            None => {
                let waiting = BTreeMap::from([(place, ticket)]);
                self.classes.insert(class.clone(), waiting);
                None
            }
        };
        self.len += usize::from(added.is_none());
    }

    pub(super) fn remove(&mut self, class: &Class, place: Place) -> bool {
        let Some(waiting) = self.classes.get_mut(class) else {
            return false;
        };
        let was_there = waiting.remove(&place).is_some();
        if waiting.is_empty() {
            self.classes.remove(class);
        }
        self.len -= usize::from(was_there);
        was_there
    }

    /// Takes the first task of the classes that `is_fit` accepts.
    pub(super) fn next(&mut self, is_fit: impl Fn(&Class) -> bool) -> Option<Ticket> {
        let fit = self.classes.iter_mut().filter(|(class, _)| is_fit(class));
        let first =
            fit.min_by_key(|(_, waiting)| waiting.first_key_value().map(|(place, _)| *place));
        let (class, waiting) = first?;
        let (_, ticket) = waiting.pop_first()?;
        self.len -= 1;
        if waiting.is_empty() {
            let class = class.clone();
            self.classes.remove(&class);
        }
        Some(ticket)
    }

    /// Takes all tasks of the classes that `is_over` accepts.
    pub(super) fn drain(&mut self, is_over: impl Fn(&Class) -> bool) -> Vec<Ticket> {
        let over = self.classes.extract_if(|class, _| is_over(class));
        let tickets: Vec<_> = over
            .flat_map(|(_, waiting)| waiting.into_values())
            .collect();
        self.len -= tickets.len();
        tickets
    }
}
