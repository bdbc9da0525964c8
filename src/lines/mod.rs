//! Messages as lines over a reader and a writer: the stdio transport of MCP, with an answer to
//! messages that cannot be read.

mod direct;
mod envelope;
mod lifecycle;
mod reader;
mod received;
mod start;
mod writer;

use std::{fmt, io};

use futures::FutureExt;
use rmcp::{
    RoleServer,
    model::{ErrorCode, ErrorData, JsonRpcError, JsonRpcMessage},
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::Bytes;

use self::{direct::DirectLines, lifecycle::Lifecycle, reader::Reader, received::ReceivedRequests};
pub(crate) use self::{
    envelope::Kind,
    reader::{LineError, UnreadableLine},
    writer::LineWriter,
};
use crate::{
    protocol::outgoing::trim_request,
    wire::{self, caller::FromCaller, received::AnswerText},
};

/// The default limit of a line's length: 16 MiB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// JSON-RPC messages, one on each line, over any reader and writer (MCP 2026-07-28,
/// basic/transports, stdio).
///
/// rmcp's transport for `(reader, writer)` skips lines that are too long or are not JSON, so the
/// other side waits for an answer until its timeout. This transport reports such lines at once:
///
/// - **As a server's transport** (`McpServer::new(stack).serve(Lines::from(stdio()))`), a request
///   that cannot be read is answered with an error that names the reason: `-32700` if it is not
///   JSON, `-32600` if it is too long or not a JSON-RPC message. The error has the request's `id`.
///   If the `id` cannot be read, the error has none, as in MCP's schema (`JSONRPCErrorResponse`),
///   where JSON-RPC 2.0, section 5, has `null`. A client's answer that cannot be read fails the
///   request that it answers.
/// - **As a client's transport** ([`UpstreamBuilder::lines`](crate::UpstreamBuilder::lines)), an
///   answer that cannot be read fails only the call that it answers. The linked method documents
///   how that call is found.
///
/// A request of a method of the protocol whose `params` or `_meta` is not an object goes on to
/// [`McpServer`](crate::McpServer), which answers it with `-32602` and has it on record. So does a
/// list request whose `cursor` is not a string; rmcp would answer it with the first page.
///
/// A notification that is too long, or whose params cannot be read, is skipped, with a warning in
/// the log, because it has no answer. A message without an `id` that is not JSON is answered: it may
/// be a request. Notifications and answers before the first request are skipped too, because rmcp
/// would end the connection.
///
/// # Lenient reading
///
/// - An escape of a surrogate without its other half (`"\ud83d"`) and a byte that is not UTF-8
///   become U+FFFD.
/// - Terminal escape sequences, and text that ends with a carriage return, are ignored before a
///   message.
/// - Other text before a message is ignored if the message is an answer. A log line may quote a
///   request.
/// - Several messages on a line are read one after another.
///
/// A line that is one JSON-RPC message takes none of these steps. Any other line takes time in
/// proportion to its length. An object within a broken message is never read as a message.
///
/// # Limits
///
/// A line may have up to [`max_message_bytes`](Self::max_message_bytes). Default: 16 MiB. The rest
/// of a longer line is read and discarded piece by piece. Only its `id` and its kind of message are
/// kept.
///
/// ```
/// use rmcp::{ServerHandler, ServiceExt};
/// use rmcp_layers::{Handler, Lines, McpServer};
///
/// #[derive(Clone)]
/// struct Empty;
/// impl ServerHandler for Empty {}
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(4096);
/// // A program that its client starts serves `Lines::from(rmcp::transport::stdio())`.
/// let lines = Lines::from(tokio::io::split(far)).max_message_bytes(1024 * 1024);
/// let server = tokio::spawn(McpServer::new(Handler::new(Empty)).serve(lines));
///
/// let client = ().serve(near).await?;
/// assert!(client.peer_info().is_some());
/// # client.cancel().await?;
/// # server.await??;
/// # Ok(())
/// # }
/// ```
pub struct Lines<R, W> {
    reader: Reader<R>,
    writer: LineWriter<W>,
    /// The error to send for a message that cannot be read.
    refusal: Option<JsonRpcError>,
    /// The requests that were received and are not answered.
    received: ReceivedRequests,
    lifecycle: Lifecycle,
    /// The line of a refusal that may not have been written yet.
    unwritten: Option<u64>,
    direct: DirectLines,
}

impl<R, W> Lines<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// Creates a transport that reads from `read` and writes to `write`.
    pub fn new(read: R, write: W) -> Self {
        Self {
            reader: Reader::new(read, MAX_MESSAGE_BYTES),
            writer: LineWriter::new(write),
            refusal: None,
            received: ReceivedRequests::default(),
            lifecycle: Lifecycle::default(),
            unwritten: None,
            direct: DirectLines::default(),
        }
    }

    /// Sets the maximum length of a line, in bytes without its end. A longer line counts as a
    /// message that cannot be read. Default: 16 MiB, as over HTTP. `usize::MAX`: no limit.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.reader.limit(bytes);
        self
    }

    /// Returns the next message, as `read` reads it. It is cancel-safe.
    pub(crate) async fn next<M>(
        &mut self,
        read: impl Fn(&Bytes) -> serde_json::Result<M>,
    ) -> Option<Result<M, UnreadableLine>> {
        if self.send_refusal().await.is_err() {
            return None;
        }
        match self.reader.next(&read).await {
            Ok(line) => line,
            Err(error) => {
                tracing::warn!(%error, "a line cannot be read");
                None
            }
        }
    }

    /// Sets the answer to a request that cannot be read. It is sent before the next line is read.
    pub(crate) fn refuse(&mut self, refusal: JsonRpcError) {
        self.refusal = Some(refusal);
    }

    /// Sends the refusal. After it was dropped, it continues where it stopped.
    async fn send_refusal(&mut self) -> io::Result<()> {
        if let Some(refusal) = self.refusal.take() {
            let text = wire::to_caller(JsonRpcMessage::Error(refusal), None)?;
            self.unwritten = Some(self.writer.push(&text));
        }
        if let Some(number) = self.unwritten {
            self.writer.write_to(number).await?;
            self.unwritten = None;
        }
        Ok(())
    }

    /// Returns the writer of the lines.
    pub(crate) fn writer(&self) -> &LineWriter<W> {
        &self.writer
    }

    /// Closes the writer after the current message.
    pub(crate) async fn shut(&mut self) {
        self.writer.close().await;
    }
}

/// Polls a transport's send once, and returns the rest as a future.
///
/// rmcp runs each send in a task of its own, and tasks may overtake each other: a result its
/// earlier progress, or a cancellation its request. A transport's queue is entered at the first
/// poll, so that poll happens here, in order. An exhausted cooperative budget must not delay it.
pub(crate) fn begun<F>(sending: F) -> impl Future<Output = F::Output> + Send + 'static
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut sending = Box::pin(tokio::task::unconstrained(sending));
    let sent = sending.as_mut().now_or_never();
    async move {
        match sent {
            Some(sent) => sent,
            None => sending.await,
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the transport is closed")
}

impl<R, W> From<(R, W)> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    fn from((read, write): (R, W)) -> Self {
        Self::new(read, write)
    }
}

impl<R, W> fmt::Debug for Lines<R, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("max_message_bytes", &self.reader.max())
            .finish_non_exhaustive()
    }
}

/// The next message of a caller.
enum Next {
    Line(Result<FromCaller, UnreadableLine>),
    /// A message that is handed over to rmcp.
    HandedOver(Box<RxJsonRpcMessage<RoleServer>>),
}

/// The transport of a server.
impl<R, W> Transport<RoleServer> for Lines<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        mut message: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &mut message {
            trim_request(&mut request.request);
        }
        let answer = match &message {
            JsonRpcMessage::Response(response) => self.received.take(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref().and_then(|id| self.received.take(id)),
            _ => None,
        };
        let answer = answer.as_ref().and_then(AnswerText::get);
        self.writer.write(wire::to_caller(message, answer))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let direct = self.direct.clone();
        loop {
            let next = tokio::select! {
                biased;
                message = direct.handed_over() => Next::HandedOver(message),
                next = self.next(wire::caller::read) => match next {
                    Some(next) => Next::Line(next),
                    None => Next::HandedOver(direct.hand_over_rest().await?),
                },
            };
            let line = match next {
                Next::Line(line) => line,
                Next::HandedOver(message) => {
                    if let JsonRpcMessage::Request(request) = &*message {
                        self.received.keep(request);
                    }
                    return Some(*message);
                }
            };
            let broken = match line {
                Ok(FromCaller::Message(mut message)) => {
                    if !self.lifecycle.admit(&mut message) {
                        tracing::warn!(
                            "a message of the client before its first request is skipped"
                        );
                        continue;
                    }
                    let writer = self.writer.clone();
                    let write = async move |answer| {
                        if let Err(error) = writer.write(Ok(answer)).await {
                            tracing::error!(%error, "an answer could not be written");
                        }
                    };
                    let Some(mut message) = direct.take(message, write) else {
                        continue;
                    };
                    if let JsonRpcMessage::Request(request) = &mut *message {
                        wire::caller::replace_refused(&mut request.request);
                        self.received.keep(request);
                    }
                    return Some(*message);
                }
                Ok(FromCaller::Refused(refusal)) => {
                    tracing::warn!(reason = %refusal.error.message, "a message of the client is refused");
                    self.refuse(refusal);
                    continue;
                }
                Err(broken) => broken,
            };
            tracing::warn!(kind = ?broken.kind, reason = %broken.why, "a message of the client cannot be read");
            if let Some(failed) = broken.failed_request() {
                let mut failed = JsonRpcMessage::Error(failed);
                if self.lifecycle.admit(&mut failed) {
                    return Some(failed);
                }
                continue;
            }
            if broken.kind != Kind::Notification || broken.why.may_hide_id() {
                self.refuse(broken.refusal());
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.direct.finish().await;
        self.shut().await;
        Ok(())
    }
}

impl UnreadableLine {
    /// Returns the answer to its sender.
    pub(crate) fn refusal(&self) -> JsonRpcError {
        let (id, what) = match &self.kind {
            Kind::Request(id) => (id.clone(), "the request"),
            Kind::Notification | Kind::Answer(_) | Kind::Noise => (None, "the message"),
        };
        JsonRpcError::new(id, self.why.to_error(what))
    }

    /// Returns the failure of the request that it answers.
    pub(crate) fn failed_request(&self) -> Option<JsonRpcError> {
        let Kind::Answer(Some(id)) = &self.kind else {
            return None;
        };
        let error = self.why.to_error("the client's answer");
        Some(JsonRpcError::new(Some(id.clone()), error))
    }
}

impl LineError {
    /// Returns `true` if a message without an `id` may be a request: the part with its `id` cannot
    /// be read.
    fn may_hide_id(self) -> bool {
        matches!(self, Self::NoJson { .. })
    }

    /// Returns the error for the sender of the message.
    pub(crate) fn to_error(self, what: &str) -> ErrorData {
        let code = match self {
            Self::NoJson { .. } => ErrorCode::PARSE_ERROR,
            Self::TooLong { .. } | Self::NoMessage => ErrorCode::INVALID_REQUEST,
        };
        ErrorData::new(code, format!("{what} cannot be read: {self}"), None)
    }
}
