//! The cache against a model, under random interleavings.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use rmcp_layers::{
    Error, McpRequest, McpResponse, Principal, cache::CacheHandle, store::MemoryStore,
};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};
use tower::{Layer, ServiceExt, service_fn};

use super::lab::{by, call, quiet, text};

const NAMES: [&str; 3] = ["alice", "bob", "carol"];
const TOOLS: [&str; 3] = ["read", "look", "pay"];
const TTL: Duration = Duration::from_secs(10);
const MAX_ENTRIES: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    Call {
        who: usize,
        tool: usize,
        argument: u8,
    },
    /// Drops one of the calls that wait.
    Cancel(usize),
    /// Has the server answer one of the calls that it runs.
    Answer {
        which: usize,
        fails: bool,
    },
    Advance(u64),
    ForgetTool(usize),
    ForgetCaller(usize),
    ForgetRequest {
        who: usize,
        tool: usize,
        argument: u8,
    },
    ForgetAll,
}

fn step() -> impl Strategy<Value = Step> {
    let argument = 0..3u8;
    prop_oneof![
        8 => (0..3usize, 0..3usize, argument.clone())
            .prop_map(|(who, tool, argument)| Step::Call { who, tool, argument }),
        2 => (0..8usize).prop_map(Step::Cancel),
        6 => (0..8usize, prop::bool::weighted(0.2))
            .prop_map(|(which, fails)| Step::Answer { which, fails }),
        2 => (1..9u64).prop_map(Step::Advance),
        1 => (0..3usize).prop_map(Step::ForgetTool),
        1 => (0..3usize).prop_map(Step::ForgetCaller),
        1 => (0..3usize, 0..3usize, argument)
            .prop_map(|(who, tool, argument)| Step::ForgetRequest { who, tool, argument }),
        1 => Just(Step::ForgetAll),
    ]
}

/// What is asked: by whom, which tool, with which argument.
type Asked = (usize, usize, u8);

/// The server: each call waits until it is told to answer, and says what it was asked and when it began and ended.
#[derive(Default)]
struct Server {
    time: u64,
    running: BTreeMap<u64, oneshot::Sender<bool>>,
    payments: usize,
}

#[derive(Clone)]
struct World {
    server: Arc<Mutex<Server>>,
    began: Instant,
}

impl World {
    fn tick(&self) -> u64 {
        let mut server = self.server.lock().unwrap();
        server.time += 1;
        server.time
    }

    async fn answer(self, request: McpRequest) -> Result<McpResponse, Error> {
        let principal = request.context.principal().unwrap().subject().to_owned();
        let call = request.as_tool_call().unwrap();
        let argument = call.arguments.as_ref().unwrap()["n"].clone();
        let started = self.tick();
        let (sender, told) = oneshot::channel();
        {
            let mut server = self.server.lock().unwrap();
            server.running.insert(started, sender);
            server.payments += usize::from(call.name == "pay");
        }
        let fails = told.await.unwrap_or(true);
        let says = json!([
            principal,
            call.name,
            argument,
            started,
            self.began.elapsed().as_secs()
        ]);
        if fails {
            return Err(ErrorData::internal_error(says.to_string(), None).into());
        }
        let said = vec![ContentBlock::text(says.to_string())];
        Ok(McpResponse::new(CallToolResult::success(said)))
    }
}

struct Waiting {
    asked: Asked,
    /// The model's time when it was asked, and the clock's.
    at: u64,
    second: u64,
    call: JoinHandle<Result<McpResponse, Error>>,
}

struct Run<S> {
    world: World,
    stack: S,
    cache: CacheHandle,
    waiting: Vec<Waiting>,
    /// When what was forgotten last.
    forgotten: Vec<(u64, Step)>,
    payments: usize,
}

fn request((who, tool, argument): Asked) -> McpRequest {
    by(NAMES[who], call(TOOLS[tool], json!({ "n": argument })))
}

impl<S: super::common::Stack<Error = Error>> Run<S> {
    async fn step(&mut self, step: Step) {
        match step.clone() {
            Step::Call {
                who,
                tool,
                argument,
            } => {
                let asked = (who, tool, argument);
                self.payments += usize::from(TOOLS[tool] == "pay");
                let at = self.world.tick();
                let call = tokio::spawn(self.stack.clone().oneshot(request(asked)));
                let second = self.world.began.elapsed().as_secs();
                self.waiting.push(Waiting {
                    asked,
                    at,
                    second,
                    call,
                });
            }
            Step::Cancel(which) if !self.waiting.is_empty() => {
                let which = which % self.waiting.len();
                self.waiting.swap_remove(which).call.abort();
            }
            Step::Answer { which, fails } => {
                let mut server = self.world.server.lock().unwrap();
                let keys: Vec<u64> = server.running.keys().copied().collect();
                if !keys.is_empty() {
                    let told = server.running.remove(&keys[which % keys.len()]);
                    let _ = told.unwrap().send(fails);
                }
            }
            Step::Advance(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
            Step::Cancel(_) => {}
            forget => {
                self.forgotten.push((self.world.tick(), step));
                match forget {
                    Step::ForgetTool(tool) => self.cache.invalidate_tool(TOOLS[tool]),
                    Step::ForgetCaller(who) => {
                        self.cache.invalidate_principal(&Principal::new(NAMES[who]))
                    }
                    Step::ForgetRequest {
                        who,
                        tool,
                        argument,
                    } => self
                        .cache
                        .invalidate_request(&request((who, tool, argument))),
                    _ => self.cache.clear(),
                };
            }
        }
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        self.check().await;
    }

    async fn check(&mut self) {
        assert!(self.cache.stats().entries <= MAX_ENTRIES);
        let (done, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.call.is_finished());
        self.waiting = waiting;
        let done: Vec<Waiting> = done;
        for call in done {
            let said = match call.call.await.expect("a call that does not panic") {
                Ok(response) => text(&response),
                Err(error) => error.as_protocol().unwrap().message.to_string(),
            };
            let said: (String, String, u8, u64, u64) = serde_json::from_str(&said).unwrap();
            let (who, tool, argument) = call.asked;
            let mine = (NAMES[who].to_owned(), TOOLS[tool].to_owned(), argument);
            assert_eq!((said.0, said.1, said.2), mine, "somebody else's answer");
            let (started, ended) = (said.3, said.4);
            assert!(
                call.second < ended + TTL.as_secs(),
                "an answer of {ended} s for a call of {} s",
                call.second
            );
            for (at, forgotten) in &self.forgotten {
                let concerned = match forgotten {
                    Step::ForgetTool(of) => *of == tool,
                    Step::ForgetCaller(of) => *of == who,
                    Step::ForgetRequest {
                        who,
                        tool,
                        argument,
                    } => (*who, *tool, *argument) == call.asked,
                    _ => true,
                };
                assert!(
                    !concerned || *at > call.at || *at < started,
                    "forgotten at {at}, asked at {}, fetched at {started}",
                    call.at
                );
            }
        }
    }

    /// All calls end once the server answers, and nothing is left of them.
    async fn end(mut self) {
        while !self.waiting.is_empty() {
            let running = self.world.server.lock().unwrap().running.len();
            assert!(running > 0, "{} calls hang", self.waiting.len());
            self.step(Step::Answer {
                which: 0,
                fails: false,
            })
            .await;
        }
        assert_eq!(self.cache.stats().in_flight, 0);
        assert_eq!(self.world.server.lock().unwrap().payments, self.payments);
    }
}

async fn run(steps: Vec<Step>, share: bool) {
    let world = World {
        server: Arc::default(),
        began: Instant::now(),
    };
    let mut builder = quiet()
        .cache_tool("read")
        .cache_tool("look")
        .time_to_live(TTL)
        .max_entries(MAX_ENTRIES);
    if share {
        builder = builder.store(MemoryStore::new());
    }
    let layer = builder.build().unwrap();
    let inner = world.clone();
    let mut run = Run {
        world,
        cache: layer.handle(),
        stack: layer.layer(service_fn(move |request| inner.clone().answer(request))),
        waiting: Vec::new(),
        forgotten: Vec::new(),
        payments: 0,
    };
    for step in steps {
        run.step(step).await;
    }
    run.end().await;
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn no_answer_is_wrong_old_or_somebody_elses(
        steps in prop::collection::vec(step(), 1..80),
        share in any::<bool>(),
    ) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(steps, share));
    }
}
