use std::{fmt, sync::Arc};

use super::{
    Member, MemberState, class::Class, hub::Hub, listed::Listed, seat::Seat, service::impossible,
};
use crate::Error;

/// Adds, replaces and removes a [`Gateway`](super::Gateway)'s members while it serves, and says how they
/// are. Every clone steers the same gateway.
///
/// Callers with an open listen are told that the lists have changed.
#[derive(Clone)]
pub struct GatewayHandle {
    pub(super) hub: Arc<Hub>,
}

/// A member, as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its name.
    pub name: Arc<str>,
    /// How it is doing, as far as requests have shown.
    pub state: MemberState,
    /// Its tools and prompts that callers do not see, because another member has their outward names and
    /// they may not be prefixed. As the last list of a caller without a principal had it; at most 100.
    pub left_out: Vec<String>,
}

impl GatewayHandle {
    /// Adds a member.
    ///
    /// # Errors
    ///
    /// As for [`GatewayBuilder::build`](super::GatewayBuilder::build); then nothing has changed.
    pub fn add(&self, member: Member) -> Result<(), Error> {
        self.hub.seat(member, false).map_err(impossible)
    }

    /// Puts another stack in the place of the member of the same name. Calls in flight end on the old one,
    /// listens go over to the new.
    ///
    /// # Errors
    ///
    /// If there is no member of that name, and as for [`add`](Self::add).
    pub fn replace(&self, member: Member) -> Result<(), Error> {
        self.hub.seat(member, true).map_err(impossible)
    }

    /// Removes a member. False if there is none of that name. Calls in flight still end.
    pub fn remove(&self, name: &str) -> bool {
        self.hub.unseat(name)
    }

    /// The members, in the order of their lists.
    pub fn members(&self) -> Vec<MemberStatus> {
        let seats = self.hub.seats();
        let tools = self.contested::<rmcp::model::Tool>();
        let prompts = self.contested::<rmcp::model::Prompt>();
        let all = || tools.iter().chain(&prompts);
        let status = |seat: &Arc<Seat>| MemberStatus {
            name: seat.name.clone(),
            state: seat.state(),
            left_out: all()
                .filter(|(_, loser)| *loser == seat.name)
                .map(|(name, _)| name.clone())
                .collect(),
        };
        seats.list.iter().map(status).collect()
    }

    fn contested<T: Listed>(&self) -> Vec<(String, Arc<str>)> {
        let merged = T::merged(&self.hub.merged).get(&Class::anybody());
        let contested = merged.iter().flat_map(|merged| merged.contested.iter());
        contested
            .map(|(name, _, loser)| (name.clone(), loser.clone()))
            .collect()
    }
}

impl fmt::Debug for GatewayHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayHandle")
            .field("members", &self.members())
            .finish()
    }
}
