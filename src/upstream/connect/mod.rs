//! Dialers: the ways to make a connection, except over HTTP.

mod attributing_transport;
#[cfg(feature = "child-process")]
mod child_process;
mod direct_lines;
mod foreign;
mod in_process;
mod lines;
mod transport;

#[cfg(feature = "http-client")]
pub(super) use self::attributing_transport::AttributingTransport;
#[cfg(feature = "child-process")]
pub use self::child_process::ChildProcess;
pub(super) use self::{
    foreign::ForeignDial, in_process::connect_in_process, transport::connect_over,
};
