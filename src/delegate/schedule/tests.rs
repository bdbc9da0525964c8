use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::delegate::plan::{Plan, PlanBounds, Task};

const BOUNDS: PlanBounds = PlanBounds {
    max_tasks: 1_000,
    max_chain: 1_000,
};

fn schedule(plan: &Plan) -> Schedule {
    let graph = Arc::new(Graph::of(plan, BOUNDS).unwrap());
    Schedule::new(graph, plan.tasks.iter().map(|task| task.on_failure))
}

fn diamond(on_failure: OnFailure) -> Schedule {
    schedule(&Plan::new([
        Task::new("a", "a").on_failure(on_failure),
        Task::new("b", "b").after(["a"]),
        Task::new("c", "c").after(["a"]),
        Task::new("d", "d").after(["b", "c"]),
    ]))
}

#[test]
fn a_task_is_ready_when_its_own_dependencies_are_done() {
    let mut diamond = diamond(OnFailure::default());
    let mut changes = Vec::new();
    assert_eq!(diamond.with(Status::Ready).collect::<Vec<_>>(), [0]);
    assert!(diamond.start(0) && !diamond.start(0) && !diamond.start(1));
    assert!(diamond.end(0, Status::Complete, &mut changes));
    assert!(!diamond.end(0, Status::Failed, &mut changes));
    assert_eq!(diamond.with(Status::Ready).collect::<Vec<_>>(), [1, 2]);
    assert!(diamond.start(2) && diamond.end(2, Status::Complete, &mut changes));
    assert_eq!(diamond.status(3), Status::Pending);
    assert!(diamond.start(1) && diamond.wait_for_input(1) && diamond.go_on(1));
    assert!(diamond.put_back(1) && diamond.start(1));
    assert!(diamond.end(1, Status::Complete, &mut changes));
    let made_ready = changes.iter().map(|change| (change.task, change.because));
    assert_eq!(made_ready.collect::<Vec<_>>(), [(1, 0), (2, 0), (3, 1)]);
    assert_eq!(diamond.unfinished(), 1);
}

#[test]
fn the_end_of_dependents_follows_from_the_policy_of_the_task_that_fails() {
    for (on_failure, end, expected) in [
        (OnFailure::FailDependents, Status::Failed, Status::Failed),
        (OnFailure::FailDependents, Status::Rejected, Status::Failed),
        (
            OnFailure::FailDependents,
            Status::Cancelled,
            Status::Cancelled,
        ),
        (OnFailure::SkipDependents, Status::Failed, Status::Skipped),
        (OnFailure::Continue, Status::Failed, Status::Ready),
    ] {
        let mut diamond = diamond(on_failure);
        let mut changes = Vec::new();
        assert!(diamond.start(0) && diamond.end(0, end, &mut changes));
        assert_eq!(diamond.status(1), expected);
        let last = match expected {
            Status::Ready => Status::Pending,
            ended => ended,
        };
        assert_eq!(diamond.status(3), last, "{on_failure:?}");
    }
}

#[derive(Clone, Debug)]
struct Random {
    /// For each task: the dependencies among the tasks before it, and the policy.
    tasks: Vec<(Vec<prop::sample::Index>, u8)>,
    steps: Vec<(prop::sample::Index, u8)>,
}

fn random() -> impl Strategy<Value = Random> {
    let task = (
        prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        0..3_u8,
    );
    let tasks = prop::collection::vec(task, 1..=200);
    let steps = prop::collection::vec((any::<prop::sample::Index>(), 0..8_u8), 2_000);
    (tasks, steps).prop_map(|(tasks, steps)| Random { tasks, steps })
}

fn plan(random: &Random) -> Plan {
    Plan::new(random.tasks.iter().enumerate().map(|(number, task)| {
        let (after, policy) = task;
        let after = after.iter().filter(|_| number > 0);
        let after: BTreeSet<_> = after.map(|index| index.index(number)).collect();
        Task::new(number.to_string(), "do it")
            .after(after.into_iter().map(|task| task.to_string()))
            .on_failure(match policy {
                0 => OnFailure::FailDependents,
                1 => OnFailure::SkipDependents,
                _ => OnFailure::Continue,
            })
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_order_of_events_ends_each_task_once_and_after_its_dependencies(random in random()) {
        let plan = plan(&random);
        let mut schedule = schedule(&plan);
        let mut ends = vec![0; plan.tasks.len()];
        let mut ready: Vec<u32> = schedule.with(Status::Ready).collect();
        let mut running = Vec::new();
        let mut changes = Vec::new();
        for (pick, action) in random.steps.iter().cycle() {
            if schedule.unfinished() == 0 {
                break;
            }
            changes.clear();
            let start = action % 2 == 0 || running.is_empty();
            if start && !ready.is_empty() {
                let task = ready.swap_remove(pick.index(ready.len()));
                let is_started = schedule.start(task);
                prop_assert!(is_started);
                for dependency in schedule.graph.dependencies(task) {
                    prop_assert!(schedule.status(*dependency).is_terminal());
                }
                running.push(task);
            } else if *action == 7 {
                // Cancellation of any task, at any time.
                let task = pick.index(plan.tasks.len()) as u32;
                let was_ended = schedule.status(task).is_terminal();
                let is_ended = schedule.end(task, Status::Cancelled, &mut changes);
                prop_assert_eq!(is_ended, !was_ended);
                ends[task as usize] += usize::from(is_ended);
                ready.retain(|ready| *ready != task);
                running.retain(|running| *running != task);
            } else if !running.is_empty() {
                let place = pick.index(running.len());
                let task = running[place];
                let end = match action {
                    1 => {
                        running.swap_remove(place);
                        prop_assert!(schedule.put_back(task));
                        ready.push(task);
                        continue;
                    }
                    3 => Status::Failed,
                    _ => Status::Complete,
                };
                running.swap_remove(place);
                prop_assert!(schedule.end(task, end, &mut changes));
                ends[task as usize] += 1;
            }
            for change in &changes {
                match change.to {
                    Status::Ready => ready.push(change.task),
                    _ => ends[change.task as usize] += 1,
                }
            }
        }
        prop_assert_eq!(schedule.unfinished(), 0);
        prop_assert!(ends.iter().all(|count| *count == 1), "{:?}", ends);
    }
}
