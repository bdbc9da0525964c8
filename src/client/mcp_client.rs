use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rmcp::model::{Extensions, InitializeRequestParams, ProgressToken, RequestMetaObject};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    McpClientBuilder,
    call::{CallOptions, ClientCall},
    call_sink::{CallSink, Recipient},
    handler::ErasedHandler,
};
use crate::{
    Caller, Error, McpRequest, McpResponse, Stack,
    caller::Session,
    protocol,
    util::{
        deadline::{end_of, reached},
        lock, panics,
    },
};

/// The client end of a stack: typed calls into it.
///
/// Every call takes `&self`, so one client serves many tasks concurrently. Cloning is cheap and
/// returns another handle on the same session. The client adds:
///
/// - **Types.** There is a method for every request of the protocol, with rmcp's own params and
///   results. Failures are [`Error`]s.
/// - **Pages.** `list_all_*` follows `nextCursor` to the end.
/// - **Progress.** [`call_tool`](Self::call_tool) can yield progress as a stream beside the result.
/// - **Timeouts.** Every message of the server resets the request timeout. Nothing resets the total
///   timeout.
/// - **Cancellation.** Dropping a call's future, or its timeout, cancels the call at the server.
/// - **Input.** With a [handler](McpClientBuilder::handler), the client answers a server's requests
///   for input: as rounds of the call (MRTR, MCP 2026-07-28, SEP-2322) or, from an older server, as
///   separate requests.
/// - **Tasks.** A tool call that the server turns into a task (SEP-2663) is polled to its end.
///
/// The client speaks as a 2026-07-28 caller: each request's `_meta` has the revision, the client's
/// identity and its capabilities. There is no handshake. [`discover`](Self::discover) returns the
/// identity and capabilities of the stack.
///
/// It runs on tokio, with the time driver enabled.
///
/// ```
/// use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};
/// use rmcp_layers::{Error, Handler, McpClient};
///
/// struct Greeter;
///
/// impl ServerHandler for Greeter {
///     async fn call_tool(
///         &self,
///         call: CallToolRequestParams,
///         _context: RequestContext<RoleServer>,
///     ) -> Result<CallToolResponse, ErrorData> {
///         let name = call.arguments.and_then(|all| Some(all.get("name")?.as_str()?.to_owned()));
///         let greeting = format!("Hello {}", name.unwrap_or_default());
///         Ok(CallToolResult::success(vec![ContentBlock::text(greeting)]).into())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let client = McpClient::new(Handler::new(Greeter)); // layers go around the handler
/// let result = client.call_tool("greet").argument("name", "Ada").await?;
/// assert_eq!(result.content[0].as_text().unwrap().text, "Hello Ada");
/// # Ok(())
/// # }
/// ```
pub struct McpClient<S> {
    stack: Mutex<S>,
    pub(super) shared: Arc<Shared>,
}

/// State that all clones of a client share.
pub(super) struct Shared {
    /// The description of the client in each request.
    pub(super) introduction: RequestMetaObject,
    /// The same description as a handshake, if the client speaks an older revision.
    pub(super) handshake: Option<Arc<InitializeRequestParams>>,
    pub(super) supports_tasks: bool,
    pub(super) mrtr_max_rounds: usize,
    pub(super) request_timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) session: Arc<Session>,
    pub(super) handler: Option<Arc<dyn ErasedHandler>>,
}

impl<S: Stack> McpClient<S> {
    /// Creates a client of `stack` with the builder's defaults and no handler.
    #[must_use]
    pub fn new(stack: S) -> Self {
        Self::builder(stack).build()
    }

    pub(super) fn over(stack: S, shared: Arc<Shared>) -> Self {
        Self {
            stack: Mutex::new(stack),
            shared,
        }
    }

    /// Returns a builder of a client of `stack`.
    pub fn builder(stack: S) -> McpClientBuilder<S> {
        McpClientBuilder::new(stack)
    }

    /// Sends one request without rounds or polling, and returns its answer unchanged.
    ///
    /// Only missing facts are added: the client's description in `_meta`, and the client's handler
    /// as the caller if the request's caller is [detached](Caller::detached). The client's timeouts
    /// apply, and so does the request's own [deadline](crate::CallContext::deadline), if it is
    /// earlier.
    ///
    /// # Errors
    ///
    /// A timeout, or any other error of the stack.
    pub async fn send(&self, mut request: McpRequest) -> Result<McpResponse, Error> {
        let context = &mut request.context;
        let detached = context.caller.is_detached();
        let recipient = if detached {
            Recipient::Handler(self.shared.handler.clone())
        } else {
            Recipient::Caller(context.caller.clone())
        };
        let sink = CallSink::new(None, recipient);
        context.caller = if detached {
            self.caller(&sink)
        } else {
            let caller = context.caller.wrap(|_| sink.clone());
            match caller.session() {
                Some(_) => caller,
                None => caller.in_session(self.shared.session.clone()),
            }
        };
        let mut meta = self.introduction();
        meta.extend(std::mem::take(&mut context.meta));
        if detached && meta.get_progress_token().is_none() {
            meta.set_progress_token(ProgressToken(context.id.clone()));
        }
        context.meta = meta;
        let total = self.shared.total_timeout;
        let started = Instant::now();
        let deadline = [context.deadline, end_of(total)]
            .into_iter()
            .flatten()
            .min();
        context.deadline = deadline;
        let cancellation = context.cancellation.clone();
        tokio::select! {
            biased;
            result = self.dispatch(request, &sink, self.shared.request_timeout) => result,
            () = reached(deadline) => {
                let end = deadline.unwrap_or(started);
                Err(Error::timeout(end.saturating_duration_since(started)))
            }
            () = cancellation.cancelled() => Err(Error::cancelled("the caller cancelled the request")),
        }
    }

    /// Sends one request through a clone of the stack, until the request timeout.
    pub(super) async fn dispatch(
        &self,
        mut request: McpRequest,
        sink: &CallSink,
        request_timeout: Option<Duration>,
    ) -> Result<McpResponse, Error> {
        let unreadable = protocol::set_aside(&mut request);
        let answer = panics::caught_call(self.stack().oneshot(request));
        sink.activity.record();
        tokio::select! {
            biased;
            result = answer => match unreadable {
                None => result,
                Some(unreadable) => Err(unreadable.answer(result)),
            },
            () = sink.activity.silent_for(request_timeout) => {
                Err(Error::timeout(request_timeout.unwrap_or_default()))
            }
        }
    }

    pub(super) fn stack(&self) -> S {
        lock(&self.stack).clone()
    }

    /// Returns the caller for a request with this destination.
    pub(super) fn caller(&self, sink: &Arc<CallSink>) -> Caller {
        self.in_session(Caller::new(sink.clone()))
            .answering_requests(self.shared.handler.is_some())
    }

    /// Puts a caller in the client's session.
    pub(super) fn in_session(&self, caller: Caller) -> Caller {
        caller
            .in_session(self.shared.session.clone())
            .with_handshake(self.shared.handshake.clone())
    }

    /// Returns the description of the client for a request.
    pub(super) fn introduction(&self) -> RequestMetaObject {
        let mut meta = self.shared.introduction.clone();
        if let Some(level) = self.shared.session.log_level() {
            meta.set_log_level(level);
        }
        meta
    }

    /// Returns a call with the client's own options.
    pub(super) fn call(&self) -> ClientCall<'_, S> {
        ClientCall::new(self, self.options())
    }

    pub(super) fn options(&self) -> CallOptions {
        CallOptions {
            meta: RequestMetaObject::new(),
            extensions: Extensions::new(),
            request_timeout: self.shared.request_timeout,
            total_timeout: self.shared.total_timeout,
            cancellation: CancellationToken::new(),
            progress: None,
        }
    }
}

impl<S: Clone> Clone for McpClient<S> {
    fn clone(&self) -> Self {
        let stack = lock(&self.stack).clone();
        Self {
            stack: Mutex::new(stack),
            shared: self.shared.clone(),
        }
    }
}

impl<S> std::fmt::Debug for McpClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("McpClient")
            .field("session", &self.shared.session)
            .field("request_timeout", &self.shared.request_timeout)
            .field("total_timeout", &self.shared.total_timeout)
            .finish_non_exhaustive()
    }
}
