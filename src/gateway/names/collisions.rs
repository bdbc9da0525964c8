//! Names that two members have and that may not be prefixed.

use std::sync::Arc;

use rmcp::model::{Prompt, Resource, ResourceTemplate, Skill, Tool};

use crate::gateway::{
    active_member::Seat,
    lists::{
        cached_list::Age,
        list_item::{Listed, Merged},
        list_key::Class,
    },
    service::impossible,
    shared::Hub,
};
use crate::{CallContext, Error};

impl Hub {
    /// Asks all members that need no caller for all their lists, concurrently.
    pub(in crate::gateway) async fn check(&self) -> Result<(), Error> {
        let seats: Vec<_> = self
            .seats()
            .list
            .iter()
            .filter(|seat| !seat.is_per_caller())
            .cloned()
            .collect();
        // The merged lists for routing must be made of all members.
        let merged = Merged::default();
        let found = tokio::join!(
            self.contested::<Tool>(&seats, &merged),
            self.contested::<Prompt>(&seats, &merged),
            self.contested::<Resource>(&seats, &merged),
            self.contested::<ResourceTemplate>(&seats, &merged),
            self.contested::<Skill>(&seats, &merged),
        );
        let (tools, prompts, resources, templates, skills) = found;
        let first = tools.or(prompts).or(resources).or(templates).or(skills);
        first.map_or(Ok(()), |what| Err(impossible(what)))
    }

    async fn contested<T: Listed>(&self, seats: &[Arc<Seat>], merged: &Merged) -> Option<String> {
        let context = CallContext::background();
        let class = Class::of(&context, false);
        let gathered = self
            .gather_into::<T>(merged, seats, class, &context, Age::Fresh)
            .await;
        let (name, first, second) = gathered.catalogue.contested.first()?;
        let noun = T::NOUN;
        Some(format!(
            "`{first}` and `{second}` both have a {noun} `{name}`, and neither may be prefixed: rename or \
             hide one, or let one be prefixed"
        ))
    }
}
