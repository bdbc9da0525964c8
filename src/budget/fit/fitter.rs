use std::{borrow::Cow, num::NonZero, sync::Arc, thread};

use rmcp::model::{ContentBlock, ServerResult};
use tokio::{sync::Semaphore, task};

use super::{
    Charge, Cut, Density, FitPolicy, Fitted, ToFit, Unfit, UnfitReason,
    assemble::assembled,
    cut::{Cutter, NewStructured, Plan},
    parts::Parts,
    size::is_longer,
    text::head_of,
};
use crate::{
    Lossless,
    budget::{MediaTokens, ResultLimits, TokenCounter},
};

/// The bytes up to which a result is counted at once. A longer one goes to a thread for blocking
/// work: 4 KiB may take 1 ms in the worst case.
const SHORT: usize = 4 * 1024;

/// The tokens up to which a result that is never cut is counted.
const MAX_COUNTED: usize = 100_000;

/// Counts results, and cuts those that cost more than their share.
#[derive(Clone)]
pub(crate) struct Fitter {
    pub(super) counter: Arc<dyn TokenCounter>,
    media: MediaTokens,
    pub(super) limits: ResultLimits,
    pub(super) policy: FitPolicy,
    /// Permits for long work. Half of the processors stay free for the runtime.
    workers: Arc<Semaphore>,
}

impl Fitter {
    pub(crate) fn new(
        counter: Arc<dyn TokenCounter>,
        media: MediaTokens,
        limits: ResultLimits,
        policy: FitPolicy,
    ) -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            counter,
            media,
            limits,
            policy,
            workers: Arc::new(Semaphore::new((processors / 2).max(1))),
        }
    }

    /// Returns the result as it came if it costs at most its share, else a result that does.
    ///
    /// A dropped future ends nothing that already runs on a thread for blocking work; the limits
    /// bound it.
    pub(crate) async fn fit(&self, to_fit: ToFit) -> Result<Fitted, Unfit> {
        if bytes_of(&to_fit.result) <= SHORT && !to_fit.result.is_changed() {
            return self.fit_now(to_fit);
        }
        if self.policy.charge == Charge::Estimate
            && let Some(cost) = self.estimate(&to_fit)
        {
            return Ok(Fitted {
                result: to_fit.result,
                cost,
                cut: None,
            });
        }
        let fitter = self.clone();
        let fitted = self.on_worker(move || fitter.fit_now(to_fit)).await;
        fitted.unwrap_or(Err(Unfit {
            original: None,
            reason: UnfitReason::CounterFailed,
        }))
    }

    /// Returns the cost of a short result that is certain to fit. Returns `None` for another one.
    pub(crate) fn cost_of_short(
        &self,
        result: &Lossless<ServerResult>,
        share: usize,
    ) -> Option<usize> {
        if bytes_of(result) > SHORT || result.is_changed() {
            return None;
        }
        let parts = Parts::of(result, &self.media);
        parts.check(&self.limits).ok()?;
        let fits = parts.upper_bound(&*self.counter) <= share;
        fits.then(|| match self.policy.charge {
            Charge::Estimate => parts.estimate(&*self.counter),
            Charge::Count => {
                let repeats = parts.repeats(&self.limits);
                parts.measure(&repeats, share, &*self.counter).sum.tokens
            }
        })
    }

    /// Returns the cost of a text, such as a tool's definition. `None`: the counter has failed.
    pub(crate) async fn count(&self, text: Arc<str>) -> Option<usize> {
        if text.len() <= SHORT {
            return Some(self.counter.count(&text));
        }
        let counter = Arc::clone(&self.counter);
        self.on_worker(move || counter.count(&text)).await
    }

    /// Returns the length in bytes of the longest start of `text[from..]` that costs at most
    /// `share`. It ends after a line, a word or a character. It is 0 if no character fits, or if the
    /// counter has failed.
    ///
    /// # Panics
    ///
    /// `from` is beyond the end of the text or inside a character.
    pub(crate) async fn page(&self, text: Arc<str>, from: usize, share: usize) -> usize {
        let counter = Arc::clone(&self.counter);
        if text.len() - from <= SHORT {
            return head_of(&text[from..], share, &*counter);
        }
        let page = self.on_worker(move || head_of(&text[from..], share, &*counter));
        page.await.unwrap_or_default()
    }

    /// Runs long work on a thread for blocking work. Returns `None` if it panicked.
    async fn on_worker<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.workers).acquire_owned().await.ok()?;
        let work = move || {
            let _permit = permit;
            work()
        };
        match task::spawn_blocking(work).await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "a token counter failed");
                None
            }
        }
    }

    /// Returns the estimated cost of a result that is certain to fit.
    fn estimate(&self, to_fit: &ToFit) -> Option<usize> {
        // It runs on the async worker, which a long result must not hold up.
        if let ServerResult::CallToolResult(tool) = &*to_fit.result
            && let Some(structured) = &tool.structured_content
            && is_longer(structured, to_fit.share)
        {
            return None;
        }
        let parts = Parts::of(&to_fit.result, &self.media);
        parts.check(&self.limits).ok()?;
        let fits = parts.upper_bound(&*self.counter) <= to_fit.share;
        fits.then(|| parts.estimate(&*self.counter))
    }

    pub(super) fn fit_now(&self, mut to_fit: ToFit) -> Result<Fitted, Unfit> {
        to_fit.result.apply_changes();
        let cut = match self.cut(&to_fit) {
            Ok(cut) => cut,
            Err(reason) => {
                return Err(Unfit {
                    original: Some(Box::new(to_fit.result)),
                    reason,
                });
            }
        };
        Ok(match cut {
            Cutting::Fits { cost } => Fitted {
                result: to_fit.result,
                cost,
                cut: None,
            },
            Cutting::Cut {
                plan,
                structured_text,
                total,
                density,
                is_estimate,
            } => Fitted {
                result: assembled(&to_fit.result, &plan),
                cost: plan.cost,
                cut: Some(Cut {
                    original: to_fit.result,
                    structured_text,
                    total,
                    density,
                    is_estimate,
                    dropped_structured: matches!(plan.structured, NewStructured::Dropped),
                    became_error: plan.became_error,
                    places: plan.places,
                }),
            },
        })
    }

    /// Decides how a result fits.
    fn cut(&self, to_fit: &ToFit) -> Result<Cutting, UnfitReason> {
        let counter = &*self.counter;
        let parts = Parts::of(&to_fit.result, &self.media);
        let share = to_fit.share;
        if self.policy.charge == Charge::Estimate && parts.upper_bound(counter) <= share {
            let cost = parts.estimate(counter);
            return Ok(Cutting::Fits { cost });
        }
        parts.check(&self.limits)?;
        let repeats = parts.repeats(&self.limits);
        let limit = match parts.is_cuttable {
            true => share,
            false => share.max(MAX_COUNTED),
        };
        let measures = parts.measure(&repeats, limit, counter);
        let total = measures.sum.tokens;
        if total <= share || !parts.is_cuttable {
            return Ok(Cutting::Fits { cost: total });
        }
        let cutter = Cutter {
            fitter: self,
            parts: &parts,
            result: &to_fit.result,
            repeats: &repeats,
            measures: &measures,
            share,
            schema: to_fit.schema.as_deref(),
            rest: to_fit.rest.as_ref(),
            total,
        };
        let plan = cutter.plan().ok_or(UnfitReason::NoRoom { share })?;
        let structured_text = match parts.structured.map(|structured| structured.text) {
            Some(Cow::Owned(text)) => Some(text),
            Some(Cow::Borrowed(_)) | None => None,
        };
        Ok(Cutting::Cut {
            plan: Box::new(plan),
            structured_text,
            total,
            density: measures.longest,
            is_estimate: measures.sum.is_estimate,
        })
    }
}

/// The way in which a result fits.
enum Cutting {
    Fits {
        cost: usize,
    },
    Cut {
        plan: Box<Plan>,
        structured_text: Option<String>,
        total: usize,
        density: Option<Density>,
        is_estimate: bool,
    },
}

/// Returns about the bytes of a result that are to be counted, at little cost.
fn bytes_of(result: &Lossless<ServerResult>) -> usize {
    if let Some(source) = result.source() {
        return source.text().len();
    }
    let of_block = |block: &ContentBlock| match block {
        ContentBlock::Text(text) => text.text.len(),
        // The header of an image, and the JSON of others.
        _ => SHORT + 1,
    };
    match &**result {
        ServerResult::CallToolResult(tool) if tool.structured_content.is_some() => SHORT + 1,
        ServerResult::CallToolResult(tool) => tool.content.iter().map(of_block).sum(),
        ServerResult::ReadResourceResult(_) | ServerResult::GetPromptResult(_) => SHORT + 1,
        _ => 0,
    }
}
