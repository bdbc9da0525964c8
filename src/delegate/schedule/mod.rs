//! The state machine of one plan: which task may start, and what the end of one means for others.
//!
//! It knows neither agents nor time. Each transition costs the number of tasks that it changes.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::plan::{Graph, OnFailure, Status};

/// A change of the status of a task that follows from the end of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) task: u32,
    pub(super) to: Status,
    /// The task whose end is the cause.
    pub(super) because: u32,
}

struct Node {
    status: Status,
    on_failure: OnFailure,
    /// The number of dependencies that have not ended.
    waiting_for: u32,
}

/// The statuses of the tasks of a plan.
pub(super) struct Schedule {
    graph: Arc<Graph>,
    nodes: Vec<Node>,
    counts: [u32; Status::ALL.len()],
}

impl Schedule {
    /// Creates the schedule of a plan that has not begun. Tasks without dependencies are ready.
    pub(super) fn new(graph: Arc<Graph>, on_failure: impl Iterator<Item = OnFailure>) -> Self {
        let mut schedule = Self {
            nodes: Vec::with_capacity(graph.len()),
            counts: [0; Status::ALL.len()],
            graph,
        };
        for (task, on_failure) in (0_u32..).zip(on_failure) {
            let waiting_for = schedule.graph.dependencies(task).len() as u32;
            let status = match waiting_for {
                0 => Status::Ready,
                _ => Status::Pending,
            };
            schedule.counts[status as usize] += 1;
            schedule.nodes.push(Node {
                status,
                on_failure,
                waiting_for,
            });
        }
        schedule
    }

    pub(super) fn status(&self, task: u32) -> Status {
        self.nodes[task as usize].status
    }

    /// Returns the number of tasks with this status.
    pub(super) fn count(&self, status: Status) -> usize {
        self.counts[status as usize] as usize
    }

    /// Returns the number of tasks that have not ended.
    pub(super) fn unfinished(&self) -> usize {
        let ended = Status::ALL
            .into_iter()
            .filter(|status| status.is_terminal());
        self.nodes.len() - ended.map(|status| self.count(status)).sum::<usize>()
    }

    /// Returns the tasks with this status, in the order of the plan.
    pub(super) fn with(&self, status: Status) -> impl Iterator<Item = u32> {
        let nodes = (0_u32..).zip(&self.nodes);
        nodes
            .filter(move |(_, node)| node.status == status)
            .map(|(task, _)| task)
    }

    /// Starts a task that is ready. Returns `false` and changes nothing otherwise.
    #[must_use]
    pub(super) fn start(&mut self, task: u32) -> bool {
        self.change(task, Status::Ready, Status::Running)
    }

    /// Lets a running task wait for input. Returns `false` and changes nothing otherwise.
    #[must_use]
    pub(super) fn wait_for_input(&mut self, task: u32) -> bool {
        self.change(task, Status::Running, Status::InputRequired)
    }

    /// Lets a task go on that waits for input. Returns `false` and changes nothing otherwise.
    #[must_use]
    pub(super) fn go_on(&mut self, task: u32) -> bool {
        self.change(task, Status::InputRequired, Status::Running)
    }

    /// Makes a running task ready again, for another attempt. Returns `false` and changes nothing
    /// otherwise.
    #[must_use]
    pub(super) fn put_back(&mut self, task: u32) -> bool {
        self.change(task, Status::Running, Status::Ready)
            || self.change(task, Status::InputRequired, Status::Ready)
    }

    /// Ends a task, and adds to `changes` the tasks that are ready or have ended because of it.
    /// Returns `false` and changes nothing if it has ended before.
    #[must_use]
    pub(super) fn end(&mut self, task: u32, status: Status, changes: &mut Vec<Change>) -> bool {
        debug_assert!(status.is_terminal());
        let first = changes.len();
        if self.status(task).is_terminal() {
            return false;
        }
        self.set(task, status);
        self.pass_on(task, status, changes);
        // Tasks that have ended because of it have dependents too.
        let mut next = first;
        while let Some(change) = changes.get(next).copied() {
            next += 1;
            if change.to.is_terminal() {
                self.pass_on(change.task, change.to, changes);
            }
        }
        true
    }

    /// Changes the dependents of a task that has ended.
    fn pass_on(&mut self, task: u32, status: Status, changes: &mut Vec<Change>) {
        let graph = self.graph.clone();
        let on_failure = self.nodes[task as usize].on_failure;
        let instead = match (status, on_failure) {
            (Status::Complete, _) | (_, OnFailure::Continue) => None,
            (Status::Skipped, _) | (_, OnFailure::SkipDependents) => Some(Status::Skipped),
            (Status::Cancelled, OnFailure::FailDependents) => Some(Status::Cancelled),
            (_, OnFailure::FailDependents) => Some(Status::Failed),
        };
        for &dependent in graph.dependents(task) {
            let node = &mut self.nodes[dependent as usize];
            node.waiting_for = node.waiting_for.saturating_sub(1);
            if node.status != Status::Pending {
                continue;
            }
            let to = match instead {
                Some(status) => status,
                None if node.waiting_for == 0 => Status::Ready,
                None => continue,
            };
            self.set(dependent, to);
            changes.push(Change {
                task: dependent,
                to,
                because: task,
            });
        }
    }

    fn change(&mut self, task: u32, from: Status, to: Status) -> bool {
        let is_possible = self.status(task) == from;
        if is_possible {
            self.set(task, to);
        }
        is_possible
    }

    fn set(&mut self, task: u32, to: Status) {
        let node = &mut self.nodes[task as usize];
        self.counts[node.status as usize] -= 1;
        self.counts[to as usize] += 1;
        node.status = to;
    }
}
