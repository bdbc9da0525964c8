//! The lines of an audit log; each line contains the hash of the line before it.

use std::{
    fmt,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AuditError, AuditRecord, record::utc};
use crate::util::text::hex;

/// The `prev` hash of the first line of a log.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Limit of a line's length in bytes. Written lines are far shorter: arguments are bounded.
pub(super) const MAX_LINE: u64 = 4 * 1024 * 1024;
/// The separator between a line's body and its hash.
const HASH: &[u8] = br#","hash":""#;
/// The length of a line's end from the separator on: the hash, and `"}`.
const TAIL: usize = HASH.len() + 64 + 2;

/// The hash function of the chain: SHA-256, or HMAC-SHA-256 (RFC 2104) if there is a key. Without
/// the key, a keyed hash cannot be forged.
#[derive(Clone, Default)]
pub(super) struct ChainKey(Option<Hmac<Sha256>>);

impl ChainKey {
    /// Minimum length of a key in bytes: the length of the hash (RFC 2104, section 3).
    pub(super) const LEAST: usize = 32;

    pub(super) fn new(key: &[u8]) -> Self {
        // An HMAC accepts a key of any length.
        Self(Hmac::new_from_slice(key).ok())
    }

    fn hash(&self, body: &[u8]) -> String {
        match &self.0 {
            None => hex(&Sha256::digest(body)),
            Some(keyed) => hex(&keyed.clone().chain_update(body).finalize().into_bytes()),
        }
    }
}

impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "..." } else { "none" })
    }
}

/// The sequence number and hash of the last line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Head {
    pub(super) fn genesis() -> Self {
        Self {
            seq: 0,
            hash: GENESIS.to_owned(),
        }
    }
}

/// The content of a line, without its hash.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    Call(&'a AuditRecord),
    /// The remainder of a line that a crash cut short was removed.
    Recovered {
        time: String,
        cut_bytes: u64,
    },
    /// Another program has changed the file, so the log goes on in an empty one.
    Resumed {
        time: String,
        reason: &'static str,
    },
}

impl Event<'_> {
    pub(super) fn recovered(cut_bytes: u64) -> Self {
        Self::Recovered {
            time: utc(SystemTime::now()),
            cut_bytes,
        }
    }

    pub(super) fn resumed(reason: &'static str) -> Self {
        Self::Resumed {
            time: utc(SystemTime::now()),
            reason,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    seq: u64,
    prev: &'a str,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// The members of a line that verification reads.
#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: String,
}

/// Returns the line that follows `head`, with its newline, and the head after it.
pub(super) fn line(key: &ChainKey, head: &Head, event: &Event<'_>) -> io::Result<(Vec<u8>, Head)> {
    let seq = head.seq + 1;
    let mut line = Vec::with_capacity(512);
    let body = Body {
        seq,
        prev: &head.hash,
        event,
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut line, Plain);
    body.serialize(&mut serializer)?;
    line.pop();
    let hash = key.hash(&line);
    line.extend_from_slice(HASH);
    line.extend_from_slice(hash.as_bytes());
    line.extend_from_slice(b"\"}\n");
    Ok((line, Head { seq, hash }))
}

/// A JSON formatter that writes one line and escapes invisible characters: control characters, and
/// characters that change the direction of text.
struct Plain;

impl serde_json::ser::Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most fragments are plain ASCII, and this check reads many bytes at a time.
        if fragment.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut plain = fragment;
        while let Some(at) = plain.find(misleads) {
            let (before, rest) = plain.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut rest = rest.chars();
            if let Some(character) = rest.next() {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
            plain = rest.as_str();
        }
        writer.write_all(plain.as_bytes())
    }
}

fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Parses a line (without its newline) and checks its hash.
fn read_line(key: &ChainKey, line: &[u8]) -> Result<(Link, Head), &'static str> {
    let body_length = line.len().checked_sub(TAIL).ok_or("is no record")?;
    let (body, tail) = line.split_at(body_length);
    let hash = tail
        .strip_prefix(HASH)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .ok_or("is no record")?;
    let computed = key.hash(body);
    if computed.as_bytes() != hash {
        return Err("was changed: its hash does not fit");
    }
    let link: Link = serde_json::from_slice(line).map_err(|_| "is no record")?;
    let head = Head {
        seq: link.seq,
        hash: computed,
    };
    Ok((link, head))
}

/// The result of [`verify`] for a file whose chain is intact.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedLog {
    /// The number of lines in the file.
    pub lines: u64,
    /// The sequence number of the first line; 1 in a log that was never rotated.
    pub first_seq: u64,
    /// The hash of the line before the first: zeros, or the hash of the last line of the previous
    /// file.
    pub follows: String,
    /// The sequence number of the last line.
    pub last_seq: u64,
    /// The hash of the last line. Keep it elsewhere to be able to show later that the log up to
    /// this line was neither cut short nor rewritten.
    pub last_hash: String,
}

/// Verifies a log file: each line is unchanged and follows the line before it.
///
/// It finds lines that were changed, removed, inserted or moved, unless all later lines were
/// rewritten as well. To detect rewriting, write the log with a
/// [`chain_key`](super::AuditFile::chain_key) and use
/// [`AuditFile::verify`](super::AuditFile::verify). To detect that lines were cut off at the end,
/// compare [`last_hash`](VerifiedLog::last_hash) with one that was kept elsewhere. The last line of
/// a log that is being written may be unfinished.
///
/// This function reads the whole file, and blocks.
///
/// # Errors
///
/// [`AuditError::Broken`] names the first invalid line. [`AuditError::Io`] is returned if the file
/// cannot be read.
pub fn verify(path: impl AsRef<Path>) -> Result<VerifiedLog, AuditError> {
    verify_by(&ChainKey::default(), path.as_ref())
}

pub(super) fn verify_by(key: &ChainKey, path: &Path) -> Result<VerifiedLog, AuditError> {
    let io = |error| AuditError::io(path, error);
    let mut reader = BufReader::new(File::open(path).map_err(io)?);
    let broken = |line, reason| AuditError::Broken {
        path: path.to_owned(),
        line,
        reason,
    };
    let mut found: Option<VerifiedLog> = None;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let mut limited = (&mut reader).take(MAX_LINE);
        if limited.read_until(b'\n', &mut line).map_err(io)? == 0 {
            break;
        }
        if line.pop() != Some(b'\n') {
            return Err(broken(number, "is unfinished, or too long"));
        }
        let (link, head) = read_line(key, &line).map_err(|reason| broken(number, reason))?;
        let Some(log) = &mut found else {
            if (link.seq == 1) != (link.prev == GENESIS) {
                return Err(broken(number, "is not how a log begins"));
            }
            found = Some(VerifiedLog {
                lines: 1,
                first_seq: link.seq,
                follows: link.prev,
                last_seq: head.seq,
                last_hash: head.hash,
            });
            continue;
        };
        if link.seq != log.last_seq + 1 {
            return Err(broken(
                number,
                "does not follow the line before it: lines are missing, or moved",
            ));
        }
        if link.prev != log.last_hash {
            return Err(broken(
                number,
                "does not follow the line before it: one of the two is not what was written there",
            ));
        }
        log.lines += 1;
        log.last_seq = head.seq;
        log.last_hash = head.hash;
    }
    found.ok_or_else(|| broken(1, "is missing: the log is empty"))
}

/// Verifies a log with all of its rotated files, from the oldest that exists; see [`verify`]. A
/// file that is missing between two others is reported at the first line of the later file.
///
/// # Errors
///
/// The same as [`verify`].
pub fn verify_all(path: impl AsRef<Path>) -> Result<Vec<VerifiedLog>, AuditError> {
    verify_all_by(&ChainKey::default(), path.as_ref())
}

pub(super) fn verify_all_by(key: &ChainKey, path: &Path) -> Result<Vec<VerifiedLog>, AuditError> {
    let mut files = rotated(path).map_err(|error| AuditError::io(path, error))?;
    // Between a rotation and the next record there is no other file.
    let alone = files.is_empty();
    if alone || path.metadata().is_ok_and(|file| file.len() > 0) {
        files.push(path.to_owned());
    }
    let mut logs: Vec<VerifiedLog> = Vec::new();
    for file in files {
        let log = verify_by(key, &file)?;
        if let Some(before) = logs.last()
            && (before.last_hash != log.follows || before.last_seq + 1 != log.first_seq)
        {
            return Err(AuditError::Broken {
                path: file,
                line: 1,
                reason: "does not follow the file before it",
            });
        }
        logs.push(log);
    }
    Ok(logs)
}

/// Returns the name of a rotated file. It ends with the zero-padded sequence number of the file's
/// last line, so that sorting by name sorts by age.
pub(super) fn rotated_name(path: &Path, last_seq: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{last_seq:020}"));
    name.into()
}

/// Returns the name for a file that has other text after the line with this sequence number.
pub(super) fn foreign_name(path: &Path, last_seq: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".foreign.{last_seq:020}"));
    name.into()
}

/// Returns the rotated files of the log, oldest first.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let Some(name) = path.file_name() else {
        return Ok(Vec::new());
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = name.as_encoded_bytes();
    let mut files = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let found = entry.file_name();
        let suffix = found.as_encoded_bytes().strip_prefix(name);
        let is_rotated = suffix
            .and_then(|suffix| suffix.strip_prefix(b"."))
            .is_some_and(|number| number.len() == 20 && number.iter().all(u8::is_ascii_digit));
        if is_rotated {
            files.push(folder.join(found));
        }
    }
    files.sort();
    Ok(files)
}

/// The end of a log file.
pub(super) struct End {
    /// The last complete line, if there is one.
    pub(super) head: Option<Head>,
    /// The length of the file up to the end of that line.
    pub(super) whole: u64,
    /// The number of bytes after it: the remainder of a line that a crash cut short.
    pub(super) rest: u64,
}

/// Reads the end of a file. A last line without a newline counts as unfinished.
pub(super) fn read_end(key: &ChainKey, file: &mut File) -> io::Result<End> {
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(2 * MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut bytes)?;
    let Some(newline) = bytes.iter().rposition(|&byte| byte == b'\n') else {
        let end = End {
            head: None,
            whole: 0,
            rest: length,
        };
        return if from == 0 { Ok(end) } else { Err(no_record()) };
    };
    let start = bytes[..newline]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |before| before + 1);
    let (_, head) = read_line(key, &bytes[start..newline]).map_err(|_| no_record())?;
    let whole = from + newline as u64 + 1;
    Ok(End {
        head: Some(head),
        whole,
        rest: length - whole,
    })
}

/// Returns `true` if the file does not end like an audit log, of whatever key, from `start` on.
pub(super) fn ends_in_other_text(file: &mut File, start: u64) -> io::Result<bool> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(
        start.max(length.saturating_sub(2 * MAX_LINE)),
    ))?;
    let mut bytes = Vec::new();
    file.take(2 * MAX_LINE).read_to_end(&mut bytes)?;
    let mut lines = bytes.rsplit(|&byte| byte == b'\n');
    let unfinished = lines.next().unwrap_or_default();
    let line_begins = br#"{"seq":"#;
    Ok(match lines.next() {
        _ if !unfinished.is_empty() => !unfinished.starts_with(line_begins),
        Some(line) => serde_json::from_slice::<Link>(line).is_err(),
        None => false,
    })
}

fn no_record() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it does not end with an audit record, or not with one of this chain key: verify it, and move it away",
    )
}
