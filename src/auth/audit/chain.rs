//! The lines of a log, each with the hash of the one before it.

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

use super::{AuditError, AuditRecord, arguments::hex, record::utc};

/// What the first line of a log says came before it.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// How long a line may be. What is written is shorter by far: arguments are bounded.
pub(super) const MAX_LINE: u64 = 4 * 1024 * 1024;
/// What stands between a line's body and its hash.
const HASH: &[u8] = br#","hash":""#;
/// A line's end from there: the hash, and `"}`.
const TAIL: usize = HASH.len() + 64 + 2;

/// What makes a line's hash: SHA-256, or with a key HMAC-SHA-256 (RFC 2104), which nobody makes who lacks the key.
#[derive(Clone, Default)]
pub(super) struct ChainKey(Option<Hmac<Sha256>>);

impl ChainKey {
    /// How long a key is at least, in bytes: as long as the hash (RFC 2104, section 3).
    pub(super) const LEAST: usize = 32;

    pub(super) fn new(key: &[u8]) -> Self {
        // A key of any length will do for an HMAC.
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

/// How far a log has come.
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

/// What a line says, beside its hash.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event<'a> {
    Call(&'a AuditRecord),
    /// What a crash left of a line was cut off.
    Recovered {
        time: String,
        cut_bytes: u64,
    },
}

impl Event<'_> {
    pub(super) fn recovered(cut_bytes: u64) -> Self {
        Self::Recovered {
            time: utc(SystemTime::now()),
            cut_bytes,
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

/// What has to be read of a line.
#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: String,
}

/// The line that follows `head`, with its newline, and the head it makes.
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

/// JSON on one line in which every character shows itself: what moves a terminal's cursor, or turns the direction
/// of writing, is escaped.
struct Plain;

impl serde_json::ser::Formatter for Plain {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        // Most are, and are looked at many bytes at a time.
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

/// Takes a line (without its newline) apart.
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

/// What [`verify`] found of a file that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedLog {
    /// How many lines the file has.
    pub lines: u64,
    /// The number of its first line; 1 in a log that was never rotated.
    pub first_seq: u64,
    /// The hash of the line before its first: of zeros, or that of the last line of the file before.
    pub follows: String,
    /// The number of its last line.
    pub last_seq: u64,
    /// The hash of its last line. Kept elsewhere, it shows later that the log was neither cut short nor written
    /// anew up to here.
    pub last_hash: String,
}

/// Verifies a log file: that each line is what was written, and follows the one before it.
///
/// It finds any line that was changed, removed, put in or moved, by somebody who did not write everything after it
/// anew. Against somebody who can do that, write the log with a [`chain_key`](super::AuditFile::chain_key), and
/// [verify it so](super::AuditFile::verify). Against lines cut off at the end, compare
/// [`last_hash`](VerifiedLog::last_hash) with one that was kept elsewhere. Of a log that is being written, the
/// last line may be unfinished.
///
/// It reads the whole file, and blocks.
///
/// # Errors
///
/// [`AuditError::Broken`] names the first line that does not hold; [`AuditError::Io`] if the file cannot be read.
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

/// Verifies a log with all files it was rotated into, from the oldest that is there; see [`verify`]. A file that
/// is missing between two others is found, as the first line of the later one.
///
/// # Errors
///
/// As [`verify`] has them.
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

/// The name of a file that the log was rotated into: by the number of its last line, so that their order is that
/// of their names.
pub(super) fn rotated_name(path: &Path, last_seq: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{last_seq:020}"));
    name.into()
}

/// The files the log was rotated into, oldest first.
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

/// How a file ends.
pub(super) struct End {
    /// Its last whole line, if it has one.
    pub(super) head: Option<Head>,
    /// How long the file is up to the end of that line.
    pub(super) whole: u64,
    /// The bytes after it: of a line that a crash cut short.
    pub(super) rest: u64,
}

/// Reads how a file ends. A last line that lacks nothing but its newline counts as unfinished.
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

fn no_record() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "it does not end with an audit record, or not with one of this chain key: verify it, and move it away",
    )
}
