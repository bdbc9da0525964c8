use rmcp::model::ProtocolVersion;

/// A generation of the protocol. Revision 2026-07-28 removed the handshake and the requests from
/// the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Era {
    /// `initialize`, then a session.
    Legacy,
    /// Every request carries its context in its `_meta`.
    Modern,
}

impl Era {
    pub(crate) fn of(version: &ProtocolVersion) -> Self {
        if version.has_initialize() {
            Self::Legacy
        } else {
            Self::Modern
        }
    }
}
