use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{
    finished::FinishedCall,
    series::{AllSeries, Totals},
    tally::Tally,
};
use crate::protocol::methods::Method;

/// A summary of the requests that a [`MetricsLayer`](super::MetricsLayer) has recorded; see
/// [`MetricsHandle::summary`](super::MetricsHandle::summary).
///
/// Listens (`subscriptions/listen`) are not in it. Its [`Display`](fmt::Display) is a table of all requests and of those in each window.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The time since the layer was made.
    #[serde(rename = "uptime_s", serialize_with = "seconds")]
    pub uptime: Duration,
    /// The number of requests in flight, without listens.
    pub in_flight: u64,
    /// All requests.
    pub all: Period,
    /// The requests of the last while, for each window that is kept.
    pub windows: Vec<Period>,
    /// The latest failures, newest first.
    pub failures: Vec<Arc<FinishedCall>>,
}

/// The requests of a period in a [`Summary`].
///
/// The rows of each list are sorted by their calls, the most first.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Period {
    /// The length of the window, or `None` for all time.
    #[serde(rename = "window_s", serialize_with = "optional_seconds")]
    pub window: Option<Duration>,
    /// All requests of the period.
    pub total: Row,
    /// The calls of each tool. Tools that no list has shown are one row, `_OTHER`.
    pub by_tool: Vec<Row>,
    /// The requests that each upstream served. Requests without one, such as those answered from a
    /// cache, are in no row.
    pub by_upstream: Vec<Row>,
    /// The requests of each outcome.
    pub by_outcome: Vec<Row>,
}

/// A row of a [`Period`].
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Row {
    /// The name of the tool, of the upstream or of the outcome; `total` for all.
    pub name: Arc<str>,
    /// The number of requests.
    pub calls: u64,
    /// The number of requests that failed.
    pub errors: u64,
    /// The part of the requests to which a cache applied that were not fetched for themselves.
    /// `None` if a cache applied to none.
    pub cache_hit_rate: Option<f64>,
    /// The number of further attempts.
    pub retries: u64,
    /// The tokens that a [budget](crate::CallReport::budget) further in has charged for results.
    pub tokens: u64,
    /// The mean latency.
    #[serde(rename = "mean_s", serialize_with = "seconds")]
    pub mean: Duration,
    /// The median latency.
    #[serde(rename = "p50_s", serialize_with = "seconds")]
    pub p50: Duration,
    /// The latency that 95 % of the requests do not exceed.
    #[serde(rename = "p95_s", serialize_with = "seconds")]
    pub p95: Duration,
    /// The latency that 99 % of the requests do not exceed.
    #[serde(rename = "p99_s", serialize_with = "seconds")]
    pub p99: Duration,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

fn optional_seconds<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(|it| it.as_secs_f64()).serialize(serializer)
}

#[derive(Default)]
struct Sum {
    tally: Tally,
    errors: u64,
}

impl Sum {
    fn add(&mut self, tally: &Tally, is_error: bool) {
        self.tally.add(tally);
        if is_error {
            self.errors += tally.calls;
        }
    }

    fn into_row(self, name: Arc<str>) -> Row {
        let tally = self.tally;
        let rate = (tally.lookups > 0).then(|| tally.hits as f64 / tally.lookups as f64);
        Row {
            name,
            calls: tally.calls,
            errors: self.errors,
            cache_hit_rate: rate,
            retries: tally.repeats,
            tokens: tally.tokens,
            mean: tally.mean(),
            p50: tally.quantile(0.5),
            p95: tally.quantile(0.95),
            p99: tally.quantile(0.99),
        }
    }
}

/// Sums up all series over a period. `read` adds a series' requests of the period.
fn period(
    series: &AllSeries,
    window: Option<Duration>,
    read: impl Fn(&Totals, &mut Tally),
) -> Period {
    let mut total = Sum::default();
    let mut tools = HashMap::new();
    let mut upstreams = HashMap::new();
    let mut outcomes: HashMap<Arc<str>, Sum> = HashMap::new();
    for series in series.all() {
        let mut tally = Tally::default();
        series.with_totals(|totals| read(totals, &mut tally));
        let labels = &series.labels;
        // A listen lasts as long as its subscription, which is not a latency.
        if tally.calls == 0 || labels.method == Method::Listen.name() {
            continue;
        }
        let is_error = labels.end.is_error();
        let add = |rows: &mut HashMap<Arc<str>, Sum>, name: &Option<Arc<str>>| {
            if let Some(name) = name {
                let row = rows.entry(name.clone()).or_default();
                row.add(&tally, is_error);
            }
        };
        add(&mut tools, &labels.tool);
        add(&mut upstreams, &labels.upstream);
        let outcome = outcomes.entry(labels.end.outcome.into()).or_default();
        outcome.add(&tally, is_error);
        total.add(&tally, is_error);
    }
    Period {
        window,
        total: total.into_row("total".into()),
        by_tool: rows(tools),
        by_upstream: rows(upstreams),
        by_outcome: rows(outcomes),
    }
}

fn rows(sums: HashMap<Arc<str>, Sum>) -> Vec<Row> {
    let mut rows: Vec<_> = sums
        .into_iter()
        .map(|(name, sum)| sum.into_row(name))
        .collect();
    rows.sort_by(|a, b| b.calls.cmp(&a.calls).then_with(|| a.name.cmp(&b.name)));
    rows
}

impl Summary {
    pub(super) fn of(
        series: &AllSeries,
        uptime: Duration,
        in_flight: u64,
        failures: Vec<Arc<FinishedCall>>,
    ) -> Self {
        let all = period(series, None, |totals, tally| tally.add(&totals.all));
        let lengths = series.windows().iter().enumerate();
        let windows = lengths.map(|(index, length)| {
            period(series, Some(*length), |totals, tally| {
                if let Some(window) = totals.windows.get(index) {
                    window.add_to(tally, *length, uptime);
                }
            })
        });
        Self {
            uptime,
            in_flight,
            windows: windows.collect(),
            all,
            failures,
        }
    }
}

/// The width of the column of names.
const NAME: usize = 32;

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all)?;
        for window in &self.windows {
            write!(f, "\n{window}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = match self.window {
            None => "all time".to_owned(),
            Some(window) => format!("last {window:?}"),
        };
        writeln!(
            f,
            "{title:<NAME$} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "calls", "errors", "cached", "mean", "p50", "p95", "p99"
        )?;
        writeln!(f, "{}", self.total)?;
        for (kind, rows) in [
            ("tools", &self.by_tool),
            ("upstreams", &self.by_upstream),
            ("outcomes", &self.by_outcome),
        ] {
            if !rows.is_empty() {
                writeln!(f, "{kind}")?;
            }
            for row in rows {
                writeln!(f, "{row}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cached = match self.cache_hit_rate {
            Some(rate) => format!("{:.0} %", rate * 100.0),
            None => "-".to_owned(),
        };
        let indent = if &*self.name == "total" { "" } else { "  " };
        // A server names its tools.
        let name = self.name.replace(char::is_control, "\u{fffd}");
        let name = format!("{indent}{name}");
        write!(
            f,
            "{name:<NAME$} {:>9} {:>9} {cached:>7} {:>9} {:>9} {:>9} {:>9}",
            self.calls,
            self.errors,
            short(self.mean),
            short(self.p50),
            short(self.p95),
            short(self.p99),
        )
    }
}

/// Writes a duration with three digits and its unit.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s => (s * 1e6, "µs"),
    };
    let digits = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}
