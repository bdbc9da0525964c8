//! Two small skills (the `io.modelcontextprotocol/skills` extension), listed one to a page.

use rmcp::ErrorData;
use rmcp::model::*;
use serde_json::json;

use super::FRESH_FOR_MS;

/// A file of a skill: its path under `skill://`, and what it says.
struct File {
    path: &'static str,
    text: &'static str,
}

struct Kept {
    name: &'static str,
    about: &'static str,
    /// `SKILL.md` first.
    files: &'static [File],
}

const SKILLS: [Kept; 2] = [
    Kept {
        name: "make-tea",
        about: "Makes a pot of tea.",
        files: &[
            File {
                path: "make-tea/SKILL.md",
                text: "---\nname: make-tea\ndescription: Makes a pot of tea.\n---\nBoil, pour, wait. See leaves/black.md.\n",
            },
            File {
                path: "make-tea/leaves/black.md",
                text: "Black tea wants four minutes.\n",
            },
        ],
    },
    Kept {
        name: "wash-up",
        about: "Washes the pot.",
        files: &[File {
            path: "wash-up/SKILL.md",
            text: "---\nname: wash-up\ndescription: Washes the pot.\n---\nHot water, no soap.\n",
        }],
    },
];

const SCHEME: &str = "skill://";

impl Kept {
    fn uri(&self) -> String {
        format!("{SCHEME}{}/{SKILL_MD}", self.name)
    }

    fn entry(&self) -> Skill {
        let files = self.files.iter().map(|file| {
            let uri = format!("{SCHEME}{}", file.path);
            SkillResource::from_bytes(uri, file.text.as_bytes())
        });
        let about = SkillFrontmatter::new(self.name, self.about);
        Skill::new(self.uri(), about, SkillResources::Files(files.collect()))
    }
}

pub fn list(cursor: Option<&str>) -> Result<ListSkillsResult, ErrorData> {
    let page = match cursor {
        None => 0,
        Some(cursor) => cursor
            .parse()
            .ok()
            .filter(|page| *page < SKILLS.len())
            .ok_or_else(|| ErrorData::invalid_params("no such page of skills", None))?,
    };
    let mut result = ListSkillsResult::default()
        .with_ttl_ms(FRESH_FOR_MS)
        .with_cache_scope(CacheScope::Public);
    result.skills = vec![SKILLS[page].entry()];
    result.next_cursor = (page + 1 < SKILLS.len()).then(|| (page + 1).to_string());
    Ok(result)
}

pub fn get(uri: &str) -> Result<GetSkillResult, ErrorData> {
    let skill = SKILLS.iter().find(|skill| skill.uri() == uri);
    let skill = skill.ok_or_else(|| nothing_at("no such skill", uri))?;
    Ok(GetSkillResult::new(skill.entry())
        .with_ttl_ms(FRESH_FOR_MS)
        .with_cache_scope(CacheScope::Public))
}

/// Every skill's `SKILL.md`, as plain resources: hosts that know nothing of skills see them too.
pub fn resources() -> impl Iterator<Item = Resource> {
    SKILLS.iter().map(|skill| {
        Resource::new(skill.uri(), skill.name)
            .with_description(skill.about)
            .with_mime_type("text/markdown")
    })
}

pub fn read(uri: &str) -> Option<ResourceContents> {
    let path = uri.strip_prefix(SCHEME)?;
    let mut files = SKILLS.iter().flat_map(|skill| skill.files);
    let file = files.find(|file| file.path == path)?;
    Some(ResourceContents::text(file.text, uri).with_mime_type("text/markdown"))
}

/// The direct children of a directory of a skill: files, then directories.
pub fn directory(uri: &str) -> Result<ReadResourceDirectoryResult, ErrorData> {
    let directory = uri.trim_end_matches('/');
    let mut children: Vec<Resource> = Vec::new();
    for file in SKILLS.iter().flat_map(|skill| skill.files) {
        let file = format!("{SCHEME}{}", file.path);
        let Some(below) = file
            .strip_prefix(directory)
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        let child = match below.split_once('/') {
            None => Resource::new(&file, below).with_mime_type("text/markdown"),
            Some((name, _)) => Resource::new(format!("{directory}/{name}"), name)
                .with_mime_type(DIRECTORY_MIME_TYPE),
        };
        if !children.iter().any(|known| known.uri == child.uri) {
            children.push(child);
        }
    }
    if children.is_empty() {
        return Err(nothing_at("not a directory", uri));
    }
    Ok(ReadResourceDirectoryResult {
        resources: children,
        ..Default::default()
    }
    .with_ttl_ms(FRESH_FOR_MS)
    .with_cache_scope(CacheScope::Public))
}

fn nothing_at(what: &'static str, uri: &str) -> ErrorData {
    ErrorData::invalid_params(what, Some(json!({ "uri": uri })))
}
