//! Versions of a tool.

use std::cmp::Reverse;

use semver::Version;

/// The `_meta` key of a call for the version of the tool to run, like `name@version` in the tool's
/// name. The tools in `tools/list` have their version under the same key.
pub const VERSION_META_KEY: &str = "rmcp-layers/tool-version";
/// The `_meta` key of a listed tool for its versions, newest first.
pub const VERSIONS_META_KEY: &str = "rmcp-layers/tool-versions";
/// The `_meta` key of a result whose tool version is deprecated. Its value is the deprecation note.
pub const DEPRECATED_META_KEY: &str = "rmcp-layers/deprecated";

/// Returns the sort key of preference: releases before pre-releases, newer before older, and a tool
/// without a version last.
pub(super) fn preference(version: Option<&Version>) -> impl Ord + use<> {
    let released = version.is_some_and(|version| version.pre.is_empty());
    Reverse((released, version.cloned()))
}

/// Splits `name@version`.
pub(super) fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('@')
}
