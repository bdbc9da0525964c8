//! Calls whose results are charged for.

use std::sync::Arc;

use rmcp::model::{CallToolResult, ContentBlock, ServerResult};
use serde_json::{Map, Value};
use tower::ServiceExt;

use super::{
    Conversation,
    conversation::Owner,
    counters,
    fit::{Cut, Density, Fitted, OutputSchema, Rest, ToFit, Unfit, is_longer},
    kept::{KeptId, KeptResult, SCHEME, parts_of},
    ledger::{NotReserved, Reservation},
    lists, report,
    rules::ResultKind,
    state::Shared,
};
use crate::{
    Audience, CallContext, Delivered, Error, Item, Lossless, McpRequest, McpResponse, Refusal,
    Stack, code,
    response::CallResult,
    util::{metrics::count, text::boundary},
};

/// The start of a text by which the length of pages is found, in bytes.
const SAMPLE: usize = 64 * 1024;
/// The least length of a page in bytes.
const MIN_PAGE: usize = 256;

/// Runs a call within its share.
pub(super) async fn run<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
    kind: ResultKind,
) -> CallResult {
    let conversation = Conversation::of(&request, shared.key.as_ref());
    let asked = shared.rules.request(kind, &request);
    let reservation = match shared.reserve(conversation.as_ref(), asked).await {
        Ok(reservation) => reservation,
        Err(reason) => return refused(&reason, asked.min_to_call, kind),
    };
    run_within(shared, inner, request, kind, conversation, reservation).await
}

/// Runs a call within a share that is reserved.
pub(super) async fn run_within<S: Stack>(
    shared: Arc<Shared>,
    inner: S,
    request: McpRequest,
    kind: ResultKind,
    conversation: Option<Conversation>,
    reservation: Reservation,
) -> CallResult {
    let call = Call::of(&shared, &request, kind);
    let lister = call.is_unlisted(&shared).then(|| Lister {
        inner: inner.clone(),
        context: request.context.to_background(),
    });
    let response = inner.oneshot(request).await.map_err(Into::into)?;
    let share = usize::try_from(reservation.share()).unwrap_or(usize::MAX);
    let (response, charge) = match shared.fitter.cost_of_short(&response.result, share) {
        Some(cost) => (response, Charge::of(cost)),
        // The future of every call is as large as its largest branch, and most results are short.
        None => Box::pin(call.fit(&shared, lister, response, share)).await?,
    };
    finish(
        &shared,
        conversation.as_ref(),
        reservation,
        response,
        charge,
    )
    .await
}

/// The facts of a call that its result needs.
struct Call {
    kind: ResultKind,
    /// The name of the called tool or prompt, or the URI of the resource.
    target: String,
    owner: Owner,
    audience: Audience,
    /// `true` if the caller may call the tool that reads kept results.
    sees_read_tool: bool,
}

/// The way to a list of tools, if the called one is not known.
struct Lister<S> {
    inner: S,
    context: CallContext,
}

/// A result before its cut.
struct Full {
    result: Lossless<ServerResult>,
    /// The JSON of its structured content, if it was written.
    structured: Option<String>,
    /// The density of its longest text. Without it, the start of the text is counted.
    density: Option<Density>,
}

/// The tokens of a result.
#[derive(Default)]
pub(super) struct Charge {
    pub tokens: u64,
    pub saved: u64,
    /// The report in the `_meta` beside them.
    pub meta: Map<String, Value>,
}

impl Call {
    fn of(shared: &Shared, request: &McpRequest, kind: ResultKind) -> Self {
        let context = &request.context;
        let target = request.target().unwrap_or_default().to_owned();
        let audience = Audience::of(context);
        Self {
            kind,
            owner: Owner::in_audience(audience.clone(), context),
            audience,
            sees_read_tool: sees_read_tool(shared, context),
            target,
        }
    }

    /// Returns `true` if the output schema of the called tool may matter and is not known.
    fn is_unlisted(&self, shared: &Shared) -> bool {
        self.kind == ResultKind::Tool
            && !shared.hides_output_schemas
            && shared
                .tools
                .is_to_be_asked_for(&self.audience, &self.target)
    }

    /// Returns the output schema that a cut must not break.
    async fn schema<S: Stack>(
        &self,
        shared: &Shared,
        lister: Option<Lister<S>>,
        result: &Lossless<ServerResult>,
        share: usize,
    ) -> Option<Arc<OutputSchema>> {
        let ServerResult::CallToolResult(tool) = &**result else {
            return None;
        };
        // Without structured content there is nothing to validate.
        tool.structured_content.as_ref()?;
        let known = || shared.tools.schema(&self.audience, &self.target);
        if let (None, Some(Lister { inner, context })) = (known(), lister)
            && may_exceed(result, tool, share)
        {
            lists::learn_tools(shared, inner, &context, &self.audience).await;
        }
        known().flatten()
    }

    fn rest(&self, shared: &Shared, id: KeptId) -> Option<Rest> {
        shared.kept.as_ref()?;
        let uri = format!("{SCHEME}{id}");
        let tool = shared.read_tool.as_ref().filter(|_| self.sees_read_tool);
        let note = match tool {
            Some(tool) => format!("Call {} with {{\"id\":\"{id}\"}} for the rest.", tool.name),
            None => format!("Read the resource {uri} for the rest."),
        };
        Some(Rest {
            note,
            uri: Some(uri),
        })
    }

    /// Returns the response within its share, and its cost.
    async fn fit<S: Stack>(
        &self,
        shared: &Arc<Shared>,
        lister: Option<Lister<S>>,
        response: McpResponse,
        share: usize,
    ) -> Result<(McpResponse, Charge), Error> {
        let schema = self.schema(shared, lister, &response.result, share).await;
        let mut parts = response.into_parts();
        let id = KeptId::random();
        let mut rest = self.rest(shared, id);
        let mut result = parts.result;
        loop {
            let to_fit = ToFit {
                result,
                share,
                schema: schema.clone(),
                rest: rest.clone(),
            };
            let Fitted {
                result: fitted,
                cost,
                cut,
            } = match shared.fitter.fit(to_fit).await {
                Ok(fitted) => fitted,
                Err(unfit) => return self.unfit(shared, unfit, id, share).await,
            };
            let mut charge = Charge::of(cost);
            let mut is_kept = false;
            let mut cut = cut;
            if let Some(cut) = &mut cut
                && rest.is_some()
            {
                let empty = Lossless::new(ServerResult::empty(()));
                let original = std::mem::replace(&mut cut.original, empty);
                let full = Full {
                    result: original,
                    structured: cut.structured_text.take(),
                    density: cut.density,
                };
                let (kept, original) = self.keep(shared, id, full, share).await;
                is_kept = kept;
                match original {
                    Some(original) if !kept => {
                        // The note would promise a rest that is not there.
                        rest = None;
                        result = original;
                        continue;
                    }
                    original => drop_long(original),
                }
            }
            parts.result = fitted;
            let mut response = McpResponse::from(parts);
            if let Some(cut) = cut {
                charge.note_cut(shared, &cut, is_kept.then_some(id));
                // The share and the kept result are this caller's.
                response.mark_session_private();
                drop_long(cut);
            }
            return Ok((response, charge));
        }
    }

    /// Keeps a result, and returns it. Returns `false` if it cannot be kept.
    async fn keep(
        &self,
        shared: &Shared,
        id: KeptId,
        full: Full,
        share: usize,
    ) -> (bool, Option<Lossless<ServerResult>>) {
        let Some(kept) = &shared.kept else {
            return (false, Some(full.result));
        };
        let Full {
            result: original,
            structured,
            density,
        } = full;
        let read = move || (parts_of(&original, structured), original);
        let read = tokio::task::spawn_blocking(read).await;
        let Ok((parts, original)) = read else {
            return (false, None);
        };
        // A page has about as many bytes as the start of the text has for so many tokens.
        let page_tokens = tokens(share).min(shared.page_tokens);
        let main = KeptResult::new(parts, 0);
        let part = main.main_part().filter(|part| !part.data.is_empty());
        let Some(part) = part else {
            return (false, Some(original));
        };
        let density = match density {
            Some(density) => density,
            None => {
                let sample = start_of(&part.data, SAMPLE);
                let bytes = sample.len();
                let Some(tokens) = shared.fitter.count(sample).await else {
                    return (false, Some(original));
                };
                Density { bytes, tokens }
            }
        };
        let count = tokens(density.tokens).max(1);
        let page_bytes = tokens(density.bytes).saturating_mul(page_tokens) / count;
        let page_bytes = usize::try_from(page_bytes).unwrap_or(usize::MAX);
        let result = main.with_page_bytes(page_bytes.max(MIN_PAGE));
        (kept.keep(&self.owner, id, result).await, Some(original))
    }

    /// Answers in place of a result that cannot be cut to its share.
    async fn unfit(
        &self,
        shared: &Shared,
        unfit: Unfit,
        id: KeptId,
        share: usize,
    ) -> Result<(McpResponse, Charge), Error> {
        let mut is_kept = false;
        if let Some(original) = unfit.original
            && shared.kept.is_some()
        {
            let full = Full {
                result: *original,
                structured: None,
                density: None,
            };
            (is_kept, _) = self.keep(shared, id, full, share).await;
        }
        let rest = self.rest(shared, id).filter(|_| is_kept);
        let rest = rest.map_or_else(
            || "Ask for less, such as a part or a summary.".to_owned(),
            |rest| rest.note,
        );
        let text = format!(
            "The result of {} was not delivered: {}. {rest}",
            self.target, unfit.reason
        );
        if self.kind != ResultKind::Tool {
            let refusal = Refusal::new("budget", text)
                .with_code(code::TOO_LARGE)
                .with_delivered(Delivered::Yes);
            return Err(refusal.into());
        }
        let charge = Charge::of(cost_of(shared, &text).await);
        let mut response = tool_error(text);
        response.mark_session_private();
        Ok((response, charge))
    }
}

impl Charge {
    pub(super) fn of(cost: usize) -> Self {
        Self {
            tokens: tokens(cost),
            ..Self::default()
        }
    }

    fn note_cut(&mut self, shared: &Shared, cut: &Cut, id: Option<KeptId>) {
        self.saved = tokens(cut.total).saturating_sub(self.tokens);
        let mut facts = cut.to_meta();
        if let Some(id) = id {
            facts.insert("id".to_owned(), id.to_string().into());
            facts.insert("uri".to_owned(), format!("{SCHEME}{id}").into());
        }
        self.meta.insert("cut".to_owned(), Value::Object(facts));
        counters::add(&shared.counters.cuts, 1);
        counters::add(&shared.counters.saved, self.saved);
        let outcome = match cut {
            cut if cut.became_error => "tool_error",
            cut if cut.dropped_structured => "dropped_structured",
            _ => "cut",
        };
        count!(budget.cuts, 1_u64, outcome = outcome);
        count!(budget.saved_tokens, self.saved);
    }
}

/// Settles a reservation for a response, and reports it.
pub(super) async fn finish(
    shared: &Shared,
    conversation: Option<&Conversation>,
    reservation: Reservation,
    mut response: McpResponse,
    charge: Charge,
) -> CallResult {
    let share = reservation.share();
    let balance = shared
        .settle(conversation, reservation, charge.tokens)
        .await;
    // Without an answer of the store, the share stays reserved.
    let charged = balance.map_or(share, |_| charge.tokens);
    report::write(
        &mut response,
        charged,
        charge.saved,
        balance.as_ref(),
        charge.meta,
        shared.reports_in_meta,
    );
    Ok(response)
}

/// Answers a call that has no share.
///
/// A tool's caller is a model, which sees results and mostly not JSON-RPC errors. So it gets a tool
/// error, whose text says what to do. Retry and breaker then do not repeat the call either.
pub(super) fn refused(reason: &NotReserved, min_to_call: u64, kind: ResultKind) -> CallResult {
    let text = match reason {
        NotReserved::Exhausted { available } => format!(
            "The context budget of this conversation is used up: {available} tokens are left, and a \
             call needs at least {min_to_call}. The call was not made. Do not call more tools. Answer \
             with what you have, or continue in a new conversation."
        ),
        NotReserved::TooManyConversations => {
            let text =
                "all conversations that may have a budget have calls in flight; try again later";
            return Err(Refusal::new("budget", text).into());
        }
        NotReserved::Store(error) => {
            let text = "the store of the budgets does not answer; try again later";
            let refusal = Refusal::new("budget", text).with_source(error.clone());
            return Err(refusal.into());
        }
    };
    match kind {
        ResultKind::Tool => Ok(tool_error(text)),
        ResultKind::Resource | ResultKind::Prompt => Err(Refusal::new("budget", text)
            .with_code(code::TOO_LARGE)
            .into()),
    }
}

/// Returns a result that tells the model about a failure.
pub(super) fn tool_error(text: impl Into<String>) -> McpResponse {
    let mut response = McpResponse::new(CallToolResult::error(vec![ContentBlock::text(text)]));
    response.mark_session_private();
    response
}

/// Returns `true` if the caller may call the tool that reads kept results.
pub(super) fn sees_read_tool(shared: &Shared, context: &CallContext) -> bool {
    let tool = shared.read_tool.as_ref();
    tool.is_some_and(|tool| context.sees(Item::Tool(&tool.name)))
}

/// Returns the cost of a text of the layer's own.
pub(super) async fn cost_of(shared: &Shared, text: &str) -> usize {
    let counted = shared.fitter.count(text.into()).await;
    // A text has at most as many tokens as bytes.
    counted.unwrap_or(text.len())
}

pub(super) fn tokens(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn start_of(text: &str, max: usize) -> Arc<str> {
    text[..boundary(text, max)].into()
}

/// Returns `false` if the structured content certainly costs less than the share.
fn may_exceed(result: &Lossless<ServerResult>, tool: &CallToolResult, share: usize) -> bool {
    if let Some(source) = result.source()
        && source.text().len() <= share
    {
        return false;
    }
    let structured = tool.structured_content.as_ref();
    structured.is_some_and(|value| is_longer(value, share))
}

/// Drops a value that may be long on a thread for blocking work: millions of values take a while.
fn drop_long<T: Send + 'static>(value: T) {
    drop(tokio::task::spawn_blocking(move || drop(value)));
}
