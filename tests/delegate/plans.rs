//! Plans, from their submission to their end.

use std::time::Duration;

use futures::StreamExt;
use rmcp_layers::{
    CallContext, Principal,
    delegate::{AnswerError, OnFailure, Orchestrator, Plan, PlanError, PlanState, Retries, Status},
};
use serde_json::json;

use crate::desk::*;

fn retries(max: u32) -> Retries {
    Retries::at_most(max).base_delay(Duration::from_millis(10))
}

#[tokio::test]
async fn a_task_gets_the_results_of_its_dependencies_and_starts_when_they_are_done() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new([
        task("fetch", "say rmcp 3.11"),
        task("slow", "gated"),
        task("write", "").context("Be brief.").after(["fetch"]),
    ]);
    assert!(matches!(
        orchestrator.run_plan(plan),
        Err(PlanError::InvalidOption {
            option: "description",
            ..
        })
    ));
    let plan = Plan::new([
        task("fetch", "say rmcp 3.11"),
        task("slow", "gated"),
        task("write", "wait 1")
            .context("Be brief.")
            .after(["fetch"]),
    ]);
    let handle = orchestrator.run_plan(plan).unwrap();
    // It does not wait for the slow one, which depends on nothing either.
    desk.events.until("ended write").await;
    desk.gate.send_replace(true);
    let end = ended(&handle).await;
    assert!(end.is_complete() && end.state == PlanState::Ended, "{end}");
    let write = end.task("write").unwrap();
    let context = &write.output.as_ref().unwrap().answer;
    assert_eq!(context, "Be brief.\n\nResult of task `fetch`:\nrmcp 3.11");
    assert_eq!(write.agent.as_deref(), Some("a"));
    assert!(write.started_after >= write.ready_after && write.ended_after >= write.started_after);
}

#[tokio::test]
async fn an_agent_never_has_more_tasks_than_it_may() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new((0..12).map(|n| task(&n.to_string(), "gated")));
    let handle = orchestrator.run_plan(plan).unwrap();
    desk.events.until("begun 2").await;
    assert_eq!(orchestrator.waiting(), 9);
    assert_eq!(orchestrator.agents()[0].in_flight, 3);
    assert_eq!(handle.snapshot().count(Status::Running), 3);
    desk.gate.send_replace(true);
    assert!(ended(&handle).await.is_complete());
    assert_eq!(desk.most(), 3);
    assert_eq!(
        (orchestrator.waiting(), orchestrator.agents()[0].in_flight),
        (0, 0)
    );
}

#[tokio::test]
async fn a_failed_task_has_the_effect_on_its_dependents_that_it_says() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    for (on_failure, expected) in [
        (
            OnFailure::FailDependents,
            "a failed, b failed, c failed, d complete",
        ),
        (
            OnFailure::SkipDependents,
            "a failed, b skipped, c skipped, d complete",
        ),
        (
            OnFailure::Continue,
            "a failed, b complete, c complete, d complete",
        ),
    ] {
        let plan = Plan::new([
            task("a", "fail").on_failure(on_failure),
            task("b", "wait 1").after(["a"]),
            task("c", "say c").after(["b"]),
            task("d", "say d"),
        ]);
        let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
        assert_eq!(statuses(&end), expected);
        if on_failure == OnFailure::Continue {
            let context = &end.task("b").unwrap().output.as_ref().unwrap().answer;
            let says = "Task `a` was not completed (failed):\nagent `a`: the disk is full";
            assert_eq!(context, says);
        } else {
            let error = end.task("c").unwrap().error.clone().unwrap();
            assert!(error.contains("task `b`, which it depends on"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_failed_attempt_is_repeated_on_another_agent_and_an_ambiguous_one_is_not() {
    let (a, b) = (Desk::new("a"), Desk::new("b"));
    let orchestrator = one(&a).await;
    let plan = Plan::new([task("t", "once; fail; say done").retries(retries(2))]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    let again = end.task("t").unwrap();
    assert_eq!(
        (again.status, again.attempts),
        (Status::Complete, 2),
        "{end}"
    );

    orchestrator
        .register(b.agent().build().unwrap())
        .await
        .unwrap();
    let plan = Plan::new([task("u", "fail").retries(retries(2)).assigned_to("a")]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    assert_eq!((a.attempts("u"), b.attempts("u")), (3, 0), "{end}");
    let plan = Plan::new([task("v", "fail").retries(retries(2))]);
    ended(&orchestrator.run_plan(plan).unwrap()).await;
    assert!(a.attempts("v") > 0 && b.attempts("v") > 0);
    assert_eq!(a.attempts("v") + b.attempts("v"), 3);
}

#[tokio::test]
async fn an_agent_declines_and_another_one_does_the_task() {
    let (a, b) = (Desk::new("a"), Desk::new("b"));
    let orchestrator = Orchestrator::builder().build().unwrap();
    let first = a.agent().priority(1).build().unwrap();
    orchestrator.register(first).await.unwrap();
    let plan = Plan::new([task("t", "decline")]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    let declined = end.task("t").unwrap();
    assert_eq!(declined.status, Status::Rejected);
    let reason = declined.error.as_deref().unwrap();
    assert!(
        reason.contains("agent `a` has declined it: ") && reason.contains("not my trade"),
        "{reason}"
    );

    orchestrator
        .register(b.agent().build().unwrap())
        .await
        .unwrap();
    let plan = Plan::new([task("u", "decline")]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    assert_eq!(end.task("u").unwrap().status, Status::Rejected);
    assert_eq!((a.attempts("u"), b.attempts("u")), (1, 1));
}

#[tokio::test]
async fn a_plan_that_is_cancelled_cancels_its_agents_and_keeps_what_is_done() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new([
        task("done", "say done"),
        task("held", "gated").after(["done"]),
        task("after", "say no").after(["held"]),
    ]);
    let handle = orchestrator.run_plan(plan).unwrap();
    desk.events.until("begun held").await;
    handle.cancel();
    let end = ended(&handle).await;
    assert_eq!(
        statuses(&end),
        "done complete, held cancelled, after cancelled"
    );
    assert_eq!(
        end.state,
        PlanState::Stopped("the plan was cancelled".into())
    );
    desk.events.until("cancelled held").await;
    assert_eq!(orchestrator.agents()[0].in_flight, 0);
}

#[tokio::test]
async fn one_task_is_cancelled_alone_and_a_dropped_delegation_too() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let handle = orchestrator
        .run_plan(Plan::new([task("a", "gated"), task("b", "gated")]))
        .unwrap();
    desk.events.until("begun b").await;
    assert!(handle.cancel_task("a") && !handle.cancel_task("none"));
    desk.events.until("cancelled a").await;
    desk.gate.send_replace(true);
    assert_eq!(statuses(&ended(&handle).await), "a cancelled, b complete");
    assert!(!handle.cancel_task("a"));

    desk.gate.send_replace(false);
    let delegated = tokio::spawn({
        let orchestrator = orchestrator.clone();
        async move { orchestrator.delegate(task("c", "gated")).await }
    });
    desk.events.until("begun c").await;
    delegated.abort();
    desk.events.until("cancelled c").await;

    let ends = orchestrator
        .run_parallel([task("d", "say d"), task("e", "fail")])
        .await
        .unwrap();
    let statuses: Vec<_> = ends.iter().map(|end| end.status).collect();
    assert_eq!(statuses, [Status::Complete, Status::Failed]);
}

#[tokio::test]
async fn a_task_whose_deadline_passes_fails_and_its_agent_is_told() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new([
        task("late", "gated").deadline(Duration::from_millis(300)),
        task("other", "wait 1"),
    ]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    assert_eq!(statuses(&end), "late failed, other complete");
    desk.events.until("cancelled late").await;
    let plan = Plan::new([
        task("late", "gated"),
        task("next", "say no").after(["late"]),
    ])
    .max_time(Duration::from_millis(300));
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    assert_eq!(statuses(&end), "late cancelled, next cancelled");
    assert!(matches!(end.state, PlanState::Stopped(_)));
}

#[tokio::test]
async fn a_plan_stops_at_its_limits_of_tokens_and_cost_and_keeps_what_is_done() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let chain = || {
        Plan::new([
            task("a", "use 700; say a"),
            task("b", "use 700; say b").after(["a"]),
            task("c", "use 700; say c").after(["b"]),
        ])
    };
    let end = ended(&orchestrator.run_plan(chain().max_tokens(1_000)).unwrap()).await;
    assert_eq!(statuses(&end), "a complete, b complete, c cancelled");
    assert_eq!(end.tokens, 1_400);
    assert!(
        end.to_string().contains("has used 1400 of its 1000 tokens"),
        "{end}"
    );
    let end = ended(&orchestrator.run_plan(chain().max_cost(1.5)).unwrap()).await;
    assert_eq!(statuses(&end), "a complete, b cancelled, c cancelled");
    assert_eq!(end.cost, 1.0);
}

#[tokio::test]
async fn limits_travel_to_the_agent_and_shrink() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let mut context = CallContext::background();
    let delegation =
        json!({ "depth": 2, "visited": ["z"], "remainingMs": 60_000, "remainingTokens": 800 });
    context
        .meta
        .insert("rmcp-layers/delegation".to_owned(), delegation);
    let plan = Plan::new([task("t", "meta").budget_share(0.25), task("u", "meta")]);
    let end = ended(&orchestrator.run_plan_for(plan, &context).unwrap()).await;
    let sent = |task: &str| -> serde_json::Value {
        let output = end.task(task).unwrap().output.clone().unwrap();
        serde_json::from_str(&output.answer).unwrap()
    };
    let (t, u) = (sent("t"), sent("u"));
    assert_eq!(
        (&t["depth"], &t["visited"]),
        (&json!(3), &json!(["z", "a"]))
    );
    assert_eq!(
        (&t["remainingTokens"], &u["remainingTokens"]),
        (&json!(200), &json!(600))
    );
    let left = t["remainingMs"].as_u64().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn loops_and_long_chains_of_delegations_are_refused() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let mut context = CallContext::background();
    let mut from = |depth: u32, visited: &str| {
        let delegation = json!({ "depth": depth, "visited": [visited] });
        context
            .meta
            .insert("rmcp-layers/delegation".to_owned(), delegation);
        orchestrator.run_plan_for(Plan::new([task("t", "say t")]), &context)
    };
    let error = from(5, "z").unwrap_err().to_string();
    assert!(
        error.contains("5 delegations in a row, and 5 are allowed"),
        "{error}"
    );
    let end = ended(&from(4, "a").unwrap()).await;
    let failed = end.task("t").unwrap();
    assert_eq!(failed.status, Status::Failed);
    assert!(
        failed
            .error
            .as_ref()
            .unwrap()
            .contains("agent `a`, which it comes from")
    );
    assert!(ended(&from(4, "z").unwrap()).await.is_complete());
}

#[tokio::test]
async fn a_task_without_an_agent_fails_with_the_reason_and_one_that_waits_when_it_goes() {
    let desk = Desk::new("a");
    let orchestrator = Orchestrator::builder().build().unwrap();
    let code = desk
        .agent()
        .capability("code")
        .max_concurrent(1)
        .build()
        .unwrap();
    orchestrator.register(code).await.unwrap();
    let plan = Plan::new([
        task("music", "say la").capability("music"),
        task("b", "say b").assigned_to("b"),
    ]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    let error = |task: &str| end.task(task).unwrap().error.clone().unwrap();
    assert!(error("music").contains("the capability `music`"));
    assert!(error("b").contains("no agent `b` is registered"));

    let plan = Plan::new([
        task("runs", "gated").capability("code"),
        task("waits", "say no").capability("code"),
    ]);
    let handle = orchestrator.run_plan(plan).unwrap();
    desk.events.until("begun runs").await;
    assert!(orchestrator.unregister("a").is_some());
    desk.gate.send_replace(true);
    let end = ended(&handle).await;
    assert_eq!(statuses(&end), "runs complete, waits failed");
}

#[tokio::test]
async fn a_question_is_kept_until_its_answer_comes() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let handle = orchestrator
        .run_plan(Plan::new([task("t", "ask")]))
        .unwrap();
    let mut changes = Box::pin(handle.changes());
    let asked = loop {
        let task = changes.next().await.unwrap();
        if task.status == Status::InputRequired {
            break task;
        }
    };
    assert!(asked.questions.unwrap().contains_key("color"));
    let answer = |task, answers| handle.answer(task, answers);
    assert!(matches!(
        answer("x", blue()),
        Err(AnswerError::UnknownTask { .. })
    ));
    assert!(matches!(
        answer("t", Default::default()),
        Err(AnswerError::Incomplete { .. })
    ));
    answer("t", blue()).unwrap();
    assert!(matches!(
        answer("t", blue()),
        Err(AnswerError::NotWaiting { .. })
    ));
    let end = ended(&handle).await;
    assert_eq!(
        end.task("t").unwrap().output.as_ref().unwrap().answer,
        "\"blue\""
    );
    let rest: Vec<_> = changes.map(|task| task.status).collect().await;
    assert_eq!(rest.last(), Some(&Status::Complete));
}

#[tokio::test]
async fn a_follow_up_goes_to_the_same_agent_in_the_same_thread() {
    let (a, b) = (Desk::new("a"), Desk::new("b"));
    let orchestrator = one(&a).await;
    orchestrator
        .register(b.agent().priority(5).build().unwrap())
        .await
        .unwrap();
    let plan = Plan::new([
        task("first", "say 1").assigned_to("a"),
        task("second", "thread").follow_up_of("first"),
    ]);
    let end = ended(&orchestrator.run_plan(plan).unwrap()).await;
    let second = end.task("second").unwrap();
    assert_eq!(second.agent.as_deref(), Some("a"));
    assert_eq!(second.output.as_ref().unwrap().answer, "thread of first");
}

#[tokio::test]
async fn a_plan_is_found_by_its_caller_only_and_forgotten_when_it_is_old() {
    let desk = Desk::new("a");
    let orchestrator = Orchestrator::builder()
        .max_finished(1)
        .max_plans(1)
        .build()
        .unwrap();
    orchestrator
        .register(desk.agent().build().unwrap())
        .await
        .unwrap();
    let by = |name: &str| {
        let mut context = CallContext::background();
        context.set_principal(Principal::new(name));
        context
    };
    let one = || Plan::new([task("t", "gated")]);
    let first = orchestrator.run_plan_for(one(), &by("ann")).unwrap();
    let found = |name, plan: &rmcp_layers::delegate::PlanHandle| {
        orchestrator.find_plan(&by(name), plan.id()).is_some()
    };
    assert!(found("ann", &first) && !found("ben", &first));
    assert!(
        orchestrator
            .find_plan(&CallContext::background(), first.id())
            .is_none()
    );
    assert_eq!(
        (
            orchestrator.plans(&by("ann")).len(),
            orchestrator.plans(&by("ben")).len()
        ),
        (1, 0)
    );
    let full = orchestrator.run_plan(one()).unwrap_err();
    assert_eq!(full, PlanError::TooManyPlans { max: 1 });
    desk.gate.send_replace(true);
    ended(&first).await;
    assert!(found("ann", &first));
    let run = || async {
        loop {
            // The place of a plan is free just after its end is told.
            match orchestrator.run_plan_for(one(), &by("ann")) {
                Ok(plan) => break plan,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    ended(&run().await).await;
    ended(&run().await).await;
    assert!(!found("ann", &first));
}

#[tokio::test]
async fn a_reader_of_changes_never_misses_the_last_state_of_a_task() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new((0..20).map(|n| task(&n.to_string(), "say done")));
    let handle = orchestrator.run_plan(plan).unwrap();
    let version = handle.snapshot().version;
    handle.changed(version).await;
    assert!(handle.snapshot().version > version);
    let late = handle.changes();
    ended(&handle).await;
    handle.changed(u64::MAX).await;
    let states: Vec<_> = late.collect().await;
    for n in 0..20 {
        let last = states.iter().rfind(|task| *task.id == n.to_string());
        assert_eq!(last.unwrap().status, Status::Complete);
    }
}

#[tokio::test]
async fn a_plan_is_printed_as_a_tree_with_its_states() {
    let desk = Desk::new("a");
    let orchestrator = one(&desk).await;
    let plan = Plan::new([
        task("fetch", "say f"),
        task("check", "fail").after(["fetch"]),
        task("write", "gated").after(["fetch"]),
        task("print", "say p").after(["check", "write"]),
    ]);
    let handle = orchestrator.run_plan(plan).unwrap();
    desk.events.until("ended check").await;
    desk.events.until("begun write").await;
    while handle.task("print").unwrap().status == Status::Pending {
        handle.changed(handle.snapshot().version).await;
    }
    let printed = handle.snapshot().to_string();
    let (_, tree) = printed.split_once('\n').unwrap();
    assert_eq!(
        tree,
        "└─ fetch: complete (a)\n   \
            ├─ check: failed (a): agent `a`: the disk is full\n   \
            └─ write: running (a)\n      \
               └─ print: failed, also after check: task `check`, which it depends on, is not \
         complete"
    );
    assert!(
        printed.contains(": 1 of 4 complete, 1 running, 2 failed\n"),
        "{printed}"
    );
    handle.cancel();
    ended(&handle).await;
}

#[tokio::test]
async fn the_queue_and_the_agents_are_bounded_and_a_cancelled_task_leaves_the_queue() {
    let desk = Desk::new("a");
    let builder = Orchestrator::builder().max_waiting(4).max_agents(1);
    let orchestrator = builder.build().unwrap();
    let agent = desk.agent().max_concurrent(1).build().unwrap();
    orchestrator.register(agent).await.unwrap();
    let other = Desk::new("b").agent().build().unwrap();
    let error = orchestrator.register(other).await.unwrap_err().to_string();
    assert!(error.contains("1 agents are registered already"), "{error}");

    let plan = Plan::new((0..6).map(|n| task(&n.to_string(), "gated")));
    let handle = orchestrator.run_plan(plan).unwrap();
    desk.events.until("begun 0").await;
    assert_eq!(orchestrator.waiting(), 4);
    let full = handle.task("5").unwrap();
    assert_eq!(full.status, Status::Failed);
    assert!(
        full.error
            .unwrap()
            .contains("4 tasks wait for them already")
    );
    let cancelled = async |task: &str| {
        assert!(handle.cancel_task(task));
        while handle.task(task).unwrap().status != Status::Cancelled {
            handle.changed(handle.snapshot().version).await;
        }
    };
    cancelled("3").await;
    assert_eq!(orchestrator.waiting(), 3);
    handle.cancel();
    ended(&handle).await;
    assert_eq!(orchestrator.waiting(), 0);
}
