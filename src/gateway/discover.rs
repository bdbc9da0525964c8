//! The merged answer to `server/discover`.

use std::sync::Arc;

use rmcp::model::{
    CacheScope, DiscoverRequest, DiscoverRequestParams, DiscoverResult, Implementation, JsonObject,
    ProtocolVersion, ServerCapabilities, ServerResult,
};
use serde_json::Value;
use tokio_util::bytes::Bytes;

use super::{
    active_members::ActiveMembers, lists::listed_member::ListedMember,
    members::watch::watch_member, shared::Shared,
};
use crate::{
    Error, Lossless, McpRequest, McpResponse, ServedBy,
    caller::Era,
    context::audience::PrivateTo,
    protocol::results,
    wire::{
        Reading, Source,
        answers::{Expected, ReadResult},
    },
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
            let description = answer.and_then(|answer| {
                let audience = answer.private_to().cloned();
                Ok((Description::of(answer)?, audience))
            });
            match description {
                Ok((description, audience)) => {
                    described.push((member, description));
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
        let merged = self.merge_descriptions(&described, members.list.len());
        let is_alone = members.list.len() == 1;
        let descriptions = described.into_iter().map(|(_, description)| description);
        let mut response = McpResponse::lossless(with_texts(merged, descriptions, is_alone));
        if let Some(private) = &private {
            response.mark_private_to(private);
        }
        members.mark_private(&mut response, &context);
        Ok(response)
    }

    /// Merges the descriptions of those of `members` that have answered.
    fn merge_descriptions(
        &self,
        described: &[(&Arc<ListedMember>, Description)],
        members: usize,
    ) -> DiscoverResult {
        let results = || described.iter().map(|(_, description)| &description.typed);
        let mut merged = DiscoverResult::new(
            versions(results().map(|result| &*result.supported_versions)),
            ServerCapabilities::default(),
        );
        let mut instructions: Vec<String> = self.instructions.iter().cloned().collect();
        for (member, Description { typed: result, .. }) in described {
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

/// The description of one member.
struct Description {
    typed: DiscoverResult,
    /// The same with its text, if it came from one.
    came: Option<Lossless<ServerResult>>,
}

impl Description {
    fn of(answer: McpResponse) -> Result<Self, Error> {
        let came = answer.result.source().map(|_| answer.result.clone());
        let typed = results::expect(answer.into_result())?;
        Ok(Self { typed, came })
    }
}

/// Returns a merged description with the capabilities that its type has no place for. The
/// description of the only member keeps its other members, too.
fn with_texts(
    merged: DiscoverResult,
    descriptions: impl Iterator<Item = Description>,
    is_alone: bool,
) -> Lossless<ServerResult> {
    let mut texts: Vec<_> = descriptions.filter_map(|one| one.came).collect();
    if is_alone && let Some(mut only) = texts.pop() {
        *only = merged.into();
        return only;
    }
    let texts: Vec<_> = texts.iter().filter_map(Lossless::text).collect();
    let text = match texts.is_empty() {
        true => None,
        false => text_of(&merged, &texts),
    };
    let source = text.map(|text| {
        let expected = Expected::of(&DiscoverRequest::new(DiscoverRequestParams {}).into());
        let era = Era::Modern;
        Source::new(text, Reading::Result(ReadResult { expected, era }))
    });
    Lossless::from_source(merged.into(), source)
}

fn text_of(merged: &DiscoverResult, texts: &[Bytes]) -> Option<Bytes> {
    let mut json = serde_json::to_value(merged).ok()?;
    let Some(Value::Object(all)) = json.get_mut("capabilities") else {
        return None;
    };
    for text in texts {
        let one: Value = serde_json::from_slice(text).unwrap_or_default();
        if let Some(Value::Object(one)) = one.get("capabilities") {
            merge_settings(all, one);
        }
    }
    serde_json::to_vec(&json).ok().map(Bytes::from)
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
            Some(Value::Object(known)) => {
                if let Value::Object(value) = value {
                    merge_settings(known, value);
                }
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
