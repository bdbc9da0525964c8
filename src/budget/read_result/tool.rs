use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use serde_json::{Value, json};

use super::{
    super::{kept::SCHEME, report::BUDGET_META_KEY},
    request::MAX_SEARCH,
};

/// The member of the tool's `_meta` with the scheme of the URIs that it reads. By it, an outer
/// budget tells the tool from others of its name.
const READS: &str = "reads";

/// Returns the definition of the tool.
pub(in crate::budget) fn definition(name: &str) -> Tool {
    let pointer = "A JSON pointer to the part to read, such as /items/0/name. The longest text if it \
                   is not given.";
    let schema = json!({
        "type": "object",
        "properties": {
            "id": { "type": "string", "description": "The id in the note of the cut result." },
            "page": {
                "type": "integer", "minimum": 1,
                "description": "The page to read. 1 if nothing else is given.",
            },
            "offset": {
                "type": "integer", "minimum": 0,
                "description": "The byte to begin at, in place of `page`.",
            },
            "limit": {
                "type": "integer", "minimum": 1,
                "description": "The most bytes to read from `offset` on.",
            },
            "pointer": { "type": "string", "description": pointer },
            "search": {
                "type": "string", "minLength": 1, "maxLength": MAX_SEARCH,
                "description": "Text to find in all texts or at `pointer`, in place of reading. Case matters.",
            },
        },
        "required": ["id"],
        "additionalProperties": false,
    });
    let schema = match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    };
    let description = "Reads the rest of a tool result that was cut: by page, by offset, by JSON \
                       pointer or by search.";
    let mut tool = Tool::new(name.to_owned(), description, schema);
    let annotations = ToolAnnotations::new().read_only(true).open_world(false);
    tool.annotations = Some(annotations.idempotent(true));
    let mark = json!({ READS: SCHEME });
    let meta = tool.meta.get_or_insert_default();
    meta.insert(BUDGET_META_KEY.to_owned(), mark);
    tool
}

/// Returns `true` if a tool is that of a budget.
pub(in crate::budget) fn reads_kept_results(tool: &Tool) -> bool {
    let mark = tool
        .meta
        .as_ref()
        .and_then(|meta| meta.get(BUDGET_META_KEY));
    mark.is_some_and(|mark| mark[READS] == SCHEME)
}
