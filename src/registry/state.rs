//! State that all layers and handles of one registry share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rmcp::model::{ErrorData, Tool};
use semver::Version;
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{
    RegisteredTool, RegistryError,
    handle::{ToolStatus, UnknownTool},
    health::{Covers, HealthPolicy, HealthReport, InnerHealth, Monitor, Schedule},
    pin::Pins,
    search::{CALL_TOOL, SEARCH_TOOLS, Search},
    version::{self, VERSION_META_KEY, VERSIONS_META_KEY},
};
use crate::{
    Error, Outcome,
    protocol::{
        tool_schema::{self, LeftOut},
        unreadable_items::UnreadableLog,
    },
    util::lock,
    wire::Edit,
};

/// Maximum number of inner tools whose failures are tracked individually.
const MAX_MONITORS: usize = 10_000;

pub(super) struct Shared {
    max_tools: usize,
    health: HealthPolicy,
    /// Time for which changes are collected into one notification.
    pub(super) coalesce: Duration,
    tools: RwLock<Tools>,
    inner: Vec<InnerRule>,
    pub(super) pins: Option<Pins>,
    pub(super) search: Option<Search>,
    /// Time of the last change of the list.
    changes: watch::Sender<Option<Instant>>,
    pub(super) schedule: Schedule,
    unreadable: UnreadableLog,
    cut_short: AtomicBool,
}

/// The settings of a builder.
pub(super) struct Settings {
    pub(super) max_tools: usize,
    pub(super) health: HealthPolicy,
    pub(super) coalesce: Duration,
    pub(super) inner: Vec<InnerHealth>,
    pub(super) pins: Option<Pins>,
    pub(super) search: Option<Search>,
    pub(super) max_concurrent_checks: usize,
}

#[derive(Default)]
struct Tools {
    /// The versions of each tool, the preferred one first.
    named: BTreeMap<String, Vec<Arc<Entry>>>,
    count: usize,
    /// The listed tools, cached until the next change.
    listed: Option<Arc<Vec<Tool>>>,
}

/// One version of one registered tool.
pub(super) struct Entry {
    pub(super) tool: RegisteredTool,
    pub(super) monitor: Arc<Monitor>,
    deprecated: Mutex<Option<Arc<str>>>,
}

impl Entry {
    pub(super) fn deprecated(&self) -> Option<Arc<str>> {
        lock(&self.deprecated).clone()
    }
}

/// A health rule for inner tools.
struct InnerRule {
    covers: Covers,
    policy: HealthPolicy,
    monitors: Monitors,
}

enum Monitors {
    One(Arc<Monitor>),
    Each(Mutex<HashMap<String, Arc<Monitor>>>),
}

/// The target of a called name.
pub(super) enum Resolved {
    Own(Arc<Entry>),
    Inner,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let health = settings.health;
        let mut checked = Vec::new();
        let inner = settings.inner.into_iter().map(|rule| {
            let policy = rule.policy.unwrap_or_else(|| health.clone());
            let monitors = match &rule.covers {
                Covers::Tool(name) | Covers::Group(name) => {
                    let monitor = Monitor::new(name.clone(), policy.clone(), rule.check);
                    let monitor = Arc::new(monitor);
                    checked.push(monitor.clone());
                    Monitors::One(monitor)
                }
                Covers::Each(_) => Monitors::Each(Mutex::default()),
            };
            InnerRule {
                covers: rule.covers,
                policy,
                monitors,
            }
        });
        let shared = Arc::new(Self {
            max_tools: settings.max_tools,
            inner: inner.collect(),
            health,
            coalesce: settings.coalesce,
            tools: RwLock::default(),
            pins: settings.pins,
            search: settings.search,
            changes: watch::Sender::new(None),
            schedule: Schedule::new(settings.max_concurrent_checks),
            unreadable: UnreadableLog::default(),
            cut_short: AtomicBool::new(false),
        });
        for monitor in &checked {
            shared.watch(monitor);
        }
        shared
    }

    fn read(&self) -> RwLockReadGuard<'_, Tools> {
        self.tools.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tools> {
        self.tools.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports a change of the tool list.
    pub(super) fn changed(&self) {
        self.write().listed = None;
        if self.search.as_ref().is_some_and(Search::hides_tools) {
            // In this mode the list that callers see never changes.
            return;
        }
        self.changes.send_replace(Some(Instant::now()));
    }

    pub(super) fn changes(&self) -> watch::Receiver<Option<Instant>> {
        self.changes.subscribe()
    }

    pub(super) fn register(
        self: &Arc<Self>,
        tool: RegisteredTool,
        replace: bool,
    ) -> Result<Option<RegisteredTool>, RegistryError> {
        let name = tool.name().to_owned();
        if self.search.is_some() && [SEARCH_TOOLS, CALL_TOOL].contains(&name.as_str()) {
            return Err(RegistryError::Reserved { tool: name });
        }
        let policy = tool.parts().health.clone();
        let monitor = Arc::new(Monitor::new(
            name.clone(),
            policy.unwrap_or_else(|| self.health.clone()),
            tool.parts().check.clone(),
        ));
        let entry = Arc::new(Entry {
            tool,
            monitor: monitor.clone(),
            deprecated: Mutex::default(),
        });
        let mut tools = self.write();
        let count = tools.count;
        let same = |other: &Arc<Entry>| other.tool.version() == entry.tool.version();
        let versions = tools.named.get(&name).map_or(&[][..], Vec::as_slice);
        let replaced = match versions.iter().position(same) {
            Some(_) if !replace => {
                return Err(RegistryError::Duplicate {
                    tool: name,
                    version: entry.tool.version().cloned(),
                });
            }
            Some(index) => Some(index),
            None if count >= self.max_tools => {
                return Err(RegistryError::Full {
                    max: self.max_tools,
                });
            }
            None => None,
        };
        let versions = tools.named.entry(name).or_default();
        let old = match replaced {
            Some(index) => Some(std::mem::replace(&mut versions[index], entry)),
            None => {
                versions.push(entry);
                versions.sort_by_cached_key(|entry| version::preference(entry.tool.version()));
                None
            }
        };
        if old.is_none() {
            tools.count += 1;
        }
        drop(tools);
        self.watch(&monitor);
        self.changed();
        Ok(old.map(|old| old.tool.clone()))
    }

    /// Removes a tool, or one version of it. Returns the number of removed versions.
    pub(super) fn unregister(&self, name: &str) -> Result<usize, RegistryError> {
        let unknown = || RegistryError::Unknown {
            tool: name.to_owned(),
        };
        let mut tools = self.write();
        let removed = match tools.named.remove(name) {
            Some(versions) => versions,
            None => {
                let (base, version) = version::split(name).ok_or_else(unknown)?;
                let version = Version::parse(version).map_err(|_| unknown())?;
                let versions = tools.named.get_mut(base).ok_or_else(unknown)?;
                let same = |entry: &Arc<Entry>| entry.tool.version() == Some(&version);
                let index = versions.iter().position(same).ok_or_else(unknown)?;
                let removed = versions.remove(index);
                if versions.is_empty() {
                    tools.named.remove(base);
                }
                vec![removed]
            }
        };
        tools.count -= removed.len();
        // The lock is released before the removed tools are dropped: a handler's data may use the
        // registry on drop.
        drop(tools);
        self.changed();
        Ok(removed.len())
    }

    pub(super) fn deprecate(
        &self,
        name: &str,
        note: Option<Arc<str>>,
    ) -> Result<(), RegistryError> {
        let unknown = || RegistryError::Unknown {
            tool: name.to_owned(),
        };
        let entry = match self.resolve(name, None) {
            Ok(Resolved::Own(entry)) => entry,
            _ => return Err(unknown()),
        };
        *lock(&entry.deprecated) = note;
        self.changed();
        Ok(())
    }

    /// Resolves a name to a registered tool, in its preferred version or the pinned one.
    pub(super) fn resolve(
        &self,
        name: &str,
        pinned: Option<&str>,
    ) -> Result<Resolved, UnknownTool> {
        let tools = self.read();
        let (versions, pinned) = match (tools.named.get(name), version::split(name)) {
            (Some(versions), _) => (versions, pinned),
            (None, Some((base, version))) => match tools.named.get(base) {
                Some(versions) => (versions, Some(version)),
                None => return Ok(Resolved::Inner),
            },
            (None, None) => return Ok(Resolved::Inner),
        };
        let entry = match pinned {
            None => versions.first(),
            Some(pinned) => {
                let pinned = Version::parse(pinned).ok();
                let same = |entry: &&Arc<Entry>| {
                    pinned.is_some() && entry.tool.version() == pinned.as_ref()
                };
                versions.iter().find(same)
            }
        };
        entry
            .cloned()
            .map(Resolved::Own)
            .ok_or_else(|| UnknownTool {
                name: name.to_owned(),
                pinned: pinned.map(str::to_owned),
                versions: versions
                    .iter()
                    .filter_map(|entry| entry.tool.version().cloned())
                    .collect(),
            })
    }

    /// Returns `true` if the registered tools are served alone, because the inner stack cannot be
    /// reached.
    pub(super) fn serves_without(&self, error: &Error) -> bool {
        (error.is_transport() || error.is_timeout()) && !self.listed().is_empty()
    }

    /// Returns the listed registered tools, by name.
    pub(super) fn listed(&self) -> Arc<Vec<Tool>> {
        if let Some(listed) = &self.read().listed {
            return listed.clone();
        }
        let mut tools = self.write();
        let listed: Arc<Vec<Tool>> = Arc::new(
            tools
                .named
                .values()
                .filter_map(|versions| listed_tool(versions))
                .collect(),
        );
        tools.listed = Some(listed.clone());
        listed
    }

    pub(super) fn is_registered(&self, name: &str) -> bool {
        self.read().named.contains_key(name)
    }

    /// Returns the search tags of a registered tool.
    pub(super) fn tags(&self, name: &str) -> Vec<String> {
        let tools = self.read();
        let first = tools.named.get(name).and_then(|versions| versions.first());
        first.map_or_else(Vec::new, |entry| entry.tool.tags().to_vec())
    }

    pub(super) fn statuses(&self) -> Vec<ToolStatus> {
        let tools = self.read();
        let entries = tools.named.values().flat_map(|versions| {
            versions
                .iter()
                .enumerate()
                .map(|(index, entry)| (index == 0, entry))
        });
        entries
            .map(|(preferred, entry)| {
                let health = entry.monitor.report();
                ToolStatus {
                    name: entry.tool.name().to_owned(),
                    version: entry.tool.version().cloned(),
                    listed: preferred && entry.monitor.down().is_none(),
                    deprecated: entry.deprecated(),
                    health,
                }
            })
            .collect()
    }

    /// Returns the health monitor of an inner tool, if there is one. A monitor is created by the
    /// first failure.
    fn inner_monitor(&self, name: &str, outcome: Option<Outcome>) -> Option<Arc<Monitor>> {
        let rule = self.inner.iter().find(|rule| match &rule.covers {
            Covers::Tool(tool) => tool == name,
            Covers::Group(prefix) | Covers::Each(prefix) => name.starts_with(prefix),
        })?;
        let monitors = match &rule.monitors {
            Monitors::One(monitor) => return Some(monitor.clone()),
            Monitors::Each(monitors) => monitors,
        };
        let mut monitors = lock(monitors);
        if let Some(monitor) = monitors.get(name) {
            return Some(monitor.clone());
        }
        if outcome.and_then(|outcome| rule.policy.judge(outcome)) != Some(false) {
            return None;
        }
        if monitors.len() >= MAX_MONITORS {
            monitors.retain(|_, monitor| monitor.down().is_some());
        }
        if monitors.len() >= MAX_MONITORS {
            return None;
        }
        let monitor = Arc::new(Monitor::new(name.to_owned(), rule.policy.clone(), None));
        monitors.insert(name.to_owned(), monitor.clone());
        Some(monitor)
    }

    /// Returns the monitor to record an inner tool's outcome in. A tool without failures has none.
    pub(super) fn monitor_after(&self, name: &str, outcome: Outcome) -> Option<Arc<Monitor>> {
        self.inner_monitor(name, Some(outcome))
    }

    /// Returns the health of an inner tool, if it is known.
    pub(super) fn inner_health(&self, name: &str) -> Option<HealthReport> {
        Some(self.inner_monitor(name, None)?.report())
    }

    /// Returns the reason why an inner tool must not be listed or called, if there is one.
    pub(super) fn inner_down(&self, name: &str) -> Option<Arc<str>> {
        if let Some(reason) = self.pins.as_ref().and_then(|pins| pins.quarantined(name)) {
            return Some(reason);
        }
        self.inner_monitor(name, None)?.down()
    }

    /// Logs, once, that not all pages of the inner stack's list are read.
    pub(super) fn log_cut_short(&self, why: &str) {
        if !self.cut_short.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "the inner stack's list of tools is not followed further"
            );
        }
    }

    /// Removes hidden tools from the inner stack's list, and completes the others.
    pub(super) fn filter_inner(&self, tools: &[Tool]) -> Vec<Edit<Tool>> {
        let mut no_room = HashSet::new();
        if let Some(pins) = &self.pins
            && pins.compare(tools, &mut no_room)
        {
            self.changed();
        }
        let searching = self.search.is_some();
        let is_hidden = |name: &str| {
            let reserved = searching && [SEARCH_TOOLS, CALL_TOOL].contains(&name);
            reserved || self.is_registered(name) || self.inner_down(name).is_some()
        };
        let mut left_out = Vec::new();
        let mut edit = |(index, tool): (usize, &Tool)| {
            if no_room.contains(&index) || is_hidden(&tool.name) {
                return Edit::Remove;
            }
            // After the pins, which hold the server's own definitions.
            match tool_schema::completed(tool, index, &mut left_out) {
                Ok(None) => Edit::Keep,
                Ok(Some(completed)) => Edit::Replace(completed),
                Err(LeftOut) => Edit::Remove,
            }
        };
        let edits = tools.iter().enumerate().map(&mut edit).collect();
        self.unreadable.log("inner", &left_out);
        edits
    }
}

/// Returns the tool as it is listed, if it is.
fn listed_tool(versions: &[Arc<Entry>]) -> Option<Tool> {
    let first = versions.first()?;
    if first.monitor.down().is_some() {
        return None;
    }
    let mut tool = first.tool.definition().clone();
    if let Some(version) = first.tool.version() {
        let meta = tool.meta.get_or_insert_default();
        meta.insert(VERSION_META_KEY.to_owned(), version.to_string().into());
        if versions.len() > 1 {
            let all = versions.iter().filter_map(|entry| entry.tool.version());
            let all: Vec<String> = all.map(ToString::to_string).collect();
            meta.insert(VERSIONS_META_KEY.to_owned(), json!(all));
        }
    }
    if let Some(note) = first.deprecated() {
        let description = tool.description.as_deref().unwrap_or_default();
        tool.description = Some(
            format!("Deprecated: {note} {description}")
                .trim_end()
                .to_owned()
                .into(),
        );
    }
    Some(tool)
}

/// Returns the error for a call of a known tool that must not be called.
pub(super) fn unavailable(name: &str, reason: &str) -> ErrorData {
    let data = json!({ "tool": name, "state": "unhealthy", "reason": reason });
    let message = format!("Tool not found or unhealthy: {name} ({reason})");
    ErrorData::invalid_params(message, Some(data))
}
