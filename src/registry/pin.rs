//! Pins the definitions of inner tools as they were first seen.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard},
};

use rmcp::model::Tool;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{ConfigError, util::lock};

/// Maximum number of pinned tools. Further ones are held back, because their first definition is
/// unknown.
pub(super) const MAX_PINS: usize = 10_000;

/// The SHA-256 of a tool's definition: name, title, description, schemas and annotations,
/// independent of the order of their members. Icons and `_meta` are not part of it, because models
/// do not act on them.
///
/// Its text, by `Display` and `FromStr`, is 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Returns the fingerprint of a definition.
    pub fn of(tool: &Tool) -> Self {
        let mut hash = Sha256::new();
        feed_text(&mut hash, &tool.name);
        for text in [tool.title.as_deref(), tool.description.as_deref()] {
            feed_option(&mut hash, text, feed_text);
        }
        feed_object(&mut hash, &tool.input_schema);
        feed_option(&mut hash, tool.output_schema.as_deref(), feed_object);
        let annotations = tool
            .annotations
            .as_ref()
            .and_then(|annotations| serde_json::to_value(annotations).ok());
        feed_option(&mut hash, annotations.as_ref(), feed);
        Self(hash.finalize().into())
    }
}

/// Each value begins with its kind and its length, so that two definitions never produce the same
/// bytes.
fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Object(members) => feed_object(hash, members),
        Value::Array(items) => {
            hash.update([b'[']);
            feed_length(hash, items.len());
            for item in items {
                feed(hash, item);
            }
        }
        Value::String(text) => feed_text(hash, text),
        Value::Number(number) => {
            hash.update([b'#']);
            feed_text(hash, &number.to_string());
        }
        Value::Bool(true) => hash.update([b't']),
        Value::Bool(false) => hash.update([b'f']),
        Value::Null => hash.update([b'n']),
    }
}

fn feed_object(hash: &mut Sha256, members: &serde_json::Map<String, Value>) {
    hash.update([b'{']);
    feed_length(hash, members.len());
    let mut names: Vec<&String> = members.keys().collect();
    names.sort_unstable();
    for name in names {
        feed_text(hash, name);
        feed(hash, &members[name]);
    }
}

fn feed_text(hash: &mut Sha256, text: &str) {
    hash.update([b'"']);
    feed_length(hash, text.len());
    hash.update(text);
}

fn feed_length(hash: &mut Sha256, length: usize) {
    hash.update(u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes());
}

fn feed_option<T: ?Sized>(hash: &mut Sha256, value: Option<&T>, feed: impl Fn(&mut Sha256, &T)) {
    match value {
        Some(value) => feed(hash, value),
        None => hash.update([b'-']),
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl FromStr for Fingerprint {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = || {
            ConfigError::new(
                "registry",
                "pins",
                "a fingerprint is not 64 hexadecimal digits; give those of `RegistryHandle::pins`",
            )
        };
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// An inner tool that is held back, because its definition differs from the accepted one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Quarantined {
    /// The current definition.
    pub offered: Tool,
    /// The accepted definition, if it was accepted since the process started.
    pub accepted: Option<Tool>,
    /// The accepted definition's fingerprint.
    pub fingerprint: Fingerprint,
}

/// The accepted definitions.
pub(super) struct Pins {
    by_name: Mutex<BTreeMap<String, Pin>>,
}

struct Pin {
    accepted: Accepted,
    /// The current definition, if it differs.
    offered: Option<Tool>,
}

enum Accepted {
    /// Accepted before the process started.
    Before(Fingerprint),
    /// The whole definition: comparing is much cheaper than hashing, and most definitions never
    /// change.
    Listed(Box<Tool>),
}

impl Pin {
    fn fingerprint(&self) -> Fingerprint {
        match &self.accepted {
            Accepted::Before(fingerprint) => *fingerprint,
            Accepted::Listed(tool) => Fingerprint::of(tool),
        }
    }

    /// Compares with the current definition. Returns `true` if the tool enters or leaves
    /// quarantine.
    fn compare(&mut self, tool: &Tool) -> bool {
        if self.offered.as_ref() == Some(tool) {
            return false;
        }
        let same = matches!(&self.accepted, Accepted::Listed(seen) if **seen == *tool);
        if same || Fingerprint::of(tool) == self.fingerprint() {
            if !same {
                self.accepted = Accepted::Listed(Box::new(tool.clone()));
            }
            return self.offered.take().is_some();
        }
        tracing::warn!(tool = %tool.name, "its definition changed: held back until it is approved");
        self.offered.replace(tool.clone()).is_none()
    }
}

impl Pins {
    /// Creates pins from fingerprints that were accepted before.
    pub(super) fn restore(pins: Vec<(String, Fingerprint)>) -> Self {
        let pins = pins.into_iter().map(|(name, fingerprint)| {
            let pin = Pin {
                accepted: Accepted::Before(fingerprint),
                offered: None,
            };
            (name, pin)
        });
        Self {
            by_name: Mutex::new(pins.collect()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Pin>> {
        lock(&self.by_name)
    }

    /// Compares with the current definitions. Returns `true` if a tool enters or leaves quarantine.
    /// Adds the indexes of tools for which there is no room to `no_room`.
    pub(super) fn compare(&self, tools: &[Tool], no_room: &mut HashSet<usize>) -> bool {
        let mut pins = self.lock();
        let mut changed = false;
        for (index, tool) in tools.iter().enumerate() {
            if let Some(pin) = pins.get_mut(&*tool.name) {
                changed |= pin.compare(tool);
                continue;
            }
            if pins.len() >= MAX_PINS {
                tracing::warn!(tool = %tool.name, "held back: {MAX_PINS} tools are pinned already");
                no_room.insert(index);
                continue;
            }
            let pin = Pin {
                accepted: Accepted::Listed(Box::new(tool.clone())),
                offered: None,
            };
            pins.insert(tool.name.to_string(), pin);
        }
        changed
    }

    /// Returns the reason why a tool is held back, if it is.
    pub(super) fn quarantined(&self, name: &str) -> Option<Arc<str>> {
        let pins = self.lock();
        pins.get(name)?
            .offered
            .as_ref()
            .map(|_| "its definition changed and has not been approved".into())
    }

    pub(super) fn quarantined_tools(&self) -> Vec<Quarantined> {
        let pins = self.lock();
        let held = pins.values().filter_map(|pin| {
            Some(Quarantined {
                offered: pin.offered.clone()?,
                accepted: match &pin.accepted {
                    Accepted::Listed(tool) => Some((**tool).clone()),
                    Accepted::Before(_) => None,
                },
                fingerprint: pin.fingerprint(),
            })
        });
        held.collect()
    }

    pub(super) fn approve(&self, name: &str) -> bool {
        let mut pins = self.lock();
        let Some(pin) = pins.get_mut(name) else {
            return false;
        };
        let Some(offered) = pin.offered.take() else {
            return false;
        };
        pin.accepted = Accepted::Listed(Box::new(offered));
        true
    }

    pub(super) fn fingerprints(&self) -> Vec<(String, Fingerprint)> {
        let pins = self.lock();
        pins.iter()
            .map(|(name, pin)| (name.clone(), pin.fingerprint()))
            .collect()
    }
}
