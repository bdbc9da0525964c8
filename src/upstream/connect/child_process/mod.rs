mod environment;
mod process;
mod stderr;

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use process_wrap::tokio::CommandWrap;
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    process::{ChildStdin, ChildStdout, Command},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use self::{
    environment::Environment,
    process::{LAST_WORDS, Process},
};
use crate::{
    Error,
    lines::MAX_MESSAGE_BYTES,
    upstream::{
        Upstream, UpstreamBuilder,
        builder::Lifecycle,
        connect::lines::ClientLines,
        connection::{Connection, Handshake, Kind, TransportProfile},
        end::{End, Ended},
        errors,
        reconnect::Dial,
        route::Routes,
    },
};

/// The command that starts an MCP server, which communicates over its standard input and output.
///
/// Requires the feature `child-process`.
///
/// The child is started when it is needed, and again when it has ended. On Unix it leads a session
/// and a process group of its own:
///
/// - An interrupt typed at the terminal does not reach it, so that calls can end in good order.
/// - It cannot read the terminal.
/// - When it ends, the processes that it started in that group and left behind are killed.
///
/// # Environment
///
/// A child inherits only the variables that the official Python and TypeScript SDKs inherit:
/// `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER`, and on Windows `APPDATA`, `HOMEDRIVE`,
/// `HOMEPATH`, `LOCALAPPDATA`, `PATH`, `PATHEXT`, `PROCESSOR_ARCHITECTURE`, `PROGRAMFILES`,
/// `SYSTEMDRIVE`, `SYSTEMROOT`, `TEMP`, `USERNAME` and `USERPROFILE`. Values that begin with `()`,
/// which are shell functions, are left out. So the secrets in this process's environment do not
/// reach every server.
///
/// - [`env`](Self::env) sets a variable for the child.
/// - [`inherit_env`](Self::inherit_env) names more variables to inherit. Common ones are `LANG`,
///   `LC_ALL` and `TZ`, `TMPDIR`, `HTTPS_PROXY` and `NO_PROXY`, `NODE_PATH`, `NODE_EXTRA_CA_CERTS`,
///   and `SSL_CERT_FILE`.
/// - [`inherit_all_env`](Self::inherit_all_env) inherits all variables, except those named to
///   [`withhold_env`](Self::withhold_env).
///
/// The environment does not isolate processes of one user: on most systems a child can read the
/// initial environment of this process from the operating system. Run a server that is not trusted
/// as another user.
///
/// # Standard error
///
/// The child's standard error is passed on to this process's standard error, unless
/// [`quiet`](Self::quiet) is set. Limit: the last 20 lines, of at most 4 KiB, are kept. They are
/// part of the error of [`Upstream::connect`] if the child ends before it has answered, of the log,
/// and of [`TransportError::detail`](crate::TransportError::detail). Callers get only the exit
/// status, because the lines may hold secrets.
///
/// # End
///
/// [`Upstream::close`] closes the child's standard input, sends `SIGTERM` to its group 1 s later,
/// and kills the group after another second (MCP 2025-11-25, basic/lifecycle, shutdown). Dropping
/// the upstream does the same in the background; if the runtime ends meanwhile, the group is killed
/// at once.
///
/// # Example
///
/// ```
/// use rmcp_layers::ChildProcess;
///
/// let files = ChildProcess::new("npx")
///     .args(["-y", "@modelcontextprotocol/server-filesystem", "/srv"])
///     .env("NODE_ENV", "production");
/// # let _ = files;
/// ```
#[derive(Clone)]
pub struct ChildProcess {
    program: OsString,
    args: Vec<OsString>,
    env: Environment,
    current_dir: Option<PathBuf>,
    quiet: bool,
    max_message_bytes: usize,
}

impl ChildProcess {
    /// Creates a command for a program. A bare name is looked up in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Environment::default(),
            current_dir: None,
            quiet: false,
            max_message_bytes: MAX_MESSAGE_BYTES,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args
            .extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable in the child's environment, in addition to the inherited ones.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let variable = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.env.set.push(variable);
        self
    }

    /// Adds variables to inherit besides [those of every child](Self#environment). Variables that
    /// are not set in this process are left out.
    #[must_use]
    pub fn inherit_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.env.inherited.extend(owned(names));
        self
    }

    /// Inherits every variable of this process. Default: only [a few](Self#environment).
    ///
    /// The child then sees the secrets of this process, except variables named to
    /// [`withhold_env`](Self::withhold_env).
    #[must_use]
    pub fn inherit_all_env(mut self) -> Self {
        self.env.inherits_all = true;
        self
    }

    /// Names variables that are never inherited, whatever the other settings. A variable that
    /// [`env`](Self::env) sets keeps that value.
    #[must_use]
    pub fn withhold_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.env.withheld.extend(owned(names));
        self
    }

    /// Sets the working directory of the child.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Stops passing the child's standard error on to this process's. The last lines are
    /// [kept](Self#standard-error) all the same.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Sets the longest message that is read from the child, in bytes. Default: 16 MiB.
    ///
    /// An answer that is longer, or cannot be read for another reason, fails its call at once and
    /// no other call. [`UpstreamBuilder::lines`] says how that call is found.
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    fn command(&self) -> CommandWrap {
        let mut command = Command::new(&self.program);
        command.args(&self.args).kill_on_drop(true);
        self.env.apply(&mut command);
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        let mut wrap = CommandWrap::from(command);
        #[cfg(unix)]
        wrap.wrap(process_wrap::tokio::ProcessSession);
        wrap
    }
}

fn owned(names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> impl Iterator<Item = OsString> {
    names.into_iter().map(|name| name.as_ref().to_owned())
}

impl fmt::Debug for ChildProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildProcess")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env)
            .field("current_dir", &self.current_dir)
            .field("quiet", &self.quiet)
            .field("max_message_bytes", &self.max_message_bytes)
            .finish()
    }
}

impl From<&str> for ChildProcess {
    fn from(program: &str) -> Self {
        Self::new(program)
    }
}

impl From<String> for ChildProcess {
    fn from(program: String) -> Self {
        Self::new(program)
    }
}

impl From<&OsStr> for ChildProcess {
    fn from(program: &OsStr) -> Self {
        Self::new(program)
    }
}

impl From<PathBuf> for ChildProcess {
    fn from(program: PathBuf) -> Self {
        Self::new(program)
    }
}

impl Upstream {
    /// Returns an upstream to a child process, over its standard input and output.
    ///
    /// Requires the feature `child-process`.
    pub fn child_process(command: impl Into<ChildProcess>) -> Self {
        Self::builder().child_process(command)
    }
}

impl UpstreamBuilder {
    /// Connects to a child process over its standard input and output.
    ///
    /// Requires the feature `child-process`.
    pub fn child_process(self, command: impl Into<ChildProcess>) -> Upstream {
        let command = Arc::new(command.into());
        let kind = command.program.to_string_lossy().into_owned();
        self.build(&kind, Lifecycle::MatchCaller, move |handshake| {
            Box::new(Spawn {
                command: command.clone(),
                handshake,
                children: TaskTracker::new(),
            })
        })
    }
}

struct Spawn {
    command: Arc<ChildProcess>,
    handshake: Handshake,
    /// The children that have not ended yet, or have not been waited for.
    children: TaskTracker,
}

impl Dial for Spawn {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let command = self.command.clone();
        let handshake = self.handshake.clone();
        let token = self.children.token();
        Box::pin(async move {
            let upstream = handshake.upstream.clone();
            let (process, lines) = Process::spawn(&command, token).map_err(|error| {
                let mut what = format!("cannot start `{}`", command.program.to_string_lossy());
                // The operating system has the same error for a missing program.
                if let Some(dir) = command.current_dir.as_ref().filter(|dir| !dir.is_dir()) {
                    what.push_str(&format!(
                        " in `{}`, which is not a directory",
                        dir.display()
                    ));
                }
                errors::of_spawn(&upstream, &what, error)
            })?;
            let process = Arc::new(process);
            let end = End::default();
            let transport = |routes: Arc<Routes>| Child {
                lines: ClientLines { lines, routes },
                process: process.clone(),
                end: end.clone(),
                last_words: None,
            };
            let profile = TransportProfile {
                end: end.clone(),
                ..TransportProfile::of(Kind::Other)
            };
            match Connection::establish_with(transport, handshake, profile).await {
                Ok(connection) => Ok(connection),
                Err(error) if errors::is_refused_handshake(&error) => Err(error),
                // The process is kept until here, so that it is not killed before its own end is
                // known.
                Err(error) => {
                    note_end(&process, &end, ENDING).await;
                    Err(with_end(error, end.get()))
                }
            }
        })
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let children = self.children.clone();
        children.close();
        // A child that connected at this very moment may need all of the time.
        let until = Instant::now() + INPUT_CLOSED + TERMINATED + REAP;
        Box::pin(async move {
            if timeout_at(until, children.wait()).await.is_err() {
                tracing::warn!("a child process that was killed has not ended");
            }
        })
    }
}

/// Adds to a failed attempt to connect how the child ended.
fn with_end(error: Error, ended: Option<&Ended>) -> Error {
    match (error, ended) {
        (Error::Transport(error), Some(ended)) => {
            let message = format!("cannot connect: {}", ended.how);
            ended.explain(error.with_message(message)).into()
        }
        (error, _) => error,
    }
}

/// The time a child whose handshake failed may take to end by itself, so that its status is known.
const ENDING: Duration = Duration::from_millis(500);
/// The time a child may take to end once its standard input is closed.
const INPUT_CLOSED: Duration = Duration::from_secs(1);
/// The time a child may take to end after `SIGTERM`.
const TERMINATED: Duration = Duration::from_secs(1);
/// The time a killed child is waited for: the operating system may still be at work for it.
const REAP: Duration = Duration::from_millis(500);

/// A child process, as a transport.
///
/// rmcp's own transport does not see that a child has ended while a process that the child started
/// holds its output. It also leaves the killing of a dropped child to a task, which never runs when
/// the program is ending.
struct Child {
    lines: ClientLines<ChildStdout, ChildStdin>,
    process: Arc<Process>,
    end: End,
    /// The time until which output is still read, once the child has ended.
    last_words: Option<Instant>,
}

impl Transport<RoleClient> for Child {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let sending = self.lines.send(item);
        let end = self.end.clone();
        async move {
            let sent = tokio::select! {
                biased;
                sent = sending => sent,
                // A child that reads nothing does not delay its own end.
                () = end.closing() => return Err(io::ErrorKind::NotConnected.into()),
            };
            if sent.is_err() {
                // The child's exit says more than the closed input.
                let _ = timeout(LAST_WORDS, end.known()).await;
            }
            sent
        }
    }

    /// This future is cancel-safe: dropped and started again, it loses nothing.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.next().await;
        if message.is_none() {
            note_end(&self.process, &self.end, LAST_WORDS).await;
        }
        message
    }

    /// Closes in the order of MCP 2025-11-25, basic/lifecycle, shutdown.
    async fn close(&mut self) -> io::Result<()> {
        self.end.start_closing();
        let terminate_at = Instant::now() + INPUT_CLOSED;
        let _ = timeout_at(terminate_at, self.lines.close()).await;
        let mut ended = timeout_at(terminate_at, self.process.exit()).await.is_ok();
        if !ended {
            self.process.terminate();
            ended = self.process.exits_within(TERMINATED).await;
        }
        self.process.kill();
        if ended || self.process.exits_within(REAP).await {
            self.process.say_last_words().await;
            self.process.forget();
        }
        Ok(())
    }
}

impl Child {
    /// Returns the next message. Returns `None` at the end of the child or of its output.
    async fn next(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let until = match self.last_words {
            Some(until) => until,
            None => {
                tokio::select! {
                    biased;
                    message = self.lines.receive() => return message,
                    _ = self.process.exit() => {}
                }
                *self.last_words.insert(Instant::now() + LAST_WORDS)
            }
        };
        timeout_at(until, self.lines.receive()).await.ok().flatten()
    }
}

/// Records how a child ended by itself, if it does so within the limit.
async fn note_end(process: &Process, end: &End, limit: Duration) {
    if end.get().is_some() || end.is_closing() {
        return;
    }
    if let Some(ended) = process.ended_by_itself(limit).await {
        tracing::debug!(how = %ended.how, "a child process ended");
        end.set(ended);
    }
}
