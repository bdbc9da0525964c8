use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use process_wrap::tokio::CommandWrap;
use tokio::process::Command;
use tokio_util::task::TaskTracker;

use super::{dial::ChildProcessDial, environment::Environment};
use crate::{
    context::served_by::Endpoint,
    lines::MAX_MESSAGE_BYTES,
    upstream::{Upstream, UpstreamBuilder, builder::Lifecycle},
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
    pub(super) program: OsString,
    args: Vec<OsString>,
    env: Environment,
    pub(super) current_dir: Option<PathBuf>,
    pub(super) quiet: bool,
    pub(super) max_message_bytes: usize,
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

    pub(super) fn command(&self) -> CommandWrap {
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
    pub fn child_process(mut self, command: impl Into<ChildProcess>) -> Upstream {
        let command = Arc::new(command.into());
        self.endpoint = Some(Arc::new(Endpoint {
            transport: "pipe",
            protocol: None,
            address: None,
            port: None,
        }));
        let kind = command.program.to_string_lossy().into_owned();
        self.build(&kind, Lifecycle::MatchCaller, move |handshake| {
            Box::new(ChildProcessDial {
                command: command.clone(),
                handshake,
                children: TaskTracker::new(),
            })
        })
    }
}
