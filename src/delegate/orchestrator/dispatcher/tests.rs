use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::service_fn;

use super::*;
use crate::{Error, McpRequest, McpResponse};

fn agent(name: &str, capabilities: &[&str], max_concurrent: usize) -> Agent {
    let stack = service_fn(|_: McpRequest| async { Err::<McpResponse, _>(Error::cancelled("no")) });
    Agent::builder(name, stack)
        .capabilities(capabilities.iter().copied())
        .max_concurrent(max_concurrent)
        .build()
        .unwrap()
}

fn class(need: Need) -> Class {
    Class {
        need,
        excluded: Vec::new(),
        visited: Arc::default(),
    }
}

fn code() -> Class {
    class(Need::Capability("code".into()))
}

struct Plan {
    dispatcher: Arc<Dispatcher>,
    events: UnboundedSender<Event>,
    inbox: UnboundedReceiver<Event>,
}

impl Plan {
    fn new(dispatcher: &Arc<Dispatcher>) -> Self {
        let (events, inbox) = unbounded_channel();
        Self {
            dispatcher: dispatcher.clone(),
            events,
            inbox,
        }
    }

    fn request(&self, class: &Class, priority: i32, task: u32) -> Requested {
        let plan = (&self.events, task, 1);
        self.dispatcher.request(class, priority, None, plan).0
    }

    fn granted(&self, class: &Class) -> Slot {
        match self.request(class, 0, 0) {
            Requested::Granted(slot) => slot,
            _ => panic!("not granted"),
        }
    }

    fn next(&mut self) -> Option<(u32, Slot)> {
        match self.inbox.try_recv().ok()? {
            Event::Granted { task, slot, .. } => Some((task, slot)),
            _ => panic!("another event"),
        }
    }
}

fn dispatcher(agents: impl IntoIterator<Item = Agent>) -> Arc<Dispatcher> {
    let dispatcher = Arc::new(Dispatcher::new(10, 4));
    for agent in agents {
        dispatcher.register(agent).unwrap();
    }
    dispatcher
}

fn id_of(dispatcher: &Dispatcher, name: &str) -> AgentId {
    lock(&dispatcher.state).candidates.find(name).unwrap()
}

#[test]
fn the_least_loaded_agent_with_the_capability_is_chosen() {
    let dispatcher = dispatcher([
        agent("a", &["code"], 1),
        agent("b", &["code", "prose"], 4),
        agent("c", &["prose"], 9),
    ]);
    let plan = Plan::new(&dispatcher);
    let slots: Vec<_> = (0..5).map(|_| plan.granted(&code())).collect();
    let names: Vec<_> = slots
        .iter()
        .map(|slot| slot.agent.name().to_string())
        .collect();
    assert_eq!(names, ["a", "b", "b", "b", "b"]);
    assert!(matches!(plan.request(&code(), 0, 1), Requested::Waiting(_)));
    assert_eq!(&**plan.granted(&class(Need::Any)).agent.name(), "c");
}

#[tokio::test(start_paused = true)]
async fn of_equally_loaded_agents_the_one_that_fails_less_and_is_faster_is_chosen() {
    let dispatcher = dispatcher([agent("a", &["code"], 1), agent("b", &["code"], 1)]);
    let plan = Plan::new(&dispatcher);
    let run = async |succeeded, seconds| {
        let mut slot = plan.granted(&code());
        slot.succeeded = Some(succeeded);
        tokio::time::advance(Duration::from_secs(seconds)).await;
        slot.agent.name().to_string()
    };
    assert_eq!(run(true, 9).await, "a");
    assert_eq!(run(true, 2).await, "b");
    assert_eq!(run(false, 1).await, "b");
    assert_eq!(run(true, 9).await, "a");
    let states = dispatcher.agents();
    assert!(states[1].record.failures > states[0].record.failures);
}

#[test]
fn waiting_tasks_come_by_priority_and_then_by_age() {
    let dispatcher = dispatcher([agent("a", &["code"], 1)]);
    let mut plan = Plan::new(&dispatcher);
    let first = plan.granted(&code());
    let mut places = Vec::new();
    for (class, priority, task) in [
        (code(), 0, 1),
        (class(Need::Any), 0, 2),
        (class(Need::Agent("a".into())), 5, 3),
        (code(), 0, 4),
    ] {
        match plan.request(&class, priority, task) {
            Requested::Waiting(place) => places.push(place),
            _ => panic!("not waiting"),
        }
    }
    // The queue is bounded.
    assert!(matches!(
        plan.request(&code(), 9, 5),
        Requested::QueueFull(4)
    ));
    assert!(plan.next().is_none());
    drop(first);
    let mut order = Vec::new();
    assert!(dispatcher.withdraw(&code(), places[3]) && !dispatcher.withdraw(&code(), places[3]));
    while let Some((task, _slot)) = plan.next() {
        order.push(task);
    }
    assert_eq!(order, [3, 1, 2]);
    assert_eq!(
        (dispatcher.waiting(), dispatcher.agents()[0].in_flight),
        (0, 0)
    );
}

#[test]
fn an_agent_that_declined_or_was_visited_is_no_candidate() {
    let dispatcher = dispatcher([agent("a", &["code"], 1), agent("b", &["code"], 1)]);
    let plan = Plan::new(&dispatcher);
    let reason = |class: &Class| match plan.request(class, 0, 0) {
        Requested::Unavailable(reason) => reason,
        _ => panic!("there is one"),
    };
    let mut declined = code();
    declined.excluded = vec![id_of(&dispatcher, "a")];
    assert_eq!(&**plan.granted(&declined).agent.name(), "b");
    declined.excluded.push(id_of(&dispatcher, "b"));
    assert!(reason(&declined).contains("have declined it"));
    let mut visited = class(Need::Agent("a".into()));
    visited.visited = Arc::from(["a".into()]);
    assert!(reason(&visited).contains("agent `a`, which it comes from"));
    let none = class(Need::Capability("music".into()));
    assert!(reason(&none).contains("no registered agent has the capability `music`"));
}

#[test]
fn an_agent_that_comes_takes_waiting_tasks_and_one_that_goes_leaves_them() {
    let dispatcher = dispatcher([agent("a", &["code"], 1)]);
    let mut plan = Plan::new(&dispatcher);
    let first = plan.granted(&code());
    for task in 1..4 {
        assert!(matches!(
            plan.request(&code(), 0, task),
            Requested::Waiting(_)
        ));
    }
    dispatcher.register(agent("b", &["code"], 1)).unwrap();
    let (task, on_b) = plan.next().unwrap();
    assert_eq!((task, &**on_b.agent.name()), (1, "b"));
    assert!(dispatcher.unregister("a").is_some() && dispatcher.unregister("a").is_none());
    // Its attempts go on, and its place is no one's.
    drop(first);
    assert!(plan.next().is_none());
    drop(on_b);
    let (task, on_b) = plan.next().unwrap();
    assert_eq!(task, 2);
    dispatcher.unregister("b");
    assert!(matches!(
        plan.inbox.try_recv(),
        Ok(Event::Unavailable(3, 1))
    ));
    drop(on_b);
    assert_eq!((dispatcher.waiting(), dispatcher.agents().len()), (0, 0));
    assert!(matches!(dispatcher.register(agent("a", &[], 1)), Ok(())));
    assert!(matches!(
        dispatcher.register(agent("a", &[], 1)),
        Err(NotRegistered::NameTaken)
    ));
}
