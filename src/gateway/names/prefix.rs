//! The rule for prefixes.

/// The rule for putting a member's name in front of the names of its tools and prompts.
///
/// Resource URIs follow the same setting, except that [`OnCollision`](Self::OnCollision) always
/// prefixes them: a link inside a result must identify its member without the other members' lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Prefix {
    /// `db__query`. A name is resolved without any list.
    #[default]
    Always,
    /// `query`, unless a member of higher priority has that name too: then `db__query`.
    OnCollision,
    /// `query`. Where two members have a name or URI,
    /// [`connect`](crate::gateway::GatewayBuilder::connect) fails and names both.
    ///
    /// [`build`](crate::gateway::GatewayBuilder::build) does not ask members, and members may be
    /// added later. The member of higher priority then has the name. The other member's item is
    /// left out and [reported](crate::gateway::GatewayHandle::members).
    Never,
}
