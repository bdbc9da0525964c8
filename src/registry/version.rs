//! Which of several versions of a tool is meant.

use std::cmp::Reverse;

use semver::Version;

/// The key of a call's `_meta` that names the version of the tool to run, as `name@version` does in the
/// tool's name. The tools of `tools/list` say theirs under the same key.
pub const VERSION_META_KEY: &str = "rmcp-layers/tool-version";
/// The key of a listed tool's `_meta` that lists the versions there are, newest first.
pub const VERSIONS_META_KEY: &str = "rmcp-layers/tool-versions";
/// The key of a result's `_meta` that says that the version that ran is deprecated, and what instead.
pub const DEPRECATED_META_KEY: &str = "rmcp-layers/deprecated";

/// The order in which versions are preferred: releases before pre-releases, newer before older, and a tool
/// without a version last.
pub(super) fn preference(version: Option<&Version>) -> impl Ord + use<> {
    let released = version.is_some_and(|version| version.pre.is_empty());
    Reverse((released, version.cloned()))
}

/// The name and the version in `name@version`.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('@')
}
