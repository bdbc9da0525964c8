//! Encoding of cache entries for the shared store.
//!
//! A stored value is a version mark, the SHA-256 of the rest, and the rest. The rest holds the
//! whole key, the generations, the private mark of an inner layer, the time to live, the way in
//! which the result was read, and the result as JSON: the text that it came from, if there is one.
//! Any other value is treated as missing.

use std::time::Duration;

use rmcp::model::ServerResult;
use sha2::{Digest, Sha256};
use tokio_util::bytes::Bytes;

use super::{
    entry::{Entry, Subject},
    remote::Generations,
};
use crate::{
    Lossless,
    caller::Era,
    protocol::methods::Method,
    store::Stored,
    util::text::hex,
    wire::{
        Reading, Source,
        answers::{Expected, ReadResult},
    },
};

const VERSION: &[u8; 4] = b"rlc2";
const DIGEST: usize = 32;

/// A cache entry that was read from the store.
pub(super) struct StoredEntry {
    pub subject: Subject,
    pub result: Lossless<ServerResult>,
    /// An inner layer marked the response as private to its caller.
    pub private: bool,
    pub fresh_for: Duration,
    /// Remaining time for which the entry is fresh.
    pub left: Duration,
}

/// Returns the store key of an entry.
pub(super) fn store_key(subject: &Subject) -> Vec<u8> {
    format!("a:{}", hex(&Sha256::digest(&*subject.key.bytes))).into_bytes()
}

/// Encodes an entry for the store.
pub(super) fn encode(entry: &Entry, private: bool, under: Generations) -> Option<Vec<u8>> {
    let key = &entry.subject.key.bytes;
    let mut bytes = Vec::with_capacity(entry.size.min(1 << 20));
    bytes.extend(VERSION);
    bytes.extend([0; DIGEST]);
    bytes.extend(u32::try_from(key.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(key);
    for generation in under.0 {
        bytes.extend(generation.to_be_bytes());
    }
    bytes.push(u8::from(private));
    let millis = u64::try_from(entry.fresh_for.as_millis()).ok()?;
    bytes.extend(millis.to_be_bytes());
    match entry.result.source() {
        Some(source) => {
            bytes.push(ReadFrom::of(source.reading())? as u8);
            bytes.extend_from_slice(&entry.result.text()?);
        }
        None => {
            bytes.push(ReadFrom::Value as u8);
            serde_json::to_writer(&mut bytes, &*entry.result).ok()?;
        }
    }
    let (head, rest) = bytes.split_at_mut(VERSION.len() + DIGEST);
    head.get_mut(VERSION.len()..)?
        .copy_from_slice(&Sha256::digest(rest));
    Some(bytes)
}

/// Decodes a stored value, if it belongs to exactly this request and is not outdated.
pub(super) fn decode(
    stored: &Stored,
    subject: &Subject,
    now: Generations,
    limit: usize,
) -> Option<StoredEntry> {
    let rest = stored.value.strip_prefix(VERSION)?;
    let (digest, rest) = rest.split_at_checked(DIGEST)?;
    let (length, rest) = rest.split_at_checked(4)?;
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let (key, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if *key != *subject.key.bytes {
        return None;
    }
    let whole = stored.value.get(VERSION.len() + DIGEST..)?;
    if Sha256::digest(whole)[..] != *digest {
        return None;
    }
    let (all, rest) = rest.split_at_checked(16)?;
    let (group, rest) = rest.split_at_checked(16)?;
    let under = [
        u128::from_be_bytes(all.try_into().ok()?),
        u128::from_be_bytes(group.try_into().ok()?),
    ];
    let (private, rest) = rest.split_first()?;
    let (millis, rest) = rest.split_at_checked(8)?;
    let (read_from, json) = rest.split_first()?;
    if Generations(under) != now || json.len() > limit {
        return None;
    }
    let fresh_for = Duration::from_millis(u64::from_be_bytes(millis.try_into().ok()?));
    // Entries are always stored with an expiry, so a value without one is not an entry.
    let left = stored.remaining?.min(fresh_for);
    Some(StoredEntry {
        subject: subject.clone(),
        result: ReadFrom::try_from(*read_from)
            .ok()?
            .read(subject.method, json)?,
        private: *private != 0,
        fresh_for,
        left,
    })
}

/// The origin of a stored result's JSON.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
enum ReadFrom {
    /// The typed value. The result came from no text.
    Value = 0,
    /// A server of a revision before 2026-07-28.
    LegacyServer = 1,
    ModernServer = 2,
}

impl TryFrom<u8> for ReadFrom {
    type Error = ();

    fn try_from(byte: u8) -> Result<Self, ()> {
        [Self::Value, Self::LegacyServer, Self::ModernServer]
            .into_iter()
            .find(|from| *from as u8 == byte)
            .ok_or(())
    }
}

impl ReadFrom {
    fn of(reading: Reading) -> Option<Self> {
        match reading {
            Reading::Params(_) => None,
            Reading::Result(read) => Some(match read.era {
                Era::Legacy => Self::LegacyServer,
                Era::Modern => Self::ModernServer,
            }),
        }
    }

    /// Reads a result. Returns `None` if it is not a result of the method.
    fn read(self, method: Method, json: &[u8]) -> Option<Lossless<ServerResult>> {
        let era = match self {
            Self::Value => {
                // An untagged parse could pick another type that fits.
                let mut from = serde_json::Deserializer::from_slice(json);
                let result = method.read_result(&mut from).ok()?;
                from.end().ok()?;
                return Some(result.into());
            }
            Self::LegacyServer => Era::Legacy,
            Self::ModernServer => Era::Modern,
        };
        let expected = Expected::result_of(method);
        let reading = ReadResult { expected, era };
        let result = reading.read(json).ok()?;
        let source = Source::new(Bytes::copy_from_slice(json), Reading::Result(reading));
        method
            .has_result(&result)
            .then(|| Lossless::from_source(result, Some(source)))
    }
}
