//! The agents of an orchestrator, and the tasks that wait for one of them.
//!
//! A task waits only if all its candidates are full. So when an agent has room, the next task for
//! it is the first of those that wait for it, and no other agent has room for that task.

mod candidates;
mod queue;
mod record;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use self::{
    candidates::Candidates,
    queue::{Queue, Ticket},
    record::Record,
};
pub(super) use self::{candidates::Need, queue::Place};
use super::driver::Event;
use crate::{delegate::Agent, util::lock};

/// The number of an agent, which another one of its name does not share.
pub(super) type AgentId = u64;

/// The agents that may do a task.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Class {
    pub(super) need: Need,
    /// The agents that have declined it, in order.
    pub(super) excluded: Vec<AgentId>,
    /// The names of the agents that the delegation has been at.
    pub(super) visited: Arc<[Arc<str>]>,
}

/// The answer to a request for an agent.
pub(super) enum Requested {
    /// There is one with room.
    Granted(Slot),
    /// All are full. An [`Event`] comes when one has room, or when there are none any more.
    Waiting(Place),
    /// There is none, for this reason.
    Unavailable(String),
    /// All are full, and so is the queue.
    QueueFull(usize),
}

pub(super) struct Dispatcher {
    state: Mutex<State>,
    max_waiting: usize,
    max_agents: usize,
}

#[derive(Default)]
struct State {
    candidates: Candidates,
    queue: Queue,
}

/// A place at an agent for one attempt. It is free again when it is dropped.
pub(super) struct Slot {
    dispatcher: Arc<Dispatcher>,
    pub(super) id: AgentId,
    pub(super) agent: Agent,
    since: Instant,
    /// `true` if the attempt has succeeded, once that is known.
    pub(super) succeeded: Option<bool>,
}

/// An agent as an operator sees it.
pub(super) struct AgentState {
    pub(super) agent: Agent,
    pub(super) in_flight: usize,
    pub(super) record: Record,
}

impl Dispatcher {
    pub(super) fn new(max_agents: usize, max_waiting: usize) -> Self {
        Self {
            state: Mutex::default(),
            max_waiting,
            max_agents,
        }
    }

    /// Adds an agent, and gives it the tasks that wait for one such.
    pub(super) fn register(self: &Arc<Self>, agent: Agent) -> Result<(), NotRegistered> {
        let (granted, _) = {
            let state = &mut *lock(&self.state);
            if state.candidates.find(agent.name()).is_some() {
                return Err(NotRegistered::NameTaken);
            }
            if state.candidates.len() >= self.max_agents {
                return Err(NotRegistered::TooMany(self.max_agents));
            }
            let id = state.candidates.add(agent);
            (self.fill(state, id), ())
        };
        deliver(granted);
        Ok(())
    }

    /// Removes an agent. Its attempts go on to their end. Returns the agent if there was one.
    pub(super) fn unregister(&self, name: &str) -> Option<Agent> {
        let (agent, stranded) = {
            let state = &mut *lock(&self.state);
            let agent = state.candidates.remove(name)?;
            let candidates = &state.candidates;
            let stranded = state.queue.drain(|class| !candidates.has(class));
            (agent, stranded)
        };
        for ticket in stranded {
            let _ = ticket
                .plan
                .send(Event::Unavailable(ticket.task, ticket.request));
        }
        Some(agent)
    }

    /// Returns the agents, in the order of their registration.
    pub(super) fn agents(&self) -> Vec<AgentState> {
        lock(&self.state).candidates.states()
    }

    /// Returns the registered agent of this name.
    pub(super) fn agent(&self, name: &str) -> Option<Agent> {
        lock(&self.state).candidates.named(name)
    }

    /// Returns the number of tasks that wait for an agent.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.state).queue.len()
    }

    /// Returns `true` if an agent other than these may do the task.
    pub(super) fn has_candidate(&self, class: &Class) -> bool {
        lock(&self.state).candidates.has(class)
    }

    /// Asks for an agent for a task. `age` is the task's place among those of its priority, if it
    /// has waited before. `request` comes back with an event.
    pub(super) fn request(
        self: &Arc<Self>,
        class: &Class,
        priority: i32,
        age: Option<u64>,
        (plan, task, request): (&UnboundedSender<Event>, u32, u32),
    ) -> (Requested, u64) {
        let state = &mut *lock(&self.state);
        let age = age.unwrap_or_else(|| state.queue.next_age());
        let requested = match state.candidates.choose(class) {
            Ok(Some(id)) => match self.slot(state, id) {
                Some(slot) => Requested::Granted(slot),
                None => Requested::Unavailable("the agent is gone".to_owned()),
            },
            Ok(None) if state.queue.len() >= self.max_waiting => {
                Requested::QueueFull(self.max_waiting)
            }
            Ok(None) => {
                let place = Place::new(priority, age);
                let plan = plan.clone();
                let ticket = Ticket {
                    plan,
                    task,
                    request,
                };
                state.queue.add(class, place, ticket);
                Requested::Waiting(place)
            }
            Err(reason) => Requested::Unavailable(reason),
        };
        (requested, age)
    }

    /// Takes a task out of the queue. Returns `false` if it is no longer there: an agent has been
    /// granted to it, or there is none any more.
    pub(super) fn withdraw(&self, class: &Class, place: Place) -> bool {
        lock(&self.state).queue.remove(class, place)
    }

    fn slot(self: &Arc<Self>, state: &mut State, id: AgentId) -> Option<Slot> {
        let agent = state.candidates.occupy(id)?;
        Some(Slot {
            dispatcher: self.clone(),
            id,
            agent,
            since: Instant::now(),
            succeeded: None,
        })
    }

    /// Gives the room of an agent to the tasks that wait for it.
    fn fill(self: &Arc<Self>, state: &mut State, id: AgentId) -> Vec<(Ticket, Slot)> {
        let mut granted = Vec::new();
        while let Some(agent) = state.candidates.with_room(id) {
            let visits = |class: &Class| agent.may_do(class);
            let Some(ticket) = state.queue.next(visits) else {
                break;
            };
            let Some(slot) = self.slot(state, id) else {
                break;
            };
            granted.push((ticket, slot));
        }
        granted
    }

    fn release(self: &Arc<Self>, slot: &Slot) {
        let granted = {
            let state = &mut *lock(&self.state);
            let ran = slot
                .succeeded
                .map(|succeeded| (succeeded, slot.since.elapsed()));
            state.candidates.release(slot.id, ran);
            self.fill(state, slot.id)
        };
        deliver(granted);
    }
}

/// Tells plans of their agents, outside of the lock: a plan that has gone gives its slot back.
fn deliver(granted: Vec<(Ticket, Slot)>) {
    for (ticket, slot) in granted {
        let event = Event::Granted {
            task: ticket.task,
            request: ticket.request,
            slot,
        };
        let _ = ticket.plan.send(event);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let dispatcher = self.dispatcher.clone();
        dispatcher.release(self);
    }
}

/// The reason why an agent is not registered.
#[derive(Debug)]
pub(super) enum NotRegistered {
    NameTaken,
    TooMany(usize),
}
