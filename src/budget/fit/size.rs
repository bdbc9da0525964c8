use std::io;

use serde_json::Value;

/// Returns `true` if the JSON of a value has more bytes than this. It writes no more of it.
pub(crate) fn is_longer(value: &Value, bytes: usize) -> bool {
    serde_json::to_writer(Room(bytes), value).is_err()
}

/// Counts what is written, and fails once it is too much.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let left = self.0.checked_sub(written.len());
        self.0 = left.ok_or(io::ErrorKind::StorageFull)?;
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
