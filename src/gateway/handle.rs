use std::{fmt, sync::Arc, time::Duration};

use super::{
    lists::{
        list_item::ListItem, list_key::ListKey, listed_member::ListedMember,
        option_checks::UnmatchedOption,
    },
    members::{member::Member, state::MemberState},
    shared::Shared,
};
use crate::ConfigError;

/// Adds, replaces and removes a [`Gateway`](super::Gateway)'s members while it serves, returns
/// their states, and closes the gateway.
///
/// Every clone controls the same gateway. Callers with an open listen are notified that the lists
/// have changed.
#[derive(Clone)]
pub struct GatewayHandle {
    pub(super) shared: Arc<Shared>,
}

/// The current activity of a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GatewayStats {
    /// The number of members.
    pub members: usize,
    /// The number of calls in flight: requests other than listens.
    pub calls: usize,
    /// The number of open `subscriptions/listen` requests of callers.
    pub listens: usize,
}

/// The current status of a member.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MemberStatus {
    /// The member's name.
    pub name: Arc<str>,
    /// The member's state, as far as requests have shown it.
    pub state: MemberState,
    /// The tools and prompts of this member that callers do not see, because another member has
    /// their outward names and they may not be prefixed. They are taken from the last list of a
    /// caller without a principal. Limit: 100.
    pub left_out: Vec<String>,
    /// The options (`rename`, `hide`, `describe` and filters) that match none of the member's
    /// items. They are compared with the current lists of all callers, and are empty while the
    /// member is down. A filter is compared once lists of all kinds are known.
    pub unmatched: Vec<UnmatchedOption>,
}

impl GatewayHandle {
    /// Adds a member.
    ///
    /// # Errors
    ///
    /// Fails as [`GatewayBuilder::build`](super::GatewayBuilder::build) does. Nothing has changed
    /// then.
    pub fn add(&self, member: Member) -> Result<(), ConfigError> {
        self.shared.insert_member(member, false)
    }

    /// Replaces the stack of the member of the same name. Calls in flight end on the old stack, and
    /// listens move to the new one.
    ///
    /// # Errors
    ///
    /// Fails if there is no member of that name, and as [`add`](Self::add) does.
    pub fn replace(&self, member: Member) -> Result<(), ConfigError> {
        self.shared.insert_member(member, true)
    }

    /// Removes a member. Returns `false` if there is no member of that name. Calls in flight still
    /// end.
    pub fn remove(&self, name: &str) -> bool {
        self.shared.remove_member(name)
    }

    /// Closes the gateway for good, once the calls in flight have ended.
    ///
    /// From now on new requests are refused with [`code::UNAVAILABLE`](crate::code::UNAVAILABLE)
    /// (-31503). The calls in flight go on until they end, at most until `limit`. A call that is
    /// cut off is cancelled. Then listens end, the members and their stacks are dropped, and no
    /// member can be added.
    ///
    /// Returns the number of calls that the limit cut off. If the future is dropped, the gateway
    /// goes on to refuse new requests, and keeps its members.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.shared.drain(limit).await
    }

    /// Closes the gateway for good without waiting for the calls in flight: a
    /// [`drain`](Self::drain) with a limit of zero.
    pub async fn close(&self) {
        self.drain(Duration::ZERO).await;
    }

    /// Returns the current activity.
    pub fn stats(&self) -> GatewayStats {
        GatewayStats {
            members: self.shared.members().list.len(),
            calls: self.shared.in_flight.calls(),
            listens: self.shared.in_flight.listens(),
        }
    }

    /// Returns the members, in the order of their lists.
    pub fn members(&self) -> Vec<MemberStatus> {
        let members = self.shared.members();
        let tools = self.contested::<rmcp::model::Tool>();
        let prompts = self.contested::<rmcp::model::Prompt>();
        let all = || tools.iter().chain(&prompts);
        let status = |member: &Arc<ListedMember>| MemberStatus {
            name: member.name.clone(),
            state: member.state(),
            unmatched: member.unmatched_options(),
            left_out: all()
                .filter(|(_, loser)| *loser == member.name)
                .map(|(name, _)| name.clone())
                .collect(),
        };
        members.list.iter().map(status).collect()
    }

    fn contested<T: ListItem>(&self) -> Vec<(String, Arc<str>)> {
        let merged = T::of(&self.shared.merged).get(&ListKey::anonymous());
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
