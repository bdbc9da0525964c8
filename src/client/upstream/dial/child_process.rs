use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
};

use futures::future::BoxFuture;
use process_wrap::tokio::CommandWrap;
use rmcp::transport::TokioChildProcess;
use tokio::process::Command;

use crate::{
    Error,
    client::upstream::{
        Upstream, UpstreamBuilder,
        builder::Lifecycle,
        connection::{Connection, Handshake, Kind},
        errors,
        slot::Dial,
    },
};

/// The command that starts an MCP server which speaks over its standard input and output.
///
/// It is started when it is needed, and again when it has ended. Its standard error goes to this
/// process's, unless [`quiet`](Self::quiet) says otherwise. On Unix it leads a process group of its own:
/// an interrupt typed at the terminal does not reach it, so that calls can end in good order, and when it
/// has to be killed, what it started is killed with it.
///
/// ```
/// use rmcp_layers::ChildProcess;
///
/// let files = ChildProcess::new("npx")
///     .args(["-y", "@modelcontextprotocol/server-filesystem", "/srv"])
///     .env("NODE_ENV", "production");
/// # let _ = files;
/// ```
#[derive(Clone, Debug)]
pub struct ChildProcess {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    quiet: bool,
}

impl ChildProcess {
    /// A program, looked up in `PATH` if it is a bare name.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            quiet: false,
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
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
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

    fn command(&self) -> CommandWrap {
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .envs(self.env.iter().cloned())
            .kill_on_drop(true);
        if let Some(dir) = &self.current_dir {
            command.current_dir(dir);
        }
        let mut wrap = CommandWrap::from(command);
        #[cfg(unix)]
        wrap.wrap(process_wrap::tokio::ProcessGroup::leader());
        wrap
    }
}

impl<P: AsRef<OsStr>> From<P> for ChildProcess {
    fn from(program: P) -> Self {
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
            })
        })
    }
}

struct Spawn {
    command: Arc<ChildProcess>,
    handshake: Handshake,
}

impl Dial for Spawn {
    fn dial(&self) -> BoxFuture<'static, Result<Connection, Error>> {
        let command = self.command.clone();
        let handshake = self.handshake.clone();
        Box::pin(async move {
            let stderr = if command.quiet {
                Stdio::null()
            } else {
                Stdio::inherit()
            };
            let (child, _) = TokioChildProcess::builder(command.command())
                .stderr(stderr)
                .spawn()
                .map_err(|error| {
                    let what = format!("cannot start `{}`", command.program.to_string_lossy());
                    errors::of_spawn(&handshake.upstream, &what, error)
                })?;
            Connection::establish(child, handshake, Kind::Other).await
        })
    }
}
