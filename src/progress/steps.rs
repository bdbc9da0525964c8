use std::{fmt, time::Duration};

use rmcp::model::{CallToolResult, ContentBlock};
use tokio::time::Instant;

use super::ProgressReporter;

/// The part of a step that progress within it covers.
const WITHIN: f64 = 0.99;

/// The steps of a call; see [`ProgressReporter::steps`].
///
/// Models never see progress, but the result. So the times of the steps can be added to the result.
///
/// ```
/// use rmcp::model::{CallToolResult, ContentBlock};
/// use rmcp_layers::registry::RegisteredTool;
///
/// let train = RegisteredTool::builder("train")
///     .handler(|(), context| async move {
///         let mut steps = context.progress().steps(["Fetching dataset", "Training"]);
///         steps.begin_next().await; // "Step 1 of 2: Fetching dataset"
///         // …
///         let training = steps.begin_next().await;
///         training.report(1.0, Some(10.0), "epoch 1").await;
///         // …
///         let result = CallToolResult::success(vec![ContentBlock::text("trained")]);
///         steps.finish().add_to(result)
///     })
///     .build()?;
/// # let _ = train;
/// # Ok::<(), rmcp_layers::registry::RegistryError>(())
/// ```
#[derive(Debug)]
pub struct Steps {
    reporter: ProgressReporter,
    names: Vec<String>,
    /// The steps that have ended, and the one that runs.
    times: Vec<StepTime>,
    since: Option<Instant>,
}

impl Steps {
    pub(super) fn new(reporter: ProgressReporter, names: Vec<String>) -> Self {
        Self {
            reporter,
            names,
            times: Vec::new(),
            since: None,
        }
    }

    /// Ends the step that runs, begins the next one and reports it: the number of finished steps as
    /// progress, and a message such as "Step 2 of 4: Training (Fetching dataset took 1.2 s)".
    ///
    /// Returns the reporter for progress within the step. After the last step, nothing is begun and
    /// nothing is reported.
    pub async fn begin_next(&mut self) -> ProgressReporter {
        self.end_current();
        let done = self.times.len();
        let count = self.names.len();
        let Some(name) = self.names.get(done) else {
            return self.part(count);
        };
        self.since = Some(Instant::now());
        let before = self.times.last();
        let before = before.map_or_else(String::new, |step| {
            format!(" ({} took {})", step.name, short(step.took))
        });
        let message = format!("Step {} of {count}: {name}{before}", done + 1);
        self.reporter
            .report(done as f64, Some(count as f64), &*message)
            .await;
        self.part(done)
    }

    /// Returns the reporter within a step. It ends before the progress of the next step, which has
    /// to be higher.
    fn part(&self, step: usize) -> ProgressReporter {
        let (start, total) = (step as f64, self.names.len() as f64);
        self.reporter
            .part(start..(start + WITHIN).min(total), total)
    }

    fn end_current(&mut self) {
        let Some(since) = self.since.take() else {
            return;
        };
        if let Some(name) = self.names.get(self.times.len()) {
            self.times.push(StepTime {
                name: name.clone(),
                took: since.elapsed(),
            });
        }
    }

    /// Ends the step that runs, and returns the times of all steps. It reports nothing: the result
    /// of the call says that it is done, and clients may lose progress that arrives with it.
    pub fn finish(mut self) -> StepsSummary {
        self.end_current();
        StepsSummary {
            steps: std::mem::take(&mut self.times),
        }
    }
}

/// The time that one step took.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepTime {
    /// The name of the step.
    pub name: String,
    /// Its duration.
    pub took: Duration,
}

/// The times of the steps of a call, for its result.
///
/// Its [`Display`](fmt::Display) is a sentence such as "2 steps in 3.5 s: Fetching dataset 1.2 s,
/// Training 2.3 s."
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepsSummary {
    /// The steps that were begun, in order.
    pub steps: Vec<StepTime>,
}

impl StepsSummary {
    /// Returns the time of all steps.
    pub fn total(&self) -> Duration {
        self.steps.iter().map(|step| step.took).sum()
    }

    /// Adds the times to a result, as a block of text behind its content.
    #[must_use]
    pub fn add_to(&self, mut result: CallToolResult) -> CallToolResult {
        result.content.push(ContentBlock::text(self.to_string()));
        result
    }
}

impl fmt::Display for StepsSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.steps.len();
        let noun = if count == 1 { "step" } else { "steps" };
        write!(f, "{count} {noun} in {}", short(self.total()))?;
        for (index, step) in self.steps.iter().enumerate() {
            let before = if index == 0 { ": " } else { ", " };
            write!(f, "{before}{} {}", step.name, short(step.took))?;
        }
        f.write_str(".")
    }
}

fn short(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 60 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}
