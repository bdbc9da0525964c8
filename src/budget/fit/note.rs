//! The words in which a cut is said.

use rmcp::model::Resource;

use super::{Place, Rest};

/// The places that a note names.
const NAMED_PLACES: usize = 5;

/// Returns the note of a cut.
pub(super) fn note(total: usize, limit: usize, rest: Option<&Rest>) -> String {
    let rest = rest.map_or("", |rest| rest.note.as_str());
    let mark = format!("[TRUNCATED: {total} tokens → {limit} tokens.");
    match rest {
        "" => mark + "]",
        rest => format!("{mark} {rest}]"),
    }
}

/// Returns the note of a cut that also names its places, at most `max` of them.
pub(super) fn note_with_places(note: &str, places: &[Place], count: usize, max: usize) -> String {
    let named = places.len().min(max).min(NAMED_PLACES);
    if named == 0 {
        return note.to_owned();
    }
    let mut words = note.trim_end_matches(']').to_owned();
    for (index, place) in places[..named].iter().enumerate() {
        words.push_str(if index == 0 { " Kept: " } else { "; " });
        words.push_str(&format!("{} of {}", place.change, place.pointer));
    }
    match count - named {
        0 => words.push_str(".]"),
        more => words.push_str(&format!("; and {more} more places.]")),
    }
    words
}

/// Returns a link to the full result.
pub(super) fn link(uri: &str, bytes: usize) -> Resource {
    Resource::new(uri, "full-result")
        .with_description("The full result before it was truncated")
        .with_size(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// Returns a link to a part of the full result.
pub(super) fn part_link(
    uri: &str,
    pointer: &str,
    mime_type: Option<&str>,
    bytes: usize,
) -> Resource {
    let link = Resource::new(
        format!("{uri}?pointer={pointer}"),
        pointer.trim_start_matches('/'),
    )
    .with_size(u64::try_from(bytes).unwrap_or(u64::MAX));
    match mime_type {
        Some(mime_type) => link.with_mime_type(mime_type),
        None => link,
    }
}

/// Returns the text in the place of a part that was left out and has no link.
pub(super) fn left_out(kind: &str, bytes: usize, tokens: usize) -> String {
    format!("[TRUNCATED: {kind} of {bytes} bytes, {tokens} tokens → 0 tokens.]")
}
