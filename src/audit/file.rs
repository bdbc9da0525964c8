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

/// Minimum of `max_bytes`.
const LEAST: u64 = 4 * 1024;

/// An audit log in a file: one JSON record a line, each with the hash of the line before it.
/// [`verify`](super::verify) finds a line that was changed, removed or inserted.
///
/// - `seq` is the line's number. `prev` is the hash of the line before it (64 zeros in the first
///   line). `event` is `call`, and the other members are those of [`AuditRecord`]. `hash` is the
///   last member: the SHA-256 of the line up to the comma before it, in hexadecimal. With a
///   [`chain_key`](Self::chain_key) it is the HMAC-SHA-256.
/// - An existing log is continued at its end. A line that a crash cut short is removed, and an
///   event `recovered` is written.
/// - At [`max_bytes`](Self::max_bytes) the file is renamed after its last `seq`
///   (`audit.jsonl.00000000000000004711`), and the log continues in a new file. Files are never
///   deleted. If the disk is full, [`SinkOptions::when_full`] applies.
/// - Only one process may write to a file. If another process has written records to it, this one
///   stops writing and reports [failing](super::SinkStats::failing).
/// - If the file is moved or removed, the log continues in a new file at the path (on Unix). The
///   first line of the new file refers to the line before it.
/// - If the file is emptied, as by logrotate's `copytruncate`, the log continues in it. If it has
///   other text at its end, it is renamed (`audit.jsonl.foreign.` and the last `seq`), and the log
///   continues in a new file. The first line is then the event `resumed` with the reason, and
///   refers to the line before it.
/// - Control characters, and characters that change the direction of text, are escaped.
/// - On Unix, a file created here is readable by its owner only (0600).
///
/// ```
/// use rmcp_layers::audit::{AuditFile, SinkOptions, WhenFull};
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
    /// The length of the key in bytes, if there is one.
    key_bytes: Option<usize>,
}

impl AuditFile {
    /// Creates a log at this path with default options. The folder must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 64 << 20,
            options: SinkOptions::default(),
            key: ChainKey::default(),
            key_bytes: None,
        }
    }

    /// Sets the maximum size of a file in bytes. A record that would exceed it is written to a new
    /// file. Minimum: 4 KiB. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, max: u64) -> Self {
        self.max_bytes = max;
        self
    }

    /// Sets the queue, durability and overflow options of the log. Default:
    /// [`SinkOptions::default`].
    #[must_use]
    pub fn options(mut self, options: SinkOptions) -> Self {
        self.options = options;
        self
    }

    /// Chains the lines by HMAC-SHA-256 (RFC 2104) with this key instead of plain SHA-256. Minimum:
    /// 32 bytes. Default: no key.
    ///
    /// Without a key, any process that can write the file can also rewrite all of it so that it
    /// verifies. With a key, rewriting requires the key. Load the key from a vault: stored beside
    /// the log it does not protect anything. A key does not reveal that lines were cut off at the
    /// end; see [`VerifiedLog::last_hash`].
    ///
    /// A log has the same key, or none, from its first line on. To change the key, move the log's
    /// files away.
    #[must_use]
    pub fn chain_key(mut self, key: impl AsRef<[u8]>) -> Self {
        let key = key.as_ref();
        self.key = ChainKey::new(key);
        self.key_bytes = Some(key.len());
        self
    }

    /// Verifies the file, with its [`chain_key`](Self::chain_key) if it has one; see
    /// [`verify`](super::verify). With a wrong key, no line is valid.
    ///
    /// ```
    /// # use rmcp_layers::audit::{AuditError, AuditFile};
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
    /// The same as [`verify`](super::verify).
    pub fn verify(&self) -> Result<VerifiedLog, AuditError> {
        chain::verify_by(&self.key, &self.path)
    }

    /// Verifies the file and its rotated files, with the [`chain_key`](Self::chain_key) if there is
    /// one; see [`verify_all`](super::verify_all).
    ///
    /// # Errors
    ///
    /// The same as [`verify`](super::verify).
    pub fn verify_all(&self) -> Result<Vec<VerifiedLog>, AuditError> {
        chain::verify_all_by(&self.key, &self.path)
    }

    pub(super) fn open(&self) -> Result<LogFile, AuditError> {
        if let Some(bytes) = self.key_bytes.filter(|&bytes| bytes < ChainKey::LEAST) {
            return Err(AuditError::option(
                "chain_key",
                format!("it has {bytes} bytes; give at least {}", ChainKey::LEAST),
            ));
        }
        if self.max_bytes < LEAST {
            return Err(AuditError::option(
                "max_bytes",
                format!("it is {}; give at least {LEAST}", self.max_bytes),
            ));
        }
        LogFile::open(self).map_err(|error| AuditError::io(&self.path, error))
    }
}

/// The open file, owned by the thread that writes it.
pub(super) struct LogFile {
    path: PathBuf,
    max_bytes: u64,
    file: File,
    /// The length of the file, provided that no other process writes to it.
    length: u64,
    /// `true` after a failed write: its partial output has to be removed.
    torn: bool,
    /// The change of the file by another program that is not on record yet.
    changed: Option<&'static str>,
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
            changed: None,
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
        if let Some(reason) = self.changed {
            self.append_line(&Event::resumed(reason))?;
            self.changed = None;
        }
        self.append_line(event)
    }

    fn append_line(&mut self, event: &Event<'_>) -> io::Result<()> {
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

    /// Checks that the file is in the state in which it was left, and repairs it if possible.
    fn mend(&mut self) -> io::Result<()> {
        let mut held = self.file.metadata()?;
        if !is_at(&held, &self.path)? {
            // Writes to a file without a name would be lost, so the log continues at its path.
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
            self.resume(held.len())?;
        }
        Ok(())
    }

    /// Continues the log in an empty file, if another program has emptied the file or has written
    /// other text to it.
    fn resume(&mut self, found: u64) -> io::Result<()> {
        let reason = if found == 0 {
            "the file was emptied"
        } else if found > self.length && chain::ends_in_other_text(&mut self.file, self.length)? {
            let to = chain::foreign_name(&self.path, self.head.seq);
            if to.try_exists()? {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            fs::rename(&self.path, to)?;
            self.file = open(&self.path)?;
            sync_folder(&self.path);
            "the file had other text"
        } else {
            return Err(io::Error::other(
                "another process writes to the audit log: give each process its own file",
            ));
        };
        tracing::error!(path = %self.path.display(), reason, "an audit log was changed");
        self.length = self.file.metadata()?.len();
        self.changed = Some(reason);
        Ok(())
    }

    /// Continues the log in a new file.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let to = chain::rotated_name(&self.path, self.head.seq);
        // If the last attempt failed after this step, the file already has its new name.
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

/// Returns `true` if this file is still the one at the path: it was not moved or removed.
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
    // On other systems, an open file cannot be removed.
    #[cfg(not(unix))]
    {
        let _ = (held, path);
        Ok(true)
    }
}

/// Makes the file's name durable, on systems where this requires a sync of its folder.
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

/// Returns the head of the log at its last rotation.
fn last_rotated(key: &ChainKey, path: &Path) -> io::Result<Option<Head>> {
    let Some(last) = chain::rotated(path)?.pop() else {
        return Ok(None);
    };
    Ok(chain::read_end(key, &mut File::open(last)?)?.head)
}
