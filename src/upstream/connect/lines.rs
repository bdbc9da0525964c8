use std::{collections::VecDeque, io, sync::Arc};

use futures::FutureExt;
use rmcp::{
    RoleClient,
    model::JsonRpcError,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::Bytes;

use super::direct_lines::DirectLines;
use crate::{
    Error,
    lines::{self, Lines, UnreadableLine},
    upstream::{
        Upstream, UpstreamBuilder,
        builder::Lifecycle,
        connection::{Connection, Handshake, Kind, TransportProfile},
        errors,
        route::Routes,
    },
    wire::{self, answers::batch_in},
};

impl UpstreamBuilder {
    /// Connects over any reader and writer with one message a line: a socket, a pipe, or the
    /// streams of a process that is started by other means. `make` makes a reader and a writer for
    /// each connection.
    ///
    /// An answer cannot be read if it is longer than
    /// [`max_message_bytes`](Lines::max_message_bytes), is not JSON, or is not an MCP message. It
    /// fails its call at once with a [transport error](crate::TransportError) that says so; the
    /// server may have carried out the request. Other calls go on. The call is found as follows:
    ///
    /// - By the `id` in the line, if the `id` can be read from the part that arrived.
    /// - Otherwise it is the only call in flight. If there are several, it is the call that is left
    ///   when the others have been answered, and that call fails then: no call fails for another's
    ///   answer. Calls that were cancelled within the last minute count, because they may still be
    ///   answered. A listen does not.
    /// - A line that is not meant as a message, for example a log line, is skipped.
    ///
    /// An error whose `id` is null, missing, or an id that the client does not give answers a call
    /// that is found in the same way. That call fails with the server's error. If several such
    /// errors came while several calls were in flight, it fails with a transport error. "Method not
    /// found" without an `id` answers no call.
    ///
    /// A request of the server that cannot be read is answered with an error.
    pub fn lines<R, W, E, F, Fut>(self, make: F) -> Upstream
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Lines<R, W>, E>> + Send + 'static,
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let make = Arc::new(make);
        self.build("lines", Lifecycle::Auto, move |handshake| {
            let make = make.clone();
            Box::new(move || connect(make(), handshake.clone()).boxed())
        })
    }
}

/// Connects over the lines that `made` resolves to.
async fn connect<R, W, E>(
    made: impl Future<Output = Result<Lines<R, W>, E>>,
    handshake: Handshake,
) -> Result<Connection, Error>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let lines = made
        .await
        .map_err(|error| errors::of_spawn(&handshake.upstream, "cannot connect", error))?;
    let direct = DirectLines::new(lines.writer().clone(), &handshake);
    let profile = TransportProfile {
        direct: Some(Box::new(direct)),
        ..TransportProfile::of(Kind::Other)
    };
    let transport = |routes| ClientLines::new(lines, routes);
    Connection::establish_with(transport, handshake, profile).await
}

/// The lines of a server. It tells the calls of lines that cannot be read.
pub(super) struct ClientLines<R, W> {
    lines: Lines<R, W>,
    routes: Arc<Routes>,
    /// The rest of the messages of a batch.
    batch: VecDeque<Bytes>,
}

/// The messages on a line.
enum Incoming {
    Message(Box<RxJsonRpcMessage<RoleClient>>),
    Batch(Vec<Bytes>),
}

impl<R, W> Transport<RoleClient> for ClientLines<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.lines.writer().write(wire::to_server(message))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            // With this answer rmcp forgets the request too.
            if let Some(failed) = self.routes.next_failed() {
                return Some(failed);
            }
            match self.next().await? {
                Ok(Incoming::Message(message)) => {
                    if let Some(named) = self.routes.withhold_unattributed(*message) {
                        return Some(named);
                    }
                }
                Ok(Incoming::Batch(messages)) => self.batch.extend(messages),
                Err(line) => self.handle_unreadable(line),
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.lines.shut().await;
        Ok(())
    }
}

impl<R, W> ClientLines<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn new(lines: Lines<R, W>, routes: Arc<Routes>) -> Self {
        Self {
            lines,
            routes,
            batch: VecDeque::new(),
        }
    }

    /// Returns the next message of a batch, or else the next line.
    async fn next(&mut self) -> Option<Result<Incoming, UnreadableLine>> {
        let read = |text: &Bytes| {
            let message = self.routes.read(text)?;
            Ok(Incoming::Message(Box::new(message)))
        };
        if let Some(text) = self.batch.pop_front() {
            return Some(read(&text).map_err(|error| UnreadableLine::of(&text, &error)));
        }
        let line = |text: &Bytes| match batch_in(text) {
            Some(messages) => Ok(Incoming::Batch(messages)),
            None => read(text),
        };
        self.lines.next(line).await
    }

    fn handle_unreadable(&mut self, UnreadableLine { kind, why }: UnreadableLine) {
        if kind == lines::Kind::Noise {
            tracing::debug!("a line of the server is not a message, so it is skipped");
            return;
        }
        self.routes.counters().unreadable(&why);
        match kind {
            lines::Kind::Answer(id) => self.routes.unreadable(id, why),
            lines::Kind::Request(id) => {
                let error = why.to_error("the request");
                self.lines.refuse(JsonRpcError::new(id, error));
            }
            lines::Kind::Notification | lines::Kind::Noise => {}
        }
    }
}
