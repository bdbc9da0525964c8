use std::time::Duration;

use super::*;

const BOUNDS: PlanBounds = PlanBounds {
    max_tasks: 5,
    max_chain: 3,
};

fn task(id: &str) -> Task {
    Task::new(id, "do it")
}

fn error(tasks: impl IntoIterator<Item = Task>) -> String {
    let error = Graph::of(&Plan::new(tasks), BOUNDS).unwrap_err();
    error.to_string()
}

#[test]
fn a_plan_that_cannot_work_is_refused_by_the_input_and_its_remedy() {
    for (tasks, says) in [
        (vec![], "no tasks; give at least one"),
        (
            (0..6).map(|n| task(&n.to_string())).collect(),
            "has 6 tasks; give at most 5",
        ),
        (
            vec![task("a"), task("a")],
            "two tasks have the id `a`; give each",
        ),
        (
            vec![task("a").after(["b"])],
            "task `a` depends on `b`, which is not a task",
        ),
        (
            vec![task("a").follow_up_of("b")],
            "task `a` depends on `b`, which is not a task",
        ),
        (
            vec![
                task("a"),
                task("b").after(["a", "c"]),
                task("c").after(["d"]),
                task("d").after(["b"]),
            ],
            "each other: `b`, `c`, `d`; remove one",
        ),
        (vec![task("a").after(["a"])], "each other: `a`; remove one"),
        (
            vec![
                task("a"),
                task("b").after(["a"]),
                task("c").after(["b"]),
                task("d").after(["c"]),
            ],
            "a chain of dependencies has 4 tasks; give at most 3",
        ),
        (vec![task("")], "task ``: `id` must have 1 to 128 bytes"),
        (
            vec![Task::new("a", " ")],
            "task `a`: `description` is empty; say what",
        ),
        (vec![task("a").capability("")], "`capability` must have"),
        (
            vec![task("a").deadline(Duration::ZERO)],
            "`deadline` is zero; give",
        ),
        (vec![task("a").budget_share(1.5)], "at most 1"),
        (
            vec![task("a").budget_share(f64::NAN)],
            "`budget_share` must be more than 0",
        ),
        (
            vec![task("a").budget_share(0.6), task("b").budget_share(0.6)],
            "`budget_share` of all tasks together is more than 1",
        ),
        (
            vec![task("a").retries(Retries::at_most(101))],
            "`retries` are too many; give at most 100",
        ),
        (
            vec![task("a").thread("t")],
            "`thread` belongs to one agent; name it by `assigned_to`",
        ),
    ] {
        let error = error(tasks);
        assert!(error.contains(says), "{error}");
    }
    let plan = Plan::new([task("a")]).max_cost(-1.0);
    let error = Graph::of(&plan, BOUNDS).unwrap_err().to_string();
    assert!(error.contains("`max_cost` is not a number"), "{error}");
}

#[test]
fn dependencies_and_dependents_are_known_by_index() {
    let plan = Plan::new([
        task("a"),
        task("b").after(["a", "a"]),
        task("c").after(["a"]).follow_up_of("b"),
    ]);
    let graph = Graph::of(&plan, BOUNDS).unwrap();
    assert_eq!(graph.dependents(0), [1, 2]);
    assert_eq!(graph.dependencies(1), [0]);
    assert_eq!(graph.dependencies(2), [0, 1]);
    assert_eq!((graph.find("c"), graph.find("d")), (Some(2), None));
}

#[test]
fn retries_are_limited_and_wait_as_long_as_the_agent_asks() {
    let retries = Retries::at_most(2).base_delay(Duration::from_secs(4));
    for (failed, asked_for, from, to) in [(1, None, 2, 4), (2, None, 4, 8), (1, Some(20), 20, 20)] {
        let delay = retries.delay(failed, asked_for.map(Duration::from_secs));
        let delay = delay.unwrap();
        assert!(delay >= Duration::from_secs(from) && delay <= Duration::from_secs(to));
    }
    assert_eq!(retries.delay(3, None), None);
    assert_eq!(retries.delay(1, Some(Duration::from_secs(31))), None);
}
