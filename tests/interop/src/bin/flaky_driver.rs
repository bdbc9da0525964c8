//! `flaky_driver URL DIRECTORY SECONDS SEED`: calls the gateway at the URL from 32 callers at once, and kills the
//! server behind it at random. Then looks at what the server has done, in the directory.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rmcp_layers::{Error, HttpEndpoint, McpClient, Upstream};
use tokio::time::{Instant, sleep};

const CALLERS: u64 = 32;

/// How a call of `append` has ended, as its caller was told.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Done,
    /// It may have run or not.
    Unknown,
    /// It has not run.
    NotRun,
}

/// splitmix64: the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    kills: AtomicU64,
    over: AtomicBool,
}

/// What one caller has seen.
#[derive(Default)]
struct Seen {
    lost_reads: Vec<String>,
    appended: Vec<(String, Told)>,
    surprises: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || {
        arguments
            .next()
            .ok_or("flaky_driver URL DIRECTORY SECONDS SEED")
    };
    let (url, directory) = (next()?, PathBuf::from(next()?));
    let (seconds, seed) = (next()?.parse()?, next()?.parse()?);

    let upstream = Upstream::builder()
        .request_timeout(Duration::from_secs(120))
        .http(HttpEndpoint::new(&url))?;
    // Ten retries take up to a minute on a busy machine, in which the gateway says nothing.
    let client = McpClient::builder(upstream)
        .request_timeout(Duration::from_secs(120))
        .build();
    // The gateway learns from it what the tools say of themselves.
    client.list_all_tools().await?;
    let counts = Arc::new(Counts::default());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(work(client.clone(), counts.clone(), caller, seed)))
        .collect();
    kill_at_random(&directory, &counts, seconds, seed).await;
    counts.over.store(true, Ordering::Relaxed);
    let mut all = Seen::default();
    for caller in callers {
        let seen = caller.await?;
        all.lost_reads.extend(seen.lost_reads);
        all.appended.extend(seen.appended);
        all.surprises.extend(seen.surprises);
    }
    report(&directory, &counts, &all)
}

async fn work(client: McpClient<Upstream>, counts: Arc<Counts>, caller: u64, seed: u64) -> Seen {
    let mut random = Random(seed ^ (caller << 32));
    let mut seen = Seen::default();
    let mut call = 0;
    while !counts.over.load(Ordering::Relaxed) {
        let id = format!("{caller}-{call}");
        call += 1;
        if random.below(2) == 0 {
            counts.reads.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = client.call_tool("read").argument("id", &*id).await {
                seen.lost_reads.push(error.to_string());
            }
            continue;
        }
        let told = match client.call_tool("append").argument("id", &*id).await {
            Ok(_) => Told::Done,
            Err(error) => told(&error).unwrap_or_else(|| {
                seen.surprises.push(error.to_string());
                Told::Unknown
            }),
        };
        seen.appended.push((id, told));
    }
    seen
}

/// What an error of the gateway says of whether the call has run.
fn told(error: &Error) -> Option<Told> {
    let error = error.as_protocol()?;
    let delivered = error.data.as_ref()?.get("delivered")?.as_str()?;
    match (error.code.0, delivered) {
        (-31502, "no") => Some(Told::NotRun),
        (-31502, "unknown") => Some(Told::Unknown),
        _ => None,
    }
}

async fn kill_at_random(directory: &Path, counts: &Counts, seconds: u64, seed: u64) {
    let mut random = Random(!seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut last = String::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(200 + random.below(1_800))).await;
        let Ok(pid) = fs::read_to_string(directory.join("pid")) else {
            continue;
        };
        // Each once: a dead one's number may be somebody else's by now.
        if pid == last {
            continue;
        }
        let killed = tokio::process::Command::new("kill")
            .args(["-9", &pid])
            .status()
            .await;
        if killed.is_ok_and(|status| status.success()) {
            counts.kills.fetch_add(1, Ordering::Relaxed);
        }
        last = pid;
    }
}

fn report(
    directory: &Path,
    counts: &Counts,
    seen: &Seen,
) -> Result<(), Box<dyn std::error::Error>> {
    let effects = fs::read_to_string(directory.join("effects"))?;
    let mut ran = HashMap::<&str, u32>::new();
    for id in effects.lines() {
        *ran.entry(id).or_default() += 1;
    }
    let of = |told: Told| seen.appended.iter().filter(move |(_, how)| *how == told);
    let (reads, kills) = (
        counts.reads.load(Ordering::Relaxed),
        counts.kills.load(Ordering::Relaxed),
    );
    let (done, unknown, not_run) = (
        of(Told::Done).count(),
        of(Told::Unknown).count(),
        of(Told::NotRun).count(),
    );
    println!(
        "{kills} kills; {reads} reads; {} appends: {done} done, {unknown} of unknown end, {not_run} not run; {} lines",
        seen.appended.len(),
        effects.lines().count(),
    );
    let first = |all: Vec<String>| {
        format!(
            "{}: {}",
            all.len(),
            all.first().cloned().unwrap_or_default()
        )
    };
    let wrong = |ids: Vec<&(String, Told)>| first(ids.iter().map(|(id, _)| id.clone()).collect());
    let count = |id: &str| ran.get(id).copied().unwrap_or_default();
    check("it was killed often", kills >= 5, || kills.to_string());
    check(
        "every read succeeds in the end",
        seen.lost_reads.is_empty() && reads > 0,
        || first(seen.lost_reads.clone()),
    );
    check(
        "every failure says whether the call has run",
        seen.surprises.is_empty(),
        || first(seen.surprises.clone()),
    );
    let twice: Vec<_> = ran
        .iter()
        .filter(|(_, times)| **times > 1)
        .map(|(id, _)| (*id).to_owned())
        .collect();
    check(
        "no call that is not safe to repeat runs twice",
        twice.is_empty(),
        || first(twice.clone()),
    );
    let missing: Vec<_> = of(Told::Done).filter(|(id, _)| count(id) != 1).collect();
    check(
        "every call that reports success has run once",
        missing.is_empty(),
        || wrong(missing.clone()),
    );
    let lied: Vec<_> = of(Told::NotRun).filter(|(id, _)| count(id) != 0).collect();
    check(
        "no call has run that reports it has not",
        lied.is_empty(),
        || wrong(lied.clone()),
    );
    let ambiguous = of(Told::Unknown).filter(|(id, _)| count(id) == 1).count();
    let lines = effects.lines().count();
    check(
        "what has run is what reported success or an open end",
        lines == done + ambiguous,
        || format!("{lines} lines, {done} done, {ambiguous} of unknown end that ran"),
    );
    Ok(())
}

fn check(name: &str, holds: bool, why: impl FnOnce() -> String) {
    if holds {
        println!("ok {name}");
    } else {
        println!("FAIL {name} {}", why());
    }
}
