use std::sync::Arc;

use serde_json::Value;

use super::{
    super::{fit::Fitter, kept::KeptResult},
    Document,
    note::{Kind, PageNote},
    request::{Range, ReadRequest},
    search::{Found, Texts},
};
use crate::util::text::boundary;

/// The tokens that joining a page and its note may add to the sum of both.
const MARGIN: usize = 16;

/// The length from which a text is searched on a thread for blocking work.
const LONG: usize = 64 * 1024;
/// The most bytes of one read by offset.
const MAX_PART: usize = 4 * 1024 * 1024;

/// A part of a kept result.
#[derive(Debug)]
pub(in crate::budget) struct Page {
    /// The part, byte for byte, or the occurrences that a search has found.
    pub text: String,
    /// The place of the part and the way to the next one, for the model.
    pub note: String,
    /// The same for the `_meta` of the answer.
    pub meta: Value,
    /// The URI of the next page.
    pub next: Option<String>,
    pub mime_type: Option<String>,
}

/// A range of a text, and the occurrences in it if it is searched.
struct Wanted {
    start: usize,
    end: usize,
    total: usize,
    kind: Kind,
    found: Option<Found>,
}

/// Reads a part of a document, at most `share` tokens with its note. `tool` is the tool that the
/// caller reads on with, if it has one.
///
/// # Errors
///
/// The reason, with the remedy.
pub(in crate::budget) async fn read_page(
    fitter: &Fitter,
    kept: &KeptResult,
    document: Document,
    read: &ReadRequest,
    share: usize,
    tool: Option<&str>,
) -> Result<Page, String> {
    let wanted = match &read.range {
        Range::Search { text, offset } => {
            let texts = searched(kept, &document, read.pointer.is_some());
            search(texts, text.clone(), *offset).await?
        }
        Range::Page(number) => page_range(*number, &document.text, kept.page_bytes())?,
        Range::Bytes { offset, limit } => {
            let limit = limit.map_or(kept.page_bytes(), |limit| {
                usize::try_from(limit).unwrap_or(usize::MAX).min(MAX_PART)
            });
            byte_range(*offset, &document.text, limit)?
        }
    };
    let mut note = PageNote {
        id: read.id,
        pointer: read.pointer.clone(),
        start: wanted.start,
        end: wanted.end,
        total: wanted.total,
        kind: wanted.kind,
        is_blob: document.is_blob,
        tool: tool.map(str::to_owned),
    };
    let room = room_beside(fitter, &note, share).await;
    let text = match wanted.found {
        None => part_within(fitter, &document.text, &mut note, room).await,
        Some(found) => lines_within(fitter, &found, &mut note, room).await,
    };
    let has_content = match &note.kind {
        Kind::Search { count, .. } => *count > 0,
        Kind::Page { .. } | Kind::Bytes => wanted.end > note.start,
    };
    if text.is_empty() && has_content {
        return Err(format!(
            "a share of {share} tokens has no room for any part of it; read it in a new conversation"
        ));
    }
    Ok(Page {
        text,
        note: note.to_text(),
        meta: note.to_meta(),
        next: note.next_uri(),
        mime_type: document.mime_type,
    })
}

/// Returns the texts that are searched: that of a pointer, else all.
fn searched(kept: &KeptResult, document: &Document, has_pointer: bool) -> Texts {
    let all = (!has_pointer).then(|| Texts::of(kept));
    let all = all.filter(|texts| !texts.is_empty());
    all.unwrap_or_else(|| Texts::one(document.text.clone()))
}

/// Searches texts, long ones on a thread for blocking work.
async fn search(texts: Texts, text: String, offset: u64) -> Result<Wanted, String> {
    let total = texts.len();
    let start = within(offset, total)?;
    let find = move || {
        let found = texts.find(&text, start);
        let kind = Kind::Search {
            text,
            shown: 0,
            count: found.count,
        };
        Wanted {
            start,
            end: start,
            total,
            kind,
            found: Some(found),
        }
    };
    match total <= LONG {
        true => Ok(find()),
        false => {
            let found = tokio::task::spawn_blocking(find).await;
            found.map_err(|error| format!("it cannot be searched: {error}"))
        }
    }
}

/// Returns an offset within a text of this length.
fn within(offset: u64, total: usize) -> Result<usize, String> {
    match usize::try_from(offset) {
        Ok(offset) if offset <= total => Ok(offset),
        _ => Err(format!(
            "`offset` is {offset}, and the text has {total} bytes"
        )),
    }
}

/// Returns the tokens of a share that are left beside a note.
async fn room_beside(fitter: &Fitter, note: &PageNote, share: usize) -> usize {
    // Whatever has room, the note is not longer than this one.
    let longest = PageNote {
        end: note.total.saturating_sub(1),
        ..note.clone()
    };
    let longest = longest.to_text();
    // A text has at most as many tokens as bytes.
    let most = longest.len();
    let cost = fitter.count(longest.into()).await.unwrap_or(most);
    share.saturating_sub(cost + MARGIN)
}

/// Returns the start of a part that there is room for, and notes its end.
async fn part_within(fitter: &Fitter, text: &str, note: &mut PageNote, room: usize) -> String {
    let part: Arc<str> = text[note.start..note.end].into();
    let length = fitter.page(part.clone(), 0, room).await;
    note.end = note.start + length;
    part[..length].to_owned()
}

/// Returns the lines of a search that there is room for, and notes their number and end.
async fn lines_within(fitter: &Fitter, found: &Found, note: &mut PageNote, room: usize) -> String {
    let all: String = found.lines.iter().map(|(line, _)| &**line).collect();
    let room = fitter.page(all.into(), 0, room).await;
    let mut text = String::new();
    let mut fitting = 0;
    for (line, end) in &found.lines {
        if text.len() + line.len() > room {
            break;
        }
        text.push_str(line);
        note.end = *end;
        fitting += 1;
    }
    if let Kind::Search { shown, .. } = &mut note.kind {
        *shown = fitting;
    }
    text
}

/// Returns the end of a page: after a line in its last quarter, else after a character.
fn page_end(text: &str, number: usize, page_bytes: usize) -> usize {
    let end = boundary(text, number.saturating_mul(page_bytes));
    if number == 0 || end == text.len() {
        return end;
    }
    let last_quarter = end - page_bytes / 4;
    let line = memchr::memrchr(b'\n', &text.as_bytes()[last_quarter..end]);
    line.map_or(end, |line| last_quarter + line + 1)
}

/// Returns the bytes of a page.
fn page_range(number: u64, text: &str, page_bytes: usize) -> Result<Wanted, String> {
    let total = text.len();
    let of = total.div_ceil(page_bytes).max(1);
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    if number > of {
        return Err(format!("there is no page {number}; the last page is {of}"));
    }
    let end = page_end(text, number, page_bytes);
    Ok(Wanted {
        start: page_end(text, number - 1, page_bytes),
        end,
        total,
        kind: Kind::Page { number, of, end },
        found: None,
    })
}

/// Returns the bytes from an offset on.
fn byte_range(offset: u64, text: &str, limit: usize) -> Result<Wanted, String> {
    let total = text.len();
    let start = boundary(text, within(offset, total)?);
    let end = boundary(text, start.saturating_add(limit));
    // A limit within one character reads that character, so that each read gets on.
    let next = text[start..].chars().next().map_or(0, char::len_utf8);
    Ok(Wanted {
        start,
        end: end.max(start + next),
        total,
        kind: Kind::Bytes,
        found: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_a_text_are_the_text() {
        let text = format!("{}{}", "aé日😀\n".repeat(50), "日".repeat(100));
        for page_bytes in [4, 5, 7, 8, 100, 10_000] {
            let mut read = String::new();
            let of = text.len().div_ceil(page_bytes);
            for number in 1..=of {
                let page = page_range(number as u64, &text, page_bytes).unwrap();
                assert!(page.end > page.start);
                read.push_str(&text[page.start..page.end]);
            }
            assert_eq!(read, text);
            let beyond = page_range(of as u64 + 1, &text, page_bytes);
            assert!(beyond.is_err_and(|reason| reason.contains("the last page is")));
        }
    }

    #[test]
    fn reads_by_offset_get_on_and_are_the_text() {
        let text = "aé日😀\n".repeat(50);
        for limit in 1..9 {
            let (mut read, mut offset) = (String::new(), 0);
            while offset < text.len() {
                let part = byte_range(offset as u64, &text, limit).unwrap();
                read.push_str(&text[part.start..part.end]);
                offset = part.end;
            }
            assert_eq!(read, text);
        }
        assert!(byte_range(10_000, &text, 100).is_err());
    }
}
