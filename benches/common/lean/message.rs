//! The messages of a lean caller.

use std::io::Write;

/// The first id. All ids have as many digits, so that a request's length does not change.
const FIRST_ID: u32 = 100_000_000;
const DIGITS: usize = 9;
/// The bytes at each end of an answer in which its id is looked for, and the beginning of its text.
const ENDS: usize = 512;

/// The revision that a caller speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the names of rmcp's constants")]
pub enum Revision {
    /// With `initialize`, and over HTTP with a session.
    V_2025_06_18,
    /// Without either.
    V_2026_07_28,
}

impl Revision {
    pub fn version(self) -> &'static str {
        match self {
            Self::V_2025_06_18 => "2025-06-18",
            Self::V_2026_07_28 => "2026-07-28",
        }
    }

    pub fn has_handshake(self) -> bool {
        self == Self::V_2025_06_18
    }
}

/// A tool that returns the text of its argument `text`.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: &'static str,
    /// Without characters that JSON escapes, line feeds excepted.
    pub text: String,
}

/// Returns a text of this many bytes, in lines of 80.
pub fn long_text(bytes: usize) -> String {
    let letters = ('a'..='z').cycle();
    let text = letters.enumerate().map(|(at, letter)| match at % 80 {
        79 => '\n',
        _ => letter,
    });
    text.take(bytes).collect()
}

pub fn initialize(revision: Revision) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{}","capabilities":{{}},"clientInfo":{{"name":"lean","version":"0"}}}}}}"#,
        revision.version()
    )
}

pub const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A `tools/call` that is sent again and again, each time with an id of its own.
#[derive(Clone, Debug)]
pub struct Call {
    bytes: Vec<u8>,
    id_at: usize,
    id: u32,
    /// The text as JSON, with its first quotation mark.
    text: String,
}

impl Call {
    pub fn new(tool: &Tool, revision: Revision) -> Self {
        let text = format!("\"{}", tool.text.replace('\n', "\\n"));
        let meta = match revision.has_handshake() {
            true => String::new(),
            false => format!(
                r#","_meta":{{"io.modelcontextprotocol/protocolVersion":"{}","io.modelcontextprotocol/clientInfo":{{"name":"lean","version":"0"}},"io.modelcontextprotocol/clientCapabilities":{{}}}}"#,
                revision.version()
            ),
        };
        let start = r#"{"jsonrpc":"2.0","id":"#;
        let body = format!(
            r#"{start}{FIRST_ID},"method":"tools/call","params":{{"name":"{}","arguments":{{"text":{text}"}}{meta}}}}}"#,
            tool.name,
        );
        Self {
            bytes: body.into_bytes(),
            id_at: start.len(),
            id: FIRST_ID,
            text,
        }
    }

    /// Puts bytes before the message, made with its length.
    pub fn after(mut self, head: impl FnOnce(usize) -> String) -> Self {
        let head = head(self.bytes.len());
        self.id_at += head.len();
        self.bytes.splice(0..0, head.into_bytes());
        self
    }

    /// Puts bytes after the message.
    pub fn before(mut self, tail: &[u8]) -> Self {
        self.bytes.extend_from_slice(tail);
        self
    }

    /// Returns the request with the next id.
    pub fn next(&mut self) -> &[u8] {
        self.id += 1;
        let mut digits = &mut self.bytes[self.id_at..self.id_at + DIGITS];
        write!(digits, "{}", self.id).expect("the id fits");
        &self.bytes
    }

    /// Returns the id of the last request.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the id of an answer, which must have the text of the request.
    pub fn answered(&self, answer: &[u8]) -> u32 {
        let start = &self.text.as_bytes()[..self.text.len().min(32)];
        let head = &answer[..answer.len().min(ENDS)];
        if answer.len() < self.text.len() || find(head, start).is_none() {
            panic!("not the answer: {}", String::from_utf8_lossy(head));
        }
        let tail = &answer[answer.len().saturating_sub(ENDS)..];
        // An event has an id too, which is no number of this length.
        let id = id_in(head).or_else(|| id_in(tail));
        id.expect("an answer has its request's id")
    }
}

fn id_in(part: &[u8]) -> Option<u32> {
    let key = br#""id":"#;
    let at = find(part, key)? + key.len();
    let digits = part.get(at..at + DIGITS)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the place of `needle`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let windows = &mut haystack.windows(needle.len());
    windows.position(|window| window == needle)
}
