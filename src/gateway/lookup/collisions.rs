//! Names that two members have and that may not be prefixed.

use std::sync::Arc;

use rmcp::model::{Prompt, Resource, ResourceTemplate, Skill, Tool};

use crate::gateway::{
    lists::{
        list_item::ListItem,
        list_key::ListKey,
        listed_member::{Age, ListedMember},
        merge::MergedLists,
    },
    shared::Shared,
};
use crate::{CallContext, ConfigError};

impl Shared {
    /// Asks all members that need no caller for all their lists, concurrently.
    pub(in crate::gateway) async fn check_collisions(&self) -> Result<(), ConfigError> {
        let members: Vec<_> = self
            .members()
            .list
            .iter()
            .filter(|member| !member.is_per_caller())
            .cloned()
            .collect();
        // The merged lists for routing must be made of all members.
        let merged = MergedLists::default();
        let found = tokio::join!(
            self.contested::<Tool>(&members, &merged),
            self.contested::<Prompt>(&members, &merged),
            self.contested::<Resource>(&members, &merged),
            self.contested::<ResourceTemplate>(&members, &merged),
            self.contested::<Skill>(&members, &merged),
        );
        let (tools, prompts, resources, templates, skills) = found;
        let first = tools.or(prompts).or(resources).or(templates).or(skills);
        first.map_or(Ok(()), |reason| {
            Err(ConfigError::new("gateway", "prefix", reason))
        })
    }

    async fn contested<T: ListItem>(
        &self,
        members: &[Arc<ListedMember>],
        merged: &MergedLists,
    ) -> Option<String> {
        let context = CallContext::background();
        let key = ListKey::of(&context, false);
        let gathered = self
            .gather_into::<T>(merged, members, key, &context, Age::Fresh)
            .await;
        let (name, first, second) = gathered.merged.contested.first()?;
        let noun = T::NOUN;
        Some(format!(
            "`{first}` and `{second}` both have a {noun} `{name}`, and neither may be prefixed; rename or \
             hide one, or let one be prefixed"
        ))
    }
}
