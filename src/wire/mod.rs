//! The two ends' reading and writing of messages.
//!
//! rmcp reads a message as the first type of a union that fits, drops the members that the type
//! does not have, and writes the type. Here a message is read once, by its method: strictly from a
//! caller, leniently from a server. It keeps its text, and leaves as it came.
//!
//! | file | contents |
//! |---|---|
//! | `lossless.rs` | a typed value with the text that it was read from |
//! | `apply.rs` | the changes to a typed value, applied to that text |
//! | `edit.rs`, `parts.rs` | changes that are applied to a text at once |
//! | `caller.rs`, `params.rs`, `strict.rs`, `outline.rs` | messages of a caller |
//! | `caller_results.rs` | results of a caller, in answer to a server |
//! | `received.rs`, `over_http.rs` | requests of a caller on their way through rmcp, and their answers |
//! | `answers.rs`, `envelope.rs`, `partial.rs`, `lists.rs`, `lenient.rs`, `numbers.rs` | messages of a server; results that can be read in part |
//! | `description.rs` | what a server says of itself, from one handshake to the other |
//! | `as_sent.rs` | notifications, and requests of a server, with parts that their types do not have |
//! | `write.rs`, `shape.rs` | messages as text; results in the shape of the caller's era |
//! | `written.rs` | answers in the text that rmcp wrote |
//! | `usual.rs` | messages whose envelope needs no reading |
//! | `ids.rs` | ids that rmcp's type cannot hold |
//! | `members.rs` | the members of an object as text |

#![allow(
    dead_code,
    unused_imports,
    reason = "the ends take it over one after another"
)]

pub(crate) mod answers;
mod apply;
pub(crate) mod as_sent;
pub(crate) mod caller;
pub(crate) mod caller_results;
pub(crate) mod description;
mod edit;
pub(crate) mod envelope;
pub(crate) mod ids;
mod lenient;
mod lists;
mod lossless;
mod members;
mod numbers;
mod outline;
#[cfg(feature = "http-server")]
pub(crate) mod over_http;
mod params;
mod partial;
#[cfg(feature = "budget")]
mod parts;
pub(crate) mod received;
mod shape;
mod strict;
mod usual;
mod write;
mod written;

pub(crate) use apply::{Elements, apply_to};
pub(crate) use edit::{Edit, Place};
pub use lossless::Lossless;
pub(crate) use lossless::{Reading, Source};
pub(crate) use members::{Members, with_members};
#[cfg(feature = "budget")]
pub(crate) use numbers::within_range;
pub(crate) use outline::Outline;
pub(crate) use params::{Beside, WithoutMeta};
#[cfg(feature = "budget")]
pub(crate) use parts::PartEdits;
pub(crate) use shape::text_for;
pub(crate) use write::{ParamsText, answer, put_answer_start, to_caller, to_server};
#[cfg(feature = "http-server")]
pub(crate) use written::WrittenAnswer;
pub(crate) use written::put_on_line;
