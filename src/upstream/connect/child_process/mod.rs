//! Upstreams over the standard input and output of a child process.

mod command;
mod dial;
mod environment;
mod process;
mod stderr;
mod transport;

pub use self::command::ChildProcess;
