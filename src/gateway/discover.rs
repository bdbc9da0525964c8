//! The merged answer to `server/discover`.

use futures::future::join_all;
use rmcp::model::{
    CacheScope, DiscoverResult, Implementation, JsonObject, ProtocolVersion, ServerCapabilities,
    ServerResult,
};
use serde_json::Value;

use super::{
    members::watch::watch_member,
    shared::{ActiveMembers, Shared},
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
        if members.list.len() != 1 {
            // Several members serve it.
            request.context.extensions.remove::<ServedBy>();
        }
        let timeout = self.rules.list_timeout;
        let context = request.context.clone();
        for member in &members.list {
            // List requests usually come next.
            watch_member(member, &request.context);
        }
        let asked = members.list.iter().map(|member| {
            let mut request = request.clone();
            self.map_visibility(member, &mut request.context);
            let call = member.call(request);
            async move {
                let answered = tokio::time::timeout(timeout, call)
                    .await
                    .unwrap_or_else(|_| Err(Error::timeout(timeout)))?;
                let private = answered.private_to().cloned();
                let described: DiscoverResult = results::expect(answered.into_result())?;
                Ok::<_, Error>((member, described, private))
            }
        });
        let mut described = Vec::new();
        let mut private: Option<PrivateTo> = None;
        let mut failed = None;
        for answer in join_all(asked).await {
            match answer {
                Ok((member, one, whose)) => {
                    described.push((member, one));
                    if let Some(whose) = whose {
                        private = Some(private.unwrap_or_default().and(&whose));
                    }
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed.filter(|_| described.is_empty()) {
            return Err(error);
        }
        let one = members.list.len() == 1;
        let mut result = DiscoverResult::new(
            versions(described.iter().map(|(_, one)| &*one.supported_versions)),
            ServerCapabilities::default(),
        );
        let mut instructions: Vec<String> = self.instructions.iter().cloned().collect();
        for (member, described) in &described {
            merge(&mut result.capabilities, &described.capabilities);
            if let Some(said) = &described.instructions {
                instructions.push(match one {
                    true => said.clone(),
                    false => format!("## {}\n\n{said}", member.name),
                });
            }
        }
        if !one {
            announce_changes(&mut result.capabilities);
        }
        result.instructions = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
        let hints = described.iter().map(|(_, one)| one);
        result.ttl_ms = hints.clone().map(|one| one.ttl_ms).min().unwrap_or(0);
        let public = hints
            .clone()
            .all(|one| one.cache_scope == CacheScope::Public);
        if public && !described.is_empty() && failed_none(members, described.len()) {
            result.cache_scope = CacheScope::Public;
        } else {
            // A missing member may change the answer soon.
            result.ttl_ms = match failed_none(members, described.len()) {
                true => result.ttl_ms,
                false => 0,
            };
        }
        let own = || Implementation::new("rmcp-layers-gateway", env!("CARGO_PKG_VERSION"));
        let of_one = described
            .first()
            .filter(|_| one)
            .and_then(|(_, one)| one.server_info());
        result.set_server_info(self.server_info.clone().or(of_one).unwrap_or_else(own));
        let mut response = McpResponse::new(ServerResult::DiscoverResult(result));
        if let Some(private) = &private {
            response.mark_private_to(private);
        }
        members.mark_private(&mut response, &context);
        Ok(response)
    }
}

fn failed_none(members: &ActiveMembers, described: usize) -> bool {
    members.list.len() == described
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
