use std::{
    collections::HashMap,
    fmt::{self, Write},
};

use super::{PlanSnapshot, PlanState, Status, TaskSnapshot};

/// Maximum depth that is shown by indentation. Deeper tasks have the indentation of this depth.
const MAX_DEPTH: usize = 24;
/// Maximum length of an error in the tree, in characters.
const MAX_ERROR: usize = 80;

/// Prints a plan as a tree: each task once, below the last of its dependencies.
pub(super) fn print(plan: &PlanSnapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "plan {}: {}", plan.id, Counts(plan))?;
    match &plan.state {
        PlanState::Running | PlanState::Ended => {}
        PlanState::Stopping(reason) => write!(f, "; stopping: {reason}")?,
        PlanState::Stopped(reason) => write!(f, "; stopped: {reason}")?,
        PlanState::Released(reason) => write!(f, "; not run here: {reason}")?,
    }
    let index: HashMap<&str, usize> = (0..)
        .zip(&plan.tasks)
        .map(|(n, task)| (&*task.id, n))
        .collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); plan.tasks.len()];
    let mut roots = Vec::new();
    for (number, task) in plan.tasks.iter().enumerate() {
        match task.after.last().and_then(|id| index.get(&**id)) {
            Some(parent) => children[*parent].push(number),
            None => roots.push(number),
        }
    }
    // The lines to print, the next one last: the task, and for each level whether more follow it.
    let mut next: Vec<(usize, Vec<bool>)> = Vec::new();
    let push = |next: &mut Vec<_>, tasks: &[usize], above: &[bool]| {
        for (place, task) in tasks.iter().enumerate().rev() {
            let mut levels = above.to_vec();
            levels.truncate(MAX_DEPTH);
            levels.push(place + 1 < tasks.len());
            next.push((*task, levels));
        }
    };
    push(&mut next, &roots, &[]);
    while let Some((task, levels)) = next.pop() {
        f.write_char('\n')?;
        let (last, above) = levels.split_last().unwrap_or((&false, &[]));
        for more in above {
            f.write_str(if *more { "│  " } else { "   " })?;
        }
        f.write_str(if *last { "├─ " } else { "└─ " })?;
        line(&plan.tasks[task], f)?;
        push(&mut next, &children[task], &levels);
    }
    Ok(())
}

fn line(task: &TaskSnapshot, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}: {}", task.id, task.status)?;
    let name = |f: &mut fmt::Formatter<'_>| match &task.agent {
        Some(agent) => write!(f, " ({agent})"),
        None => Ok(()),
    };
    name(f)?;
    if task.attempts > 1 {
        write!(f, ", attempt {}", task.attempts)?;
    }
    if let Some((_, others)) = task.after.split_last()
        && !others.is_empty()
    {
        write!(f, ", also after {}", others.join(", "))?;
    }
    if let (Some(progress), Status::Running) = (&task.progress, task.status) {
        write!(f, ", {}", progress.done)?;
        if let Some(total) = progress.total {
            write!(f, " of {total}")?;
        }
    }
    if let Some(error) = &task.error
        && task.status != Status::Complete
    {
        let first = error.lines().next().unwrap_or_default();
        // An agent has written it, and it may go to a terminal.
        let plain = first.chars().filter(|char| !char.is_control());
        let mut shown: String = plain.take(MAX_ERROR).collect();
        if shown.len() < error.len() {
            shown.push('…');
        }
        write!(f, ": {shown}")?;
    }
    Ok(())
}

/// The numbers of tasks by status, such as `2 of 4 complete, 1 running`.
struct Counts<'a>(&'a PlanSnapshot);

impl fmt::Display for Counts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.0;
        let (complete, all) = (plan.count(Status::Complete), plan.tasks.len());
        write!(f, "{complete} of {all} complete")?;
        let others = Status::ALL
            .into_iter()
            .filter(|status| *status != Status::Complete);
        for status in others {
            match plan.count(status) {
                0 => {}
                count => write!(f, ", {count} {status}")?,
            }
        }
        Ok(())
    }
}
