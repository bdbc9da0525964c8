use rmcp::model::{CacheScope, ServerResult};

/// Returns a result's `ttlMs` and `cacheScope`, where it has them (MCP 2026-07-28, SEP-2549).
pub(crate) fn cache_hints(
    result: &mut ServerResult,
) -> (Option<&mut u64>, Option<&mut CacheScope>) {
    macro_rules! hints {
        ($of:expr) => {
            ($of.ttl_ms.as_mut(), $of.cache_scope.as_mut())
        };
    }
    match result {
        ServerResult::DiscoverResult(of) => (Some(&mut of.ttl_ms), Some(&mut of.cache_scope)),
        ServerResult::ListToolsResult(of) => hints!(of),
        ServerResult::ListPromptsResult(of) => hints!(of),
        ServerResult::ListResourcesResult(of) => hints!(of),
        ServerResult::ListResourceTemplatesResult(of) => hints!(of),
        ServerResult::ReadResourceResult(of) => hints!(of),
        ServerResult::ListSkillsResult(of) => hints!(of),
        ServerResult::GetSkillResult(of) => hints!(of),
        _ => (None, None),
    }
}
