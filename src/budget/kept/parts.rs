use rmcp::model::{ContentBlock, ResourceContents, ServerResult};
use serde::{Deserialize, Serialize};

use crate::Lossless;

/// The place of the structured content of a tool result.
const STRUCTURED: &str = "/structuredContent";

/// A full result, as the texts and blobs that it consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::budget) struct KeptResult {
    parts: Vec<KeptPart>,
    /// The length of a page.
    page_bytes: usize,
}

/// A text or a blob of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::budget) struct KeptPart {
    /// Its place, as a JSON pointer into the result.
    pub pointer: String,
    pub mime_type: Option<String>,
    /// Text, or base64 if it is a blob.
    pub data: std::sync::Arc<str>,
    pub is_blob: bool,
}

impl KeptPart {
    pub(in crate::budget) fn text(
        pointer: impl Into<String>,
        mime_type: Option<String>,
        text: impl Into<std::sync::Arc<str>>,
    ) -> Self {
        Self {
            pointer: pointer.into(),
            mime_type,
            data: text.into(),
            is_blob: false,
        }
    }

    fn blob(
        pointer: impl Into<String>,
        mime_type: Option<String>,
        blob: impl Into<std::sync::Arc<str>>,
    ) -> Self {
        Self {
            is_blob: true,
            ..Self::text(pointer, mime_type, blob)
        }
    }
}

impl KeptResult {
    /// Creates a kept result. `page_bytes` is the length of its pages.
    pub(in crate::budget) fn new(parts: Vec<KeptPart>, page_bytes: usize) -> Self {
        Self {
            parts,
            // A page has room for any character.
            page_bytes: page_bytes.max(char::MAX.len_utf8()),
        }
    }

    /// Sets the length of the pages.
    pub(in crate::budget) fn with_page_bytes(self, page_bytes: usize) -> Self {
        Self::new(self.parts, page_bytes)
    }

    pub(in crate::budget) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    pub(in crate::budget) fn parts(&self) -> &[KeptPart] {
        &self.parts
    }

    /// Returns the length of all parts.
    pub(in crate::budget) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.data.len()).sum()
    }

    /// Returns the part that is read if none is named: the longest text of the content, or the
    /// structured content if it has much more. Without text, it is the first blob.
    pub(in crate::budget) fn main_part(&self) -> Option<&KeptPart> {
        let structured = self.structured_part();
        let texts = self.parts.iter().filter(|part| !part.is_blob);
        let content = texts.filter(|part| part.pointer != STRUCTURED);
        // Of two texts of one length, the first.
        let longest = content.rev().max_by_key(|part| part.data.len());
        match (longest, structured) {
            // Text that repeats it has about its length: JSON adds escapes to it.
            (Some(text), Some(structured)) => {
                let has_more = structured.data.len() / 2 > text.data.len();
                Some(if has_more { structured } else { text })
            }
            (text, structured) => text.or(structured).or_else(|| self.parts.first()),
        }
    }

    /// Returns the part with the JSON that a pointer leads into if it names no part.
    pub(in crate::budget) fn json_part(&self) -> Option<&KeptPart> {
        self.structured_part().or_else(|| self.main_part())
    }

    fn structured_part(&self) -> Option<&KeptPart> {
        self.parts.iter().find(|part| part.pointer == STRUCTURED)
    }

    pub(super) fn to_bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(self).ok()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let kept: Self = serde_json::from_slice(bytes).ok()?;
        Some(Self::new(kept.parts, kept.page_bytes))
    }
}

/// Returns the texts and blobs of a result. `structured` is the JSON of its structured content, if
/// it was written before.
pub(in crate::budget) fn parts_of(
    result: &Lossless<ServerResult>,
    structured: Option<String>,
) -> Vec<KeptPart> {
    let mut parts = Vec::new();
    match &**result {
        ServerResult::CallToolResult(tool) => {
            for (index, block) in tool.content.iter().enumerate() {
                add_block(&mut parts, &format!("/content/{index}"), block);
            }
            if let Some(value) = &tool.structured_content {
                // As it came, with the digits of its numbers.
                let came = || Some(result.member_text("structuredContent")?.to_owned());
                let json = structured.or_else(came);
                let json = json.unwrap_or_else(|| value.to_string());
                let json_type = Some("application/json".to_owned());
                parts.push(KeptPart::text(STRUCTURED, json_type, json));
            }
        }
        ServerResult::GetPromptResult(prompt) => {
            for (index, message) in prompt.messages.iter().enumerate() {
                let at = format!("/messages/{index}/content");
                add_block(&mut parts, &at, &message.content);
            }
        }
        ServerResult::ReadResourceResult(read) => {
            for (index, contents) in read.contents.iter().enumerate() {
                add_contents(&mut parts, &format!("/contents/{index}"), contents);
            }
        }
        _ => {}
    }
    parts
}

fn add_block(parts: &mut Vec<KeptPart>, at: &str, block: &ContentBlock) {
    match block {
        ContentBlock::Text(text) => {
            let at = format!("{at}/text");
            parts.push(KeptPart::text(
                at,
                Some("text/plain".to_owned()),
                &*text.text,
            ));
        }
        ContentBlock::Image(image) => {
            let (at, mime_type) = (format!("{at}/data"), Some(image.mime_type.clone()));
            parts.push(KeptPart::blob(at, mime_type, &*image.data));
        }
        ContentBlock::Audio(audio) => {
            let (at, mime_type) = (format!("{at}/data"), Some(audio.mime_type.clone()));
            parts.push(KeptPart::blob(at, mime_type, &*audio.data));
        }
        ContentBlock::Resource(embedded) => {
            add_contents(parts, &format!("{at}/resource"), &embedded.resource);
        }
        // A link that was left out is read as the JSON that it was.
        ContentBlock::ResourceLink(link) => {
            if let Ok(json) = serde_json::to_string(link) {
                let json_type = Some("application/json".to_owned());
                parts.push(KeptPart::text(at, json_type, json));
            }
        }
        // rmcp may add kinds of content.
        _ => {}
    }
}

fn add_contents(parts: &mut Vec<KeptPart>, at: &str, contents: &ResourceContents) {
    match contents {
        ResourceContents::TextResourceContents {
            mime_type, text, ..
        } => parts.push(KeptPart::text(
            format!("{at}/text"),
            mime_type.clone(),
            &**text,
        )),
        ResourceContents::BlobResourceContents {
            mime_type, blob, ..
        } => parts.push(KeptPart::blob(
            format!("{at}/blob"),
            mime_type.clone(),
            &**blob,
        )),
        // rmcp may add kinds of contents.
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::CallToolResult;

    use super::*;

    #[test]
    fn the_parts_of_a_result_are_its_texts_and_blobs() {
        let mut result = CallToolResult::success(vec![
            ContentBlock::text("short"),
            ContentBlock::image("aGk=", "image/png"),
            ContentBlock::text("somewhat longer"),
        ]);
        result.structured_content = Some(serde_json::json!({ "z": 1, "a": [2] }));
        let parts = parts_of(&Lossless::new(result.into()), None);
        let pointers: Vec<_> = parts.iter().map(|part| &*part.pointer).collect();
        assert_eq!(
            pointers,
            [
                "/content/0/text",
                "/content/1/data",
                "/content/2/text",
                "/structuredContent"
            ]
        );
        assert_eq!(&*parts[3].data, r#"{"z":1,"a":[2]}"#);
        let kept = KeptResult::new(parts, 10);
        assert_eq!(kept.main_part().unwrap().pointer, "/content/2/text");
        assert_eq!(kept.json_part().unwrap().pointer, STRUCTURED);
        let restored = KeptResult::from_bytes(&kept.to_bytes().unwrap());
        assert_eq!(restored, Some(kept));
    }
}
