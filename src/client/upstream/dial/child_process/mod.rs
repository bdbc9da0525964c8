mod environment;

use std::{
    ffi::{OsStr, OsString},
    fmt, io,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use process_wrap::tokio::{ChildWrapper, CommandWrap};
use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    process::{ChildStdin, ChildStdout, Command},
    time::Instant,
};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use self::environment::Environment;
use crate::{
    Error,
    client::upstream::{
        Upstream, UpstreamBuilder,
        builder::Lifecycle,
        connection::{Connection, Handshake, Kind},
        dial::lines::ClientLines,
        errors,
        routes::Routes,
        slot::Dial,
    },
    lines::{Lines, MAX_MESSAGE_BYTES},
};

/// The command that starts an MCP server which speaks over its standard input and output.
///
/// It is started when it is needed, and again when it has ended. Its standard error goes to this
/// process's, unless [`quiet`](Self::quiet) says otherwise. On Unix it leads a process group of its own:
/// an interrupt typed at the terminal does not reach it, so that calls can end in good order, and when it
/// ends, what it started in that group and left behind is killed.
///
/// # Environment
///
/// A child inherits only the variables that the official Python and TypeScript SDKs let it inherit:
/// `HOME`, `LOGNAME`, `PATH`, `SHELL`, `TERM` and `USER`, and on Windows `APPDATA`, `HOMEDRIVE`,
/// `HOMEPATH`, `LOCALAPPDATA`, `PATH`, `PATHEXT`, `PROCESSOR_ARCHITECTURE`, `PROGRAMFILES`, `SYSTEMDRIVE`,
/// `SYSTEMROOT`, `TEMP`, `USERNAME` and `USERPROFILE`. Values that begin with `()`, which are shell
/// functions, are left out. So the secrets in this process's environment do not reach every server.
///
/// - [`env`](Self::env) sets a variable for the child.
/// - [`inherit_env`](Self::inherit_env) names further variables to inherit. Common ones are `LANG`,
///   `LC_ALL` and `TZ`, `TMPDIR`, `HTTPS_PROXY` and `NO_PROXY`, `NODE_PATH`, `NODE_EXTRA_CA_CERTS`, and
///   `SSL_CERT_FILE`.
/// - [`inherit_all_env`](Self::inherit_all_env) has it inherit everything, except the variables named to
///   [`withhold_env`](Self::withhold_env).
///
/// The environment is no wall between processes of one user: on most systems a child can read the initial
/// environment of this process from the operating system. Run a server that is not trusted as another user.
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
    /// A program, looked up in `PATH` if it is a bare name.
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

    /// Sets a variable in its environment, beside those it inherits.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let variable = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.env.set.push(variable);
        self
    }

    /// Adds variables that it inherits beside [those of every child](Self#environment). One that is not set
    /// in this process is left out.
    #[must_use]
    pub fn inherit_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.env.inherited.extend(owned(names));
        self
    }

    /// Lets it inherit every variable of this process. Default: only [a few](Self#environment).
    ///
    /// Secrets of this process reach the child then, except those named to
    /// [`withhold_env`](Self::withhold_env).
    #[must_use]
    pub fn inherit_all_env(mut self) -> Self {
        self.env.inherits_all = true;
        self
    }

    /// Names variables that it never inherits, whatever else is said. One that [`env`](Self::env) sets is
    /// not inherited, and stays.
    #[must_use]
    pub fn withhold_env(mut self, names: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.env.withheld.extend(owned(names));
        self
    }

    /// Sets the directory it runs in.
    #[must_use]
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.current_dir = Some(dir.into());
        self
    }

    /// Throws its standard error away.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// The longest message that is read from it, in bytes: 16 MiB by default. An answer that is longer, or
    /// cannot be read for another reason, fails its call at once and no other;
    /// [`UpstreamBuilder::lines`] says how that call is found.
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
        wrap.wrap(process_wrap::tokio::ProcessGroup::leader());
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

impl UpstreamBuilder {
    /// A child process, spoken to over its standard input and output.
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
    /// Those that have not ended yet, or have not been waited for.
    children: TaskTracker,
}

impl Dial for Spawn {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let command = self.command.clone();
        let handshake = self.handshake.clone();
        let token = self.children.token();
        Box::pin(async move {
            let (process, lines) = Process::spawn(&command, token).map_err(|error| {
                let what = format!("cannot start `{}`", command.program.to_string_lossy());
                errors::of_spawn(&handshake.upstream, &what, error)
            })?;
            let transport = |routes: Arc<Routes>| Child {
                lines: ClientLines { lines, routes },
                process,
                last_words: None,
            };
            Connection::establish_with(transport, handshake, Kind::Other).await
        })
    }

    fn ended(&self) -> BoxFuture<'static, ()> {
        let children = self.children.clone();
        children.close();
        Box::pin(async move { children.wait().await })
    }
}

/// How long a child that is asked to end may take, each time it is asked.
const GRACE: Duration = Duration::from_secs(3);
/// How long what a child said last is read after its end: something it started may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A child process, as a transport. rmcp's own does not see that a child has ended as long as something
/// the child started holds its output, and leaves the killing of a dropped one to a task, which never
/// runs when the program is ending.
struct Child {
    lines: ClientLines<ChildStdout, ChildStdin>,
    process: Process,
    /// Until when to read on, once it has ended.
    last_words: Option<Instant>,
}

impl Transport<RoleClient> for Child {
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.lines.send(item)
    }

    /// Nothing is lost when this is dropped and begun again.
    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let until = match self.last_words {
            Some(until) => until,
            None => {
                tokio::select! {
                    biased;
                    message = self.lines.receive() => return message,
                    () = self.process.exit() => {}
                }
                *self.last_words.insert(Instant::now() + LAST_WORDS)
            }
        };
        let message = tokio::time::timeout_at(until, self.lines.receive()).await;
        message.ok().flatten()
    }

    /// The order of MCP 2025-11-25, basic/lifecycle, shutdown.
    async fn close(&mut self) -> io::Result<()> {
        // A child that reads nothing may hold up what is being written.
        let _ = tokio::time::timeout(GRACE, self.lines.close()).await;
        if !self.process.exits_within(GRACE).await {
            self.process.terminate();
            self.process.exits_within(GRACE).await;
        }
        self.process.kill();
        self.process.exit().await;
        self.process.running = None;
        Ok(())
    }
}

/// A process and its group, killed and waited for when it is dropped.
struct Process {
    running: Option<(Box<dyn ChildWrapper>, TaskTrackerToken)>,
}

impl Process {
    fn spawn(
        command: &ChildProcess,
        token: TaskTrackerToken,
    ) -> io::Result<(Self, Lines<ChildStdout, ChildStdin>)> {
        let mut wrap = command.command();
        let stderr = if command.quiet {
            Stdio::null()
        } else {
            Stdio::inherit()
        };
        wrap.command_mut()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut process = Self {
            running: Some((wrap.spawn()?, token)),
        };
        let pipes = process
            .pipes()
            .ok_or_else(|| io::Error::other("it has no standard input or output"))?;
        let lines = Lines::from(pipes).max_message_bytes(command.max_message_bytes);
        Ok((process, lines))
    }

    fn pipes(&mut self) -> Option<(ChildStdout, ChildStdin)> {
        let (process, _) = self.running.as_mut()?;
        Some((process.stdout().take()?, process.stdin().take()?))
    }

    /// Resolves when the process has ended.
    async fn exit(&mut self) {
        let Some((process, _)) = &mut self.running else {
            return;
        };
        match process.wait().await {
            Ok(status) => tracing::debug!(%status, "a child process ended"),
            Err(error) => tracing::warn!(%error, "a child process cannot be waited for"),
        }
    }

    async fn exits_within(&mut self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.exit()).await.is_ok()
    }

    fn terminate(&self) {
        #[cfg(unix)]
        if let Some((process, _)) = &self.running {
            /// The number POSIX gives it.
            const SIGTERM: i32 = 15;
            if let Err(error) = process.signal(SIGTERM) {
                tracing::debug!(%error, "a child process cannot be asked to end");
            }
        }
    }

    /// Kills what is left of the group, here and now: a program that is ending runs no task any more.
    fn kill(&mut self) {
        if let Some((process, _)) = &mut self.running
            && let Err(error) = process.start_kill()
        {
            tracing::trace!(%error, "nothing is left of a child process");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if let (Some((mut process, token)), Ok(runtime)) =
            (self.running.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn(async move {
                let _ = process.wait().await;
                drop(token);
            });
        }
    }
}
