//! Two resources, one template, and the files of the skills.

use rmcp::ErrorData;
use rmcp::model::*;
use serde_json::json;

use super::content::PIXEL;
use super::{FRESH_FOR_MS, skills};

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";

pub fn list() -> ListResourcesResult {
    let mut resources = vec![
        Resource::new(TEXT, "Text")
            .with_description("A few words that never change")
            .with_mime_type("text/plain"),
        Resource::new(BINARY, "Binary")
            .with_description("A picture of one pixel")
            .with_mime_type("image/png"),
    ];
    resources.extend(skills::resources());
    ListResourcesResult {
        resources,
        ..Default::default()
    }
    .with_ttl_ms(FRESH_FOR_MS)
    .with_cache_scope(CacheScope::Public)
}

pub fn templates() -> ListResourceTemplatesResult {
    ListResourceTemplatesResult {
        resource_templates: vec![
            ResourceTemplate::new("test://template/{id}/data", "Data by id")
                .with_description("A record made up from its id")
                .with_mime_type("application/json"),
        ],
        ..Default::default()
    }
    .with_ttl_ms(FRESH_FOR_MS)
    .with_cache_scope(CacheScope::Public)
}

pub fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri)
            .with_mime_type("text/plain"),
        BINARY => ResourceContents::blob(PIXEL, uri).with_mime_type("image/png"),
        _ => record(uri).or_else(|| skills::read(uri)).ok_or_else(|| {
            ErrorData::resource_not_found("no such resource", Some(json!({ "uri": uri })))
        })?,
    };
    Ok(ReadResourceResult::new(vec![contents])
        .with_ttl_ms(FRESH_FOR_MS)
        .with_cache_scope(CacheScope::Public))
}

fn record(uri: &str) -> Option<ResourceContents> {
    let id = uri
        .strip_prefix("test://template/")?
        .strip_suffix("/data")?;
    let record = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
    Some(ResourceContents::text(record.to_string(), uri).with_mime_type("application/json"))
}
