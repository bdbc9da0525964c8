//! The pages of a list, followed to their end.

use std::collections::HashSet;

use rmcp::model::Cursor;

/// Limit of the pages of one list that are followed.
pub(crate) const MAX_PAGES: usize = 1_000;

/// The cursors of one list.
#[derive(Default)]
pub(crate) struct Pages {
    seen: HashSet<Cursor>,
}

/// The continuation of a list after a page.
pub(crate) enum Next {
    Page(Cursor),
    End,
    /// The server announces more pages, but they are not followed. The items read so far are used.
    CutShort(&'static str),
}

impl Pages {
    /// Reads the `nextCursor` of a page.
    pub(crate) fn after(&mut self, cursor: Option<Cursor>) -> Next {
        let Some(cursor) = cursor else {
            return Next::End;
        };
        if cursor.is_empty() {
            return Next::CutShort("its `nextCursor` is empty");
        }
        if self.seen.len() + 1 >= MAX_PAGES {
            return Next::CutShort("it has more than 1000 pages");
        }
        if !self.seen.insert(cursor.clone()) {
            return Next::CutShort("it repeats a `nextCursor`");
        }
        Next::Page(cursor)
    }
}
