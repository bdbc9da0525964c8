/// The end of the list.
const NONE: u32 = u32::MAX;

/// The tasks of a plan in the order of their last changes. A reader that knows all changes up to
/// some version finds the tasks that have changed since without looking at the others.
pub(super) struct LastChanges {
    links: Vec<Link>,
    /// The task that has changed last.
    last: u32,
    version: u64,
}

#[derive(Clone)]
struct Link {
    before: u32,
    after: u32,
    version: u64,
}

impl LastChanges {
    /// Creates the list of tasks that have not changed.
    pub(super) fn new(tasks: usize) -> Self {
        let link = Link {
            before: NONE,
            after: NONE,
            version: 0,
        };
        Self {
            links: vec![link; tasks],
            last: NONE,
            version: 0,
        }
    }

    /// Returns the number of changes so far.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Counts a change that is of no task.
    pub(super) fn count(&mut self) {
        self.version += 1;
    }

    pub(super) fn add(&mut self, task: u32) {
        self.version += 1;
        if self.last != task {
            let Link { before, after, .. } = self.links[task as usize];
            if before != NONE {
                self.links[before as usize].after = after;
            }
            if after != NONE {
                self.links[after as usize].before = before;
            }
            if self.last != NONE {
                self.links[self.last as usize].after = task;
            }
            let link = &mut self.links[task as usize];
            (link.before, link.after) = (self.last, NONE);
            self.last = task;
        }
        self.links[task as usize].version = self.version;
    }

    /// Returns the tasks that have changed after a version, in the order of their last changes.
    pub(super) fn since(&self, version: u64) -> Vec<u32> {
        let mut changed = Vec::new();
        let mut task = self.last;
        while task != NONE && self.links[task as usize].version > version {
            changed.push(task);
            task = self.links[task as usize].before;
        }
        changed.reverse();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_is_in_the_list_once_at_its_last_change() {
        let mut changes = LastChanges::new(4);
        assert_eq!(changes.since(0), [0_u32; 0]);
        for task in [2, 0, 1, 0, 0, 2] {
            changes.add(task);
        }
        assert_eq!(changes.since(0), [1, 0, 2]);
        assert_eq!(changes.since(3), [0, 2]);
        assert_eq!(changes.since(changes.version()), [0_u32; 0]);
        changes.count();
        changes.add(1);
        assert_eq!(changes.since(5), [2, 1]);
        assert_eq!(changes.since(6), [1]);
    }
}
