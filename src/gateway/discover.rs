//! The merged answer to `server/discover`.

use std::sync::Arc;

use rmcp::model::{
    CacheScope, DiscoverResult, Implementation, JsonObject, ProtocolVersion, ServerCapabilities,
    ServerResult,
};
use serde_json::Value;

use super::{
    active_members::ActiveMembers, lists::listed_member::ListedMember,
    members::watch::watch_member, shared::Shared,
};
use crate::{
    Error, McpRequest, McpResponse, ServedBy, context::audience::PrivateTo, protocol::results,
};

impl Shared {
    /// Asks every member for its description. A member that is down, or silent past the timeout,
    /// is left out. It fails only if there are members and none of them answers.
    pub(super) async fn discover(
        &self,
        members: &ActiveMembers,
        mut request: McpRequest,
    ) -> Result<McpResponse, Error> {
        for member in &members.list {
            // List requests usually come next.
            watch_member(member, &request.context);
        }
        if members.list.len() != 1 {
            // Several members serve it.
            request.context.extensions.remove::<ServedBy>();
        }
        let context = request.context.clone();
        let mut described = Vec::new();
        let mut private: Option<PrivateTo> = None;
        let mut failed = None;
        for (member, answer) in self.ask_members(members, &request).await {
            let result = answer.and_then(|answer| {
                let audience = answer.private_to().cloned();
                let result: DiscoverResult = results::expect(answer.into_result())?;
                Ok((result, audience))
            });
            match result {
                Ok((result, audience)) => {
                    described.push((member, result));
                    if let Some(audience) = audience {
                        private = Some(private.unwrap_or_default().and(&audience));
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed.filter(|_| described.is_empty()) {
            return Err(error);
        }
        let result = self.merge_descriptions(&described, members.list.len());
        let mut response = McpResponse::new(ServerResult::DiscoverResult(result));
        if let Some(private) = &private {
            response.mark_private_to(private);
        }
        members.mark_private(&mut response, &context);
        Ok(response)
    }

    /// Merges the descriptions of those of `members` that have answered.
    fn merge_descriptions(
        &self,
        described: &[(&Arc<ListedMember>, DiscoverResult)],
        members: usize,
    ) -> DiscoverResult {
        let results = || described.iter().map(|(_, result)| result);
        let mut merged = DiscoverResult::new(
            versions(results().map(|result| &*result.supported_versions)),
            ServerCapabilities::default(),
        );
        let mut instructions: Vec<String> = self.instructions.iter().cloned().collect();
        for (member, result) in described {
            merge(&mut merged.capabilities, &result.capabilities);
            instructions.extend(result.instructions.as_ref().map(|own| match members {
                1 => own.clone(),
                _ => format!("## {}\n\n{own}", member.name),
            }));
        }
        if members != 1 {
            announce_changes(&mut merged.capabilities);
        }
        merged.instructions = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
        // A missing member may change the answer soon.
        if described.len() == members {
            merged.ttl_ms = results().map(|result| result.ttl_ms).min().unwrap_or(0);
            let is_public = |result: &DiscoverResult| result.cache_scope == CacheScope::Public;
            if members > 0 && results().all(is_public) {
                merged.cache_scope = CacheScope::Public;
            }
        } else {
            merged.ttl_ms = 0;
        }
        let own = || Implementation::new("rmcp-layers-gateway", env!("CARGO_PKG_VERSION"));
        let of_one = results().next().filter(|_| members == 1);
        let of_one = of_one.and_then(DiscoverResult::server_info);
        merged.set_server_info(self.server_info.clone().or(of_one).unwrap_or_else(own));
        merged
    }
}

/// Returns the revisions that all members speak, in the first one's order.
fn versions<'a>(mut all: impl Iterator<Item = &'a [ProtocolVersion]>) -> Vec<ProtocolVersion> {
    let Some(first) = all.next() else {
        return ProtocolVersion::KNOWN_VERSIONS.to_vec();
    };
    let mut common = first.to_vec();
    for versions in all {
        let both: Vec<_> = common
            .iter()
            .filter(|version| versions.contains(version))
            .cloned()
            .collect();
        if !both.is_empty() {
            common = both;
        }
    }
    common
}

/// Adds the capabilities of one member.
fn merge(all: &mut ServerCapabilities, one: &ServerCapabilities) {
    fn either(a: &mut Option<bool>, b: Option<bool>) {
        *a = match (*a, b) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (a, b) => a.or(b),
        };
    }
    if let Some(tools) = &one.tools {
        either(
            &mut all.tools.get_or_insert_default().list_changed,
            tools.list_changed,
        );
    }
    if let Some(prompts) = &one.prompts {
        either(
            &mut all.prompts.get_or_insert_default().list_changed,
            prompts.list_changed,
        );
    }
    if let Some(resources) = &one.resources {
        let all = all.resources.get_or_insert_default();
        either(&mut all.list_changed, resources.list_changed);
        either(&mut all.subscribe, resources.subscribe);
    }
    all.logging = all.logging.take().or_else(|| one.logging.clone());
    all.completions = all.completions.take().or_else(|| one.completions.clone());
    for (id, settings) in one.extensions.iter().flatten() {
        let known = all.extensions.get_or_insert_default();
        merge_settings(known.entry(id.clone()).or_default(), settings);
    }
    for (id, settings) in one.experimental.iter().flatten() {
        let known = all.experimental.get_or_insert_default();
        merge_settings(known.entry(id.clone()).or_default(), settings);
    }
}

/// Merges settings: a capability of any member is one of the gateway; of other settings the first
/// member's is kept.
fn merge_settings(all: &mut JsonObject, one: &JsonObject) {
    for (key, value) in one {
        match all.get_mut(key) {
            Some(known) if *value == Value::Bool(true) && known.is_boolean() => {
                *known = Value::Bool(true);
            }
            Some(_) => {}
            None => {
                all.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Adds the list changes that the gateway announces itself when members come and go.
fn announce_changes(all: &mut ServerCapabilities) {
    all.tools.get_or_insert_default().list_changed = Some(true);
    if let Some(prompts) = &mut all.prompts {
        prompts.list_changed = Some(true);
    }
    if let Some(resources) = &mut all.resources {
        resources.list_changed = Some(true);
    }
}
