//! Routes: the call that a message from the server belongs to.

mod abandoned;
mod callers;
mod mailbox;
mod notifications;
#[cfg_attr(
    not(feature = "http-client"),
    expect(dead_code, reason = "only HTTP has a response stream for each call")
)]
mod response_streams;
mod routes;
mod routing_transport;
mod server_requests;
mod table;
mod unattributed;

pub(super) use self::{
    mailbox::{CallMessage, Mailbox, Reply, Route, RouteMark, RoutedAnswer},
    routes::{CompletedCall, Routes},
    routing_transport::{ConnectionHandler, RoutingTransport},
};
