//! The breaker against a model of it, under random interleavings of calls, ends, cancellations and time.

use std::{collections::VecDeque, time::Duration};

use proptest::prelude::*;
use rmcp::model::{ErrorCode, ErrorData};
use rmcp_layers::{
    Error, McpResponse, Outcome,
    retry::breaker::{CircuitBreakerLayer, CircuitBreakerPolicy, CircuitBreakerState, RateWindow},
};
use tokio::{task::JoinHandle, time::Instant};
use tower::{Layer, ServiceExt};

use crate::{
    breaking::{Held, internal, ok},
    repeats::tool,
};

#[derive(Clone, Copy, Debug)]
enum End {
    Success,
    Failure,
    /// The caller's own fault.
    Answer,
    /// Nothing is known.
    Refused,
    Cancelled,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Call(usize),
    /// Ends the call that is so far down the line of those in flight.
    End(usize, End),
    Wait(u64),
    ForceOpen(usize),
    Reset(usize),
}

#[derive(Clone, Copy, Debug)]
struct Config {
    failures: u32,
    rate: Option<(f64, u32)>,
    open_for: u64,
    probes: u32,
    probe_timeout: u64,
    successes: u32,
}

const KEYS: [&str; 2] = ["one", "two"];

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let end = prop_oneof![
        3 => Just(End::Success),
        5 => Just(End::Failure),
        1 => Just(End::Answer),
        1 => Just(End::Refused),
        1 => Just(End::Cancelled),
    ];
    let op = prop_oneof![
        10 => (0..2usize).prop_map(Op::Call),
        9 => (0..8usize, end).prop_map(|(at, end)| Op::End(at, end)),
        3 => (0..40u64).prop_map(Op::Wait),
        1 => (0..20usize).prop_filter_map("rare", |key| (key < 2).then_some(Op::ForceOpen(key))),
        1 => (0..2usize).prop_map(Op::Reset),
    ];
    proptest::collection::vec(op, 1..120)
}

fn configs() -> impl Strategy<Value = Config> {
    let rate = proptest::option::of((0.3..1.0f64, 2..6u32));
    (1..4u32, rate, 5..40u64, 1..3u32, 1..50u64, 1..3u32).prop_map(
        |(failures, rate, open_for, probes, probe_timeout, successes)| Config {
            failures,
            rate,
            open_for,
            probes,
            probe_timeout,
            successes,
        },
    )
}

/// One key, told as a story: what has happened, and what that means.
struct Model {
    config: Config,
    phase: Phase,
    /// Which phase it is, by number.
    number: u64,
    row: u32,
    lately: VecDeque<bool>,
    /// The probes in flight, by number, and when they began.
    probes: Vec<(usize, Instant)>,
    calls: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed,
    Open(Instant),
    HalfOpen { successes: u32 },
    Forced,
}

/// In which phase a call was let in, and which of the calls it is.
type LetIn = (u64, usize);

/// The calls that a rate is counted over.
const SPAN: usize = 6;

impl Model {
    fn new(config: Config) -> Self {
        Self {
            config,
            phase: Phase::Closed,
            number: 0,
            row: 0,
            lately: VecDeque::new(),
            probes: Vec::new(),
            calls: 0,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.number += 1;
        self.probes.clear();
        if phase == Phase::Closed {
            self.row = 0;
            self.lately.clear();
        }
    }

    /// Whether a call is let in, and how.
    fn call(&mut self, now: Instant) -> Option<LetIn> {
        self.calls += 1;
        if let Phase::Open(until) = self.phase
            && now >= until
        {
            self.enter(Phase::HalfOpen { successes: 0 });
        }
        let fresh = Duration::from_secs(self.config.probe_timeout);
        let holding = self.probes.iter().filter(|(_, begun)| now < *begun + fresh);
        match self.phase {
            Phase::Closed => Some((self.number, self.calls)),
            Phase::HalfOpen { .. } if holding.count() < self.config.probes as usize => {
                self.probes.push((self.calls, now));
                Some((self.number, self.calls))
            }
            _ => None,
        }
    }

    fn end(&mut self, end: End, (phase, call): LetIn, now: Instant) {
        if phase != self.number {
            return;
        }
        self.probes.retain(|(number, _)| *number != call);
        let open = Phase::Open(now + Duration::from_secs(self.config.open_for));
        match (&mut self.phase, end) {
            (Phase::Closed, End::Success) => {
                self.row = 0;
                self.note(false);
                self.judge(open);
            }
            (Phase::Closed, End::Failure) => {
                self.row += 1;
                self.note(true);
                self.judge(open);
            }
            (Phase::HalfOpen { .. }, End::Failure) => self.enter(open),
            (Phase::HalfOpen { successes }, End::Success | End::Answer) => {
                *successes += 1;
                if *successes >= self.config.successes {
                    self.enter(Phase::Closed);
                }
            }
            _ => {}
        }
    }

    fn note(&mut self, failed: bool) {
        self.lately.push_back(failed);
        if self.lately.len() > SPAN {
            self.lately.pop_front();
        }
    }

    fn judge(&mut self, open: Phase) {
        let calls = self.lately.len();
        let failed = self.lately.iter().filter(|failed| **failed).count();
        let by_rate = self.config.rate.is_some_and(|(rate, min)| {
            calls >= min as usize && failed as f64 >= rate * calls as f64
        });
        if self.row >= self.config.failures || by_rate {
            self.enter(open);
        }
    }

    fn state(&self, now: Instant) -> CircuitBreakerState {
        match self.phase {
            Phase::Closed => CircuitBreakerState::Closed,
            Phase::Open(until) if now < until => CircuitBreakerState::Open,
            Phase::Open(_) | Phase::HalfOpen { .. } => CircuitBreakerState::HalfOpen,
            Phase::Forced => CircuitBreakerState::ForcedOpen,
        }
    }
}

/// A call in flight.
struct Flight {
    key: usize,
    let_in: LetIn,
    task: JoinHandle<Result<McpResponse, Error>>,
}

async fn settle() {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

async fn play(config: Config, ops: Vec<Op>) -> Result<(), TestCaseError> {
    let mut policy = CircuitBreakerPolicy::new()
        .consecutive_failures(config.failures)
        .open_for(Duration::from_secs(config.open_for))
        .probes(config.probes)
        .probe_timeout(Duration::from_secs(config.probe_timeout))
        .successes(config.successes);
    if let Some((rate, min)) = config.rate {
        policy = policy
            .failure_rate(rate)
            .min_calls(min)
            .rate_window(RateWindow::Calls(SPAN as u32));
    }
    let layer = CircuitBreakerLayer::builder()
        .policy(policy)
        .build()
        .unwrap();
    let (held, handle) = (Held::default(), layer.handle());
    let stack = layer.layer(held.service());
    let mut models = [Model::new(config), Model::new(config)];
    let mut flights = Vec::<Flight>::new();
    for op in ops {
        match op {
            Op::Call(key) => {
                let before = held.count();
                let task = tokio::spawn(stack.clone().oneshot(tool(KEYS[key])));
                settle().await;
                let expected = models[key].call(Instant::now());
                prop_assert_eq!(
                    held.count() - before,
                    usize::from(expected.is_some()),
                    "{:?}",
                    op
                );
                match expected {
                    Some(let_in) => flights.push(Flight { key, let_in, task }),
                    None => {
                        let outcome = Outcome::of(&task.await.unwrap());
                        let refused = matches!(
                            outcome,
                            Outcome::Refused {
                                layer: "breaker",
                                ..
                            }
                        );
                        prop_assert!(refused, "{:?}", outcome);
                    }
                }
            }
            Op::End(at, end) if at < flights.len() => {
                let flight = flights.remove(at);
                // Which of this key's calls it is, in the order in which they came.
                let before = flights[..at].iter().filter(|other| other.key == flight.key);
                held.finish(KEYS[flight.key], before.count(), end, &flight.task);
                settle().await;
                models[flight.key].end(end, flight.let_in, Instant::now());
            }
            Op::End(..) => {}
            Op::Wait(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
            Op::ForceOpen(key) => {
                prop_assert!(handle.force_open(KEYS[key]));
                models[key].enter(Phase::Forced);
            }
            Op::Reset(key) => {
                handle.reset(KEYS[key]);
                // A breaker of which nothing is known has nothing to forget.
                let model = &mut models[key];
                if model.phase != Phase::Closed || model.number > 0 || !is_blank(model) {
                    model.enter(Phase::Closed);
                }
            }
        }
        let now = Instant::now();
        for (key, model) in KEYS.iter().zip(&models) {
            prop_assert_eq!(
                handle.state(key),
                model.state(now),
                "{} after {:?}",
                key,
                op
            );
        }
        prop_assert!(handle.stats().keys <= KEYS.len());
    }
    Ok(())
}

fn is_blank(model: &Model) -> bool {
    model.row == 0 && (model.config.rate.is_none() || model.lately.is_empty())
}

impl Held {
    fn finish(
        &self,
        name: &str,
        at: usize,
        end: End,
        task: &JoinHandle<Result<McpResponse, Error>>,
    ) {
        let sender = self.take(name, at);
        let answer = match end {
            End::Success => ok(),
            End::Failure => internal(),
            End::Answer => Err(ErrorData::new(ErrorCode::INVALID_PARAMS, "no", None).into()),
            End::Refused => Err(rmcp_layers::Refusal::new("budget", "spent").into()),
            End::Cancelled => return task.abort(),
        };
        let _ = sender.send(answer);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_breaker_does_what_its_model_does(config in configs(), ops in ops()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(play(config, ops))?;
    }
}
