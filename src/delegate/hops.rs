//! The limits of a delegation that go with it from agent to agent.

use std::{sync::Arc, time::Duration};

use rmcp::model::{ErrorData, RequestMetaObject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Error;

/// The `_meta` key of a call for the delegation that it belongs to: `depth`, `visited`,
/// `remainingMs` and `remainingTokens`.
pub const DELEGATION_META_KEY: &str = "rmcp-layers/delegation";

/// Maximum number of agents that a delegation may name as visited.
pub(super) const MAX_VISITED: usize = 64;
/// Maximum length of the name of an agent in bytes.
pub(super) const MAX_NAME_BYTES: usize = 128;

/// The hops of a delegation before a call, and the time and tokens that are left to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Hops {
    /// The number of delegations that led to the call. It is 0 for a task of a host.
    #[serde(default)]
    pub(super) depth: u32,
    /// The agents of these delegations, by name, from the first to the last.
    #[serde(default)]
    pub(super) visited: Vec<Arc<str>>,
    /// The time until the deadline. It is a duration, because clocks of machines differ.
    #[serde(
        rename = "remainingMs",
        with = "milliseconds",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) remaining_time: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) remaining_tokens: Option<u64>,
}

impl Hops {
    /// Returns the hops that a call names in its `_meta`.
    ///
    /// # Errors
    ///
    /// Fails with "invalid params" if the entry has another form.
    pub(super) fn read(meta: &RequestMetaObject) -> Result<Option<Self>, Error> {
        let Some(entry) = meta.get(DELEGATION_META_KEY) else {
            return Ok(None);
        };
        if !entry.is_object() {
            return Err(misfit("it is not an object"));
        }
        let hops: Self = serde_path_to_error::deserialize(entry).map_err(|error| {
            let place = error.path().to_string();
            let error = error.into_inner();
            misfit(&format!("`{place}`: {error}"))
        })?;
        if hops.visited.len() > MAX_VISITED {
            return Err(misfit(&format!(
                "`visited` has more than {MAX_VISITED} agents"
            )));
        }
        if hops.visited.iter().any(|name| name.len() > MAX_NAME_BYTES) {
            return Err(misfit(&format!(
                "`visited` has a name of more than {MAX_NAME_BYTES} bytes"
            )));
        }
        Ok(Some(hops))
    }

    /// Sets the entry of a call's `_meta`, with the time that is left at the call.
    pub(super) fn write(&self, left: Option<Duration>, meta: &mut RequestMetaObject) {
        let mut entry = Map::with_capacity(4);
        let visited = self.visited.iter().map(|name| Value::from(&**name));
        entry.insert("depth".to_owned(), self.depth.into());
        entry.insert("visited".to_owned(), visited.collect());
        if let Some(left) = left {
            let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
            entry.insert("remainingMs".to_owned(), left.into());
        }
        if let Some(tokens) = self.remaining_tokens {
            entry.insert("remainingTokens".to_owned(), tokens.into());
        }
        meta.insert(DELEGATION_META_KEY.to_owned(), entry.into());
    }

    /// Returns the hops of a call to this agent: one deeper, with its name.
    pub(super) fn to_agent(&self, agent: Arc<str>) -> Self {
        let mut visited = Vec::with_capacity(self.visited.len() + 1);
        visited.extend_from_slice(&self.visited);
        visited.push(agent);
        Self {
            depth: self.depth.saturating_add(1),
            visited,
            remaining_time: self.remaining_time,
            remaining_tokens: self.remaining_tokens,
        }
    }
}

fn misfit(reason: &str) -> Error {
    let message = format!(
        "`_meta[\"{DELEGATION_META_KEY}\"]` cannot be read: {reason}; pass the entry of the \
         received call on, or leave it out"
    );
    ErrorData::invalid_params(message, None).into()
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        millis.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.map(Duration::from_millis))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta(entry: Value) -> RequestMetaObject {
        let mut meta = RequestMetaObject::new();
        meta.insert(DELEGATION_META_KEY.to_owned(), entry);
        meta
    }

    #[test]
    fn hops_are_read_as_they_were_written() {
        let hops = Hops {
            remaining_time: Some(Duration::from_millis(1_500)),
            remaining_tokens: Some(7),
            ..Hops::default()
        };
        let next = hops.to_agent("coder".into());
        let mut meta = RequestMetaObject::new();
        next.write(next.remaining_time, &mut meta);
        let written = json!({
            "depth": 1, "visited": ["coder"], "remainingMs": 1500, "remainingTokens": 7,
        });
        assert_eq!(meta[DELEGATION_META_KEY], written);
        assert_eq!(Hops::read(&meta).unwrap(), Some(next));
        assert_eq!(Hops::read(&RequestMetaObject::new()).unwrap(), None);
    }

    #[test]
    fn an_entry_of_another_form_is_refused_by_its_place() {
        for (entry, says) in [
            (json!(3), "not an object"),
            (json!([1]), "not an object"),
            (json!({ "depth": -1 }), "`depth`"),
            (json!({ "visited": [1] }), "`visited[0]`"),
            (json!({ "visited": vec!["a"; 65] }), "more than 64 agents"),
            (
                json!({ "visited": ["a".repeat(129)] }),
                "more than 128 bytes",
            ),
        ] {
            let error = Hops::read(&meta(entry)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
            assert!(error.contains(DELEGATION_META_KEY), "{error}");
        }
    }
}
