use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use super::{AgentId, AgentState, Class, record::Record};
use crate::delegate::Agent;

/// The agents that a task may go to by its own settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::delegate::orchestrator) enum Need {
    Any,
    Capability(Arc<str>),
    /// The agent of this name.
    Agent(Arc<str>),
}

/// The registered agents, by what tasks ask for.
#[derive(Default)]
pub(super) struct Candidates {
    agents: BTreeMap<AgentId, Entry>,
    by_name: HashMap<Arc<str>, AgentId>,
    by_capability: HashMap<Arc<str>, Vec<AgentId>>,
    /// The registered ones, without those that only finish their attempts.
    all: Vec<AgentId>,
    next: AgentId,
}

pub(super) struct Entry {
    id: AgentId,
    agent: Agent,
    in_flight: usize,
    record: Record,
    is_registered: bool,
}

impl Entry {
    fn has_room(&self) -> bool {
        self.in_flight < self.agent.max_concurrent()
    }

    /// Returns `true` if the agent may do tasks of this class.
    pub(super) fn may_do(&self, class: &Class) -> bool {
        let is_needed = match &class.need {
            Need::Any => true,
            Need::Agent(name) => name == self.agent.name(),
            Need::Capability(capability) => self.agent.capabilities().contains(capability),
        };
        is_needed && self.is_admitted(class)
    }

    fn is_admitted(&self, class: &Class) -> bool {
        !class.excluded.contains(&self.id) && !class.visited.contains(self.agent.name())
    }

    /// Compares two agents with room: the better choice is less.
    fn compare(&self, other: &Self) -> Ordering {
        let load = |entry: &Self| entry.in_flight as u64;
        let most = |entry: &Self| entry.agent.max_concurrent() as u64;
        // The fractions in flight / limit, without division.
        let own = load(self).saturating_mul(most(other));
        let others = load(other).saturating_mul(most(self));
        own.cmp(&others)
            .then_with(|| {
                let failed = |entry: &Self| entry.record.failed_tenths();
                failed(self).cmp(&failed(other))
            })
            .then_with(|| other.agent.priority().cmp(&self.agent.priority()))
            .then_with(|| self.agent.cost().total_cmp(&other.agent.cost()))
            .then_with(|| self.record.latency.total_cmp(&other.record.latency))
    }
}

impl Candidates {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<AgentId> {
        self.by_name.get(name).copied()
    }

    pub(super) fn named(&self, name: &str) -> Option<Agent> {
        let entry = self.agents.get(&self.find(name)?)?;
        Some(entry.agent.clone())
    }

    pub(super) fn add(&mut self, agent: Agent) -> AgentId {
        let id = self.next;
        self.next += 1;
        self.by_name.insert(agent.name().clone(), id);
        for capability in agent.capabilities() {
            let ids = self.by_capability.entry(capability.clone()).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        self.all.push(id);
        let entry = Entry {
            id,
            agent,
            in_flight: 0,
            record: Record::default(),
            is_registered: true,
        };
        self.agents.insert(id, entry);
        id
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Agent> {
        let id = self.by_name.remove(name)?;
        let entry = self.agents.get_mut(&id)?;
        entry.is_registered = false;
        let agent = entry.agent.clone();
        if entry.in_flight == 0 {
            self.agents.remove(&id);
        }
        self.all.retain(|other| *other != id);
        for capability in agent.capabilities() {
            if let Some(ids) = self.by_capability.get_mut(capability) {
                ids.retain(|other| *other != id);
                if ids.is_empty() {
                    self.by_capability.remove(capability);
                }
            }
        }
        Some(agent)
    }

    pub(super) fn states(&self) -> Vec<AgentState> {
        let entries = self.all.iter().filter_map(|id| self.agents.get(id));
        entries
            .map(|entry| AgentState {
                agent: entry.agent.clone(),
                in_flight: entry.in_flight,
                record: entry.record,
            })
            .collect()
    }

    /// Returns the agents that have what the class needs, also those that it excludes.
    fn needed(&self, need: &Need) -> impl Iterator<Item = &Entry> {
        let ids: &[AgentId] = match need {
            Need::Any => &self.all,
            Need::Capability(capability) => self
                .by_capability
                .get(capability)
                .map_or(&[], Vec::as_slice),
            Need::Agent(name) => {
                let id = self.by_name.get(name);
                id.map_or(&[], std::slice::from_ref)
            }
        };
        ids.iter().filter_map(|id| self.agents.get(id))
    }

    pub(super) fn has(&self, class: &Class) -> bool {
        self.needed(&class.need)
            .any(|entry| entry.is_admitted(class))
    }

    /// Returns the best agent with room, or `None` if all are full.
    ///
    /// # Errors
    ///
    /// Returns the reason if there is no agent for the class.
    pub(super) fn choose(&self, class: &Class) -> Result<Option<AgentId>, String> {
        let mut has_candidate = false;
        let mut best: Option<&Entry> = None;
        for entry in self.needed(&class.need) {
            if !entry.is_admitted(class) {
                continue;
            }
            has_candidate = true;
            let is_better = || best.is_none_or(|best| entry.compare(best).is_lt());
            if entry.has_room() && is_better() {
                best = Some(entry);
            }
        }
        match has_candidate {
            true => Ok(best.map(|entry| entry.id)),
            false => Err(self.reason(class)),
        }
    }

    /// Returns the reason why there is no agent for the class.
    fn reason(&self, class: &Class) -> String {
        let visited = self
            .needed(&class.need)
            .find(|entry| class.visited.contains(entry.agent.name()));
        if let Some(visited) = visited {
            let name = visited.agent.name();
            return format!(
                "the task would go to agent `{name}`, which it comes from; do it without another \
                 agent"
            );
        }
        if self.needed(&class.need).next().is_some() {
            return "all agents that could do the task have declined it".to_owned();
        }
        match &class.need {
            Need::Any => "no agent is registered; register one".to_owned(),
            Need::Capability(capability) => format!(
                "no registered agent has the capability `{capability}`; use one of those that \
                 `list_agents` shows"
            ),
            Need::Agent(name) => format!(
                "no agent `{name}` is registered; use one of those that `list_agents` shows"
            ),
        }
    }

    /// Returns an agent if it is registered and has room.
    pub(super) fn with_room(&self, id: AgentId) -> Option<&Entry> {
        let entry = self.agents.get(&id)?;
        (entry.is_registered && entry.has_room()).then_some(entry)
    }

    pub(super) fn occupy(&mut self, id: AgentId) -> Option<Agent> {
        let entry = self.agents.get_mut(&id)?;
        entry.in_flight += 1;
        Some(entry.agent.clone())
    }

    /// Frees a place, and records how its attempt has ended.
    pub(super) fn release(&mut self, id: AgentId, ran: Option<(bool, Duration)>) {
        let Some(entry) = self.agents.get_mut(&id) else {
            return;
        };
        entry.in_flight = entry.in_flight.saturating_sub(1);
        if let Some((succeeded, took)) = ran {
            entry.record.add(succeeded, took);
        }
        if !entry.is_registered && entry.in_flight == 0 {
            self.agents.remove(&id);
        }
    }
}
