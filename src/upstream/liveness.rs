//! The check whether a server that was silent about a call still answers.

use std::{sync::atomic::Ordering, time::Duration};

use rmcp::model::{ClientRequest, DiscoverRequest, PingRequest};

use super::{
    call::{self, UpstreamCall},
    connection::Kind,
};
use crate::caller::Era;

/// The time within which a server answers a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Pings the server of a call that has timed out, in the background. A connection whose server does
/// not answer is closed, and made again: a process that is stopped or hangs does not recover.
///
/// Over HTTP each request has an exchange of its own, and a server in this process shares its fate.
pub(super) fn check(call: &UpstreamCall) {
    let connection = &call.connection;
    if connection.kind != Kind::Other || connection.is_checked.swap(true, Ordering::AcqRel) {
        return;
    }
    let ping = UpstreamCall {
        timeout: None,
        ..call.clone()
    };
    connection.runtime.spawn(async move {
        // Revision 2026-07-28 has no ping.
        let message: ClientRequest = match ping.connection.era {
            Era::Legacy => PingRequest::default().into(),
            Era::Modern => DiscoverRequest::default().into(),
        };
        let answer = ping.run(call::own(message));
        let answered = tokio::time::timeout(PING_TIMEOUT, answer).await;
        ping.connection.is_checked.store(false, Ordering::Release);
        if answered.is_err() {
            tracing::warn!(
                upstream = %ping.upstream,
                "the server answers neither a call nor a ping; its connection is closed"
            );
            ping.connection.close().await;
        }
    });
}
