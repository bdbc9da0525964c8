use std::{fmt, sync::Arc, time::Duration};

use super::{
    BudgetLayer, Charge, ContextBudget, KeptText, MediaTokens, OnSchemaMisfit, RepeatedText,
    ResultKind, ResultLimits, ThresholdCrossed, TokenCounter, Tokenizer,
    conversation::ConversationKey,
    counters::Counters,
    definitions::Definitions,
    fit::{FitPolicy, Fitter},
    kept::{KeptResults, KeptStore, MemoryLimits},
    ledger::{Ledger, LocalLedger, LocalLimits, SharedLedger, SharedSettings},
    read_result,
    rules::Rules,
    state::{OnThreshold, Shared},
};
use crate::{ConfigError, McpRequest, store::Store};

/// The model by whose tokenizer results are counted unless another one is named.
const MODEL: &str = "gpt-5";
/// The name of the tool that reads kept results.
const READ_RESULT: &str = "read_result";
/// The greatest length of a result that Claude Code shows to the model.
const DECLARED_RESULT_SIZE: u64 = 500_000;

/// Builds a [`BudgetLayer`].
#[must_use = "call `build` to make the layer"]
pub struct BudgetLayerBuilder {
    budget: ContextBudget,
    counter: Arc<dyn TokenCounter>,
    media: MediaTokens,
    rules: Rules,
    key: Option<ConversationKey>,
    local: LocalLimits,
    limits: ResultLimits,
    policy: FitPolicy,
    keeps_results: bool,
    kept: MemoryLimits,
    page_tokens: u64,
    read_tool: Option<String>,
    counts_definitions: bool,
    warn_definitions_above: Option<u64>,
    declared_result_size: Option<u64>,
    thresholds: Vec<u8>,
    on_threshold: Option<OnThreshold>,
    reports_in_meta: bool,
    store: Option<Arc<dyn Store>>,
    store_timeout: Duration,
}

impl BudgetLayerBuilder {
    pub(super) fn new(budget: ContextBudget) -> Self {
        Self {
            budget,
            counter: Arc::new(Tokenizer::for_model(MODEL)),
            media: MediaTokens::for_model(MODEL),
            rules: Rules {
                max_fraction: 0.3,
                by_kind: Vec::new(),
                by_tool: Vec::new(),
                min_to_call: 500,
                exempt: Vec::new(),
            },
            key: None,
            local: LocalLimits {
                max_conversations: 10_000,
                idle_timeout: Some(Duration::from_secs(24 * 3_600)),
            },
            limits: ResultLimits::default(),
            policy: FitPolicy::default(),
            keeps_results: true,
            kept: MemoryLimits {
                max_bytes: 256 * 1024 * 1024,
                max_owner_bytes: 64 * 1024 * 1024,
                max_item_bytes: 32 * 1024 * 1024,
                time_to_live: Duration::from_secs(1_800),
            },
            page_tokens: 8_000,
            read_tool: Some(READ_RESULT.to_owned()),
            counts_definitions: false,
            warn_definitions_above: Some(1_000),
            declared_result_size: Some(DECLARED_RESULT_SIZE),
            thresholds: vec![50, 80, 95],
            on_threshold: None,
            reports_in_meta: true,
            store: None,
            store_timeout: Duration::from_millis(500),
        }
    }

    /// Sets the model that reads the results, for its [`Tokenizer`] and its [`MediaTokens`].
    /// Default: `gpt-5`, whose encoding is `o200k_base`.
    pub fn model(mut self, model: &str) -> Self {
        self.counter = Arc::new(Tokenizer::for_model(model));
        self.media = MediaTokens::for_model(model);
        self
    }

    /// Sets the counter of tokens, in place of the [model](Self::model)'s tokenizer.
    pub fn counter(mut self, counter: impl TokenCounter) -> Self {
        self.counter = Arc::new(counter);
        self
    }

    /// Sets the tokens of images, audio and blobs, in place of the [model](Self::model)'s.
    pub fn media_tokens(mut self, media: MediaTokens) -> Self {
        self.media = media;
        self
    }

    /// Sets the greatest part of the available tokens that one result may use. Default: 0.3.
    ///
    /// A call reserves this share before it goes to the inner stack, and gives back what its result
    /// has not used. So calls at the same time have shares of what the others have left.
    pub fn max_fraction(mut self, fraction: f64) -> Self {
        self.rules.max_fraction = fraction;
        self
    }

    /// Sets the fraction for one kind of result, in place of [`max_fraction`](Self::max_fraction).
    pub fn max_fraction_of(mut self, kind: ResultKind, fraction: f64) -> Self {
        self.rules.by_kind.retain(|(of, _)| *of != kind);
        self.rules.by_kind.push((kind, fraction));
        self
    }

    /// Sets the fraction for tools that this name or glob matches (`*` for any characters, `?` for
    /// one). The first rule that matches a tool applies, before that of its kind.
    pub fn max_fraction_of_tool(mut self, tool: impl Into<String>, fraction: f64) -> Self {
        self.rules.by_tool.push((tool.into(), fraction));
        self
    }

    /// Sets the number of available tokens below which a call is refused. A share is never smaller.
    /// Default: 500.
    pub fn min_to_call(mut self, tokens: u64) -> Self {
        self.rules.min_to_call = tokens;
        self
    }

    /// Passes on calls of tools that this name or glob matches without charging for them or cutting
    /// their results. Default: none.
    pub fn exempt_tool(mut self, tool: impl Into<String>) -> Self {
        self.rules.exempt.push(tool.into());
        self
    }

    /// Sets the function that names the conversation of a request, such as by a header or a key in
    /// `_meta`. Where it returns `None`, the [default](super#conversations) applies.
    ///
    /// Names are those of one principal: two principals with the same name have two budgets.
    pub fn conversation_by<F>(mut self, key: F) -> Self
    where
        F: Fn(&McpRequest) -> Option<String> + Send + Sync + 'static,
    {
        self.key = Some(Arc::new(key));
        self
    }

    /// Sets the maximum number of conversations in memory. Default: 10,000.
    ///
    /// At the limit, the least recently used conversation without a call in flight is dropped, and
    /// its next call begins a new window. If all have calls in flight, calls of further ones are
    /// refused.
    pub fn max_conversations(mut self, max: usize) -> Self {
        self.local.max_conversations = max;
        self
    }

    /// Sets the time after which an unused conversation is dropped. `None`: never. Default: 24 h.
    ///
    /// With a [store](Self::store), it is the time from the first use of a window to its end,
    /// because its counters expire.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.local.idle_timeout = timeout.into();
        self
    }

    /// Sets the limits that keep a hostile result from costing much. Default:
    /// [`ResultLimits::default`].
    pub fn result_limits(mut self, limits: ResultLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the part of a long text that a cut keeps. Default: [`KeptText::Head`].
    pub fn kept_text(mut self, kept: KeptText) -> Self {
        self.policy.kept_text = kept;
        self
    }

    /// Sets the parts that are kept where text repeats `structuredContent`. Default:
    /// [`RepeatedText::Both`].
    pub fn repeated_text(mut self, kept: RepeatedText) -> Self {
        self.policy.repeated = kept;
        self
    }

    /// Sets the answer where no cut of `structuredContent` is valid by the tool's output schema.
    /// Default: [`OnSchemaMisfit::ToolError`].
    pub fn on_schema_misfit(mut self, answer: OnSchemaMisfit) -> Self {
        self.policy.on_misfit = answer;
        self
    }

    /// Sets the way in which the cost of a result that fits is found. Default: [`Charge::Count`].
    pub fn charge(mut self, charge: Charge) -> Self {
        self.policy.charge = charge;
        self
    }

    /// Sets whether the full results of cuts are kept. Default: `true`.
    ///
    /// Without them, a cut's note does not say how to get the rest, and the layer has neither a tool
    /// nor resources of its own.
    pub fn keep_results(mut self, keep: bool) -> Self {
        self.keeps_results = keep;
        self
    }

    /// Sets the maximum size of all kept results in memory, in bytes. Default: 256 MiB (the least
    /// recently used is dropped).
    pub fn max_kept_bytes(mut self, bytes: usize) -> Self {
        self.kept.max_bytes = bytes;
        self
    }

    /// Sets the maximum size of one caller's kept results in memory, in bytes. Default: 64 MiB (the
    /// least recently used is dropped).
    pub fn max_kept_bytes_per_caller(mut self, bytes: usize) -> Self {
        self.kept.max_owner_bytes = bytes;
        self
    }

    /// Sets the maximum size of one kept result, in bytes. A longer one is cut and not kept.
    /// Default: 32 MiB.
    pub fn max_kept_item_bytes(mut self, bytes: usize) -> Self {
        self.kept.max_item_bytes = bytes;
        self
    }

    /// Sets the time for which a result is kept. Default: 30 min.
    pub fn kept_time_to_live(mut self, time_to_live: Duration) -> Self {
        self.kept.time_to_live = time_to_live;
        self
    }

    /// Sets the size of a page of a kept result, in tokens. Default: 8,000. A page is never larger
    /// than the share of the call that was cut.
    ///
    /// Pages have one length in bytes, by the tokens of the result's start. One that costs more than
    /// the share of its read ends earlier, and its note says where to go on.
    pub fn page_tokens(mut self, tokens: u64) -> Self {
        self.page_tokens = tokens;
        self
    }

    /// Sets the name of the tool that reads kept results. `None`: there is none, and the notes of
    /// cuts name a `result://` URI. Default: `read_result`.
    pub fn read_tool(mut self, name: impl Into<Option<String>>) -> Self {
        self.read_tool = name.into();
        self
    }

    /// Sets whether the definitions in `tools/list`, `prompts/list` and `skills/list` are counted
    /// and charged for, once for each conversation. Default: `false`.
    ///
    /// [`BudgetHandle::definitions`](super::BudgetHandle::definitions) reports them. A list is never
    /// refused or cut.
    pub fn count_definitions(mut self, count: bool) -> Self {
        self.counts_definitions = count;
        self
    }

    /// Sets the number of tokens above which a counted definition is warned of in the log, once.
    /// `None`: never. Default: 1,000.
    pub fn warn_definitions_above(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.warn_definitions_above = tokens.into();
        self
    }

    /// Sets the [`RESULT_SIZE_META_KEY`](super::RESULT_SIZE_META_KEY) of listed tools without their
    /// own, in characters. `None`: it is not set. Default: 500,000, the greatest that Claude Code
    /// accepts, because the layer has cut the results already.
    pub fn declared_result_size(mut self, characters: impl Into<Option<u64>>) -> Self {
        self.declared_result_size = characters.into();
        self
    }

    /// Sets the thresholds that a conversation's use is told of, in percent of the usable window:
    /// each in a log event and to [`on_threshold`](Self::on_threshold), once in a window. Default:
    /// 50, 80 and 95.
    pub fn thresholds(mut self, percent: impl IntoIterator<Item = u8>) -> Self {
        self.thresholds = percent.into_iter().collect();
        self
    }

    /// Sets the function that is called when a threshold is crossed. It must not block. Of several
    /// thresholds that one charge crosses, it is told of the highest.
    pub fn on_threshold<F>(mut self, function: F) -> Self
    where
        F: Fn(&ThresholdCrossed) + Send + Sync + 'static,
    {
        self.on_threshold = Some(Arc::new(function));
        self
    }

    /// Sets whether results have their tokens in their `_meta`, under
    /// [`BUDGET_META_KEY`](super::BUDGET_META_KEY). Default: `true`.
    pub fn report_in_meta(mut self, report: bool) -> Self {
        self.reports_in_meta = report;
        self
    }

    /// Sets the store of the budgets and the kept results, for processes that serve the same
    /// conversations in turn. Default: the memory of this process.
    ///
    /// While the store cannot be reached, calls are refused, because their budget is not known.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Sets the time that an operation of the store may take. Default: 500 ms.
    pub fn store_timeout(mut self, timeout: Duration) -> Self {
        self.store_timeout = timeout;
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// Returns an error if the window has no room for a call, if a fraction is not above 0 and at
    /// most 1, if a limit is 0, or if the tool's name is not one. It names the setting.
    pub fn build(self) -> Result<BudgetLayer, ConfigError> {
        self.check()?;
        let mut thresholds = self.thresholds;
        thresholds.sort_unstable();
        let thresholds: Arc<[u8]> = thresholds.into();
        let time_to_live = self.local.idle_timeout;
        let ledger = match &self.store {
            None => Ledger::Local(LocalLedger::new(self.budget, thresholds, self.local)),
            Some(store) => {
                let settings = SharedSettings {
                    store: store.clone(),
                    patience: self.store_timeout,
                    time_to_live,
                };
                Ledger::Shared(Arc::new(SharedLedger::new(
                    self.budget,
                    thresholds,
                    settings,
                )))
            }
        };
        let store = self.store.map(|store| KeptStore {
            store,
            patience: self.store_timeout,
        });
        let kept = self
            .keeps_results
            .then(|| KeptResults::new(self.kept, store));
        let read_tool = self.read_tool.filter(|_| kept.is_some());
        let definitions = self
            .counts_definitions
            .then(|| Definitions::new(self.counter.clone(), self.warn_definitions_above));
        Ok(BudgetLayer {
            shared: Arc::new(Shared {
                ledger,
                fitter: Fitter::new(self.counter, self.media, self.limits, self.policy),
                rules: self.rules,
                key: self.key,
                kept,
                read_tool: read_tool.map(|name| read_result::definition(&name)),
                page_tokens: self.page_tokens,
                hides_output_schemas: self.policy.on_misfit == OnSchemaMisfit::DropStructured,
                declared_result_size: self.declared_result_size,
                tools: Default::default(),
                definitions,
                on_threshold: self.on_threshold,
                reports_in_meta: self.reports_in_meta,
                counters: Counters::default(),
            }),
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |option, reason: String| Err(ConfigError::new("budget", option, reason));
        let (usable, least) = (self.budget.usable(), self.rules.min_to_call);
        if usable < least.max(1) {
            return wrong(
                "total_tokens",
                format!(
                    "without the reserved parts, {usable} of {} tokens are left, and a call needs \
                     {least}; give a larger window, or lower `min_to_call`",
                    self.budget.total_tokens
                ),
            );
        }
        let by_kind = self.rules.by_kind.iter().map(|(_, fraction)| *fraction);
        let by_tool = self.rules.by_tool.iter().map(|(_, fraction)| *fraction);
        let mut fractions = std::iter::once(self.rules.max_fraction)
            .chain(by_kind)
            .chain(by_tool);
        if let Some(fraction) = fractions.find(|fraction| !(*fraction > 0.0 && *fraction <= 1.0)) {
            let reason = format!("{fraction} is not a fraction; give a number above 0, at most 1");
            return wrong("max_fraction", reason);
        }
        if let Some(percent) = self
            .thresholds
            .iter()
            .find(|percent| !(1..=100).contains(*percent))
        {
            let reason = format!("{percent} is not a percentage from 1 to 100");
            return wrong("thresholds", reason);
        }
        for (option, value) in [
            ("max_conversations", self.local.max_conversations),
            ("max_kept_bytes", self.kept.max_bytes),
            ("max_kept_bytes_per_caller", self.kept.max_owner_bytes),
            ("max_kept_item_bytes", self.kept.max_item_bytes),
            (
                "page_tokens",
                usize::try_from(self.page_tokens).unwrap_or(usize::MAX),
            ),
        ] {
            if value == 0 {
                return wrong(option, "it is 0; give at least 1".to_owned());
            }
        }
        if self.read_tool.as_ref().is_some_and(String::is_empty) {
            let reason = "it is empty; give a name, or `None` for no tool";
            return wrong("read_tool", reason.to_owned());
        }
        Ok(())
    }
}

impl fmt::Debug for BudgetLayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetLayerBuilder")
            .field("budget", &self.budget)
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .field("policy", &self.policy)
            .field("keeps_results", &self.keeps_results)
            .field("read_tool", &self.read_tool)
            .field("counts_definitions", &self.counts_definitions)
            .finish_non_exhaustive()
    }
}
