//! Reads of kept results: by the tool `read_result`, and by `resources/read` of `result://` URIs.

mod document;
mod note;
mod page;
mod request;
mod search;
mod tool;

pub(super) use self::{
    document::Document,
    page::{Page, read_page},
    request::{Misread, Range, ReadRequest},
    tool::{definition, reads_kept_results},
};
