use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    AuditError, AuditRecord, AuditSink, VerifiedLog,
    chain::{self, ChainKey, Event, Head},
    sink::SinkOptions,
};

/// How large a file may be before the log goes on in another, at least.
const LEAST: u64 = 4 * 1024;

/// A log in a file: one record a line, as JSON, each with the hash of the line before it, so that
/// [`verify`](super::verify) finds a line that was changed, removed or put in.
///
/// - `seq` is the line's number, `prev` the hash of the line before it (64 zeros in the first), `event` is `call`,
///   and the other members are those of [`AuditRecord`]. `hash`, the last, is SHA-256 of the line up to the comma
///   before it, in hexadecimal; with a [`chain_key`](Self::chain_key) HMAC-SHA-256.
/// - A log that is there goes on where it ended. A line that a crash cut short is cut off, and an event
///   `recovered` says so.
/// - At [`max_bytes`](Self::max_bytes) the file is renamed (`audit.jsonl.00000000000000004711`, by its last `seq`),
///   and the log goes on in a new one. Nothing is ever deleted: the disk is the bound, and what happens when it is
///   full is for [`SinkOptions::when_full`].
/// - One process writes to a file at a time. Where another has written to it, this one writes no more, and
///   counts as [failing](super::SinkCounts::failing).
/// - Where the file is moved away or removed, the log goes on in a new one at the path (on Unix), whose first line
///   says what it follows.
/// - Characters that move a terminal's cursor or turn the direction of writing are escaped.
/// - On Unix the file is readable for its owner alone (0600), if it is made here.
///
/// ```
/// use rmcp_layers::auth::audit::{AuditFile, SinkOptions, WhenFull};
///
/// let file = AuditFile::new("/var/log/mcp/audit.jsonl")
///     .max_bytes(256 << 20)
///     .options(SinkOptions::new().when_full(WhenFull::Block));
/// # let _ = file;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuditFile {
    pub(super) path: PathBuf,
    pub(super) max_bytes: u64,
    pub(super) options: SinkOptions,
    key: ChainKey,
    /// How long the key is, if there is one.
    key_bytes: Option<usize>,
}

impl AuditFile {
    /// A log at this path, whose folder exists, with every option at its default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 64 << 20,
            options: SinkOptions::default(),
            key: ChainKey::default(),
            key_bytes: None,
        }
    }

    /// How large a file gets, in bytes: a record that would make it larger goes to a new one. At least 4 KiB.
    /// Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, max: u64) -> Self {
        self.max_bytes = max;
        self
    }

    /// How the log is fed, and what happens when it cannot be written. Default: [`SinkOptions::default`].
    #[must_use]
    pub fn options(mut self, options: SinkOptions) -> Self {
        self.options = options;
        self
    }

    /// Chains the lines by HMAC-SHA-256 (RFC 2104) under this key instead of plain SHA-256. None by default, and then
    /// whoever can write the file can write all of it anew so that it verifies; with a key, only who has the key can.
    /// At least 32 bytes, from a vault: beside the log it is of no use. It does not show that lines were cut off at
    /// the end; see [`VerifiedLog::last_hash`].
    ///
    /// A log has one key, or none, from its first line on: to change it, move the log's files away.
    #[must_use]
    pub fn chain_key(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        self.key = ChainKey::new(key);
        self.key_bytes = Some(key.len());
        self
    }

    /// Verifies the file, by its [`chain_key`](Self::chain_key) if it has one; see [`verify`](super::verify). Without
    /// the right key no line holds.
    ///
    /// ```
    /// # use rmcp_layers::auth::audit::{AuditError, AuditFile};
    /// # let path = std::env::temp_dir().join(format!("rmcp-layers-keyed-{}.jsonl", std::process::id()));
    /// # let key_from_a_vault = "a key of at least thirty-two bytes, from a vault";
    /// # std::fs::write(&path, "")?;
    /// let file = AuditFile::new(path).chain_key(key_from_a_vault);
    /// assert!(matches!(file.verify(), Err(AuditError::Broken { .. })), "the log is empty");
    /// # std::fs::remove_file(std::env::temp_dir().join(format!("rmcp-layers-keyed-{}.jsonl", std::process::id())))?;
    /// # Ok::<_, std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`verify`](super::verify) has them.
    pub fn verify(&self) -> Result<VerifiedLog, AuditError> {
        chain::verify_by(&self.key, &self.path)
    }

    /// Verifies the file with all that it was rotated into, by its [`chain_key`](Self::chain_key) if it has one; see
    /// [`verify_all`](super::verify_all).
    ///
    /// # Errors
    ///
    /// As [`verify`](super::verify) has them.
    pub fn verify_all(&self) -> Result<Vec<VerifiedLog>, AuditError> {
        chain::verify_all_by(&self.key, &self.path)
    }

    pub(super) fn open(&self) -> Result<LogFile, AuditError> {
        if let Some(bytes) = self.key_bytes.filter(|&bytes| bytes < ChainKey::LEAST) {
            return Err(AuditError::option(
                "chain_key",
                format!(
                    "{bytes} bytes are too few: take at least {}",
                    ChainKey::LEAST
                ),
            ));
        }
        if self.max_bytes < LEAST {
            return Err(AuditError::option(
                "max_bytes",
                format!("{} is too few: take at least {LEAST}", self.max_bytes),
            ));
        }
        LogFile::open(self).map_err(|error| AuditError::io(&self.path, error))
    }
}

/// The open file, on the thread that writes it.
pub(super) struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    file: File,
    /// How long the file is, if nobody else writes to it.
    length: u64,
    /// A write failed: what it left behind has to be cut off.
    torn: bool,
    key: ChainKey,
    head: Head,
}

impl LogFile {
    fn open(log: &AuditFile) -> io::Result<Self> {
        let (path, key) = (&*log.path, &log.key);
        let mut file = open(path)?;
        let end = chain::read_end(key, &mut file)?;
        let mut log = Self {
            path: path.to_owned(),
            max_bytes: log.max_bytes,
            length: end.whole + end.rest,
            torn: false,
            head: match end.head {
                Some(head) => head,
                None => last_rotated(key, path)?.unwrap_or_else(Head::genesis),
            },
            key: key.clone(),
            file,
        };
        sync_folder(path);
        if end.rest > 0 {
            log.file.set_len(end.whole)?;
            log.length = end.whole;
            log.append(&Event::recovered(end.rest))?;
            log.file.sync_data()?;
            tracing::warn!(
                path = %path.display(),
                bytes = end.rest,
                "an audit record that a crash cut short was cut off"
            );
        }
        Ok(log)
    }

    fn append(&mut self, event: &Event<'_>) -> io::Result<()> {
        self.mend()?;
        let (line, head) = chain::line(&self.key, &self.head, event)?;
        let bytes = line.len() as u64;
        if self.length > 0 && self.length + bytes > self.max_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(&line) {
            self.torn = true;
            let _ = self.mend();
            return Err(error);
        }
        self.length += bytes;
        self.head = head;
        Ok(())
    }

    /// Makes sure that the file is as it was left.
    fn mend(&mut self) -> io::Result<()> {
        let mut held = self.file.metadata()?;
        if !is_at(&held, &self.path)? {
            // What is written to a file that has no name any more is lost; the log goes on where it is looked for.
            self.file = open(&self.path)?;
            self.length = 0;
            self.torn = false;
            sync_folder(&self.path);
            held = self.file.metadata()?;
        }
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
            held = self.file.metadata()?;
        }
        if held.len() != self.length {
            return Err(io::Error::other(
                "somebody else writes to the audit log: give each process its own",
            ));
        }
        Ok(())
    }

    /// Goes on in a new file.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let to = chain::rotated_name(&self.path, self.head.seq);
        // Where the last try got no further than this, the file has its new name already.
        if self.path.try_exists()? {
            if to.try_exists()? {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            fs::rename(&self.path, to)?;
        }
        self.file = open(&self.path)?;
        self.length = 0;
        sync_folder(&self.path);
        self.mend()
    }
}

impl AuditSink for LogFile {
    fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
        self.append(&Event::Call(record))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Whether this is still the file at the path: nobody has moved or removed it.
fn is_at(held: &fs::Metadata, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        match fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    // Elsewhere a file that is open cannot be removed.
    #[cfg(not(unix))]
    {
        let _ = (held, path);
        Ok(true)
    }
}

/// Makes the file's name durable, where that is a matter of its folder.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if let Err(error) = File::open(folder).and_then(|folder| folder.sync_all()) {
            tracing::debug!(%error, "a folder could not be synced");
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// How far the log had come when it was last rotated.
fn last_rotated(key: &ChainKey, path: &Path) -> io::Result<Option<Head>> {
    let Some(last) = chain::rotated(path)?.pop() else {
        return Ok(None);
    };
    Ok(chain::read_end(key, &mut File::open(last)?)?.head)
}
