//! Bodies that are read whole.

use bytes::{Bytes, BytesMut};

/// The data of a body so far. A body in one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct BodyBuffer {
    first: Bytes,
    all: BytesMut,
}

/// The body is longer than its limit.
#[derive(Debug)]
pub(crate) struct TooLong;

impl BodyBuffer {
    /// Adds a piece, up to `max` bytes altogether.
    pub(crate) fn add(&mut self, data: Bytes, max: usize) -> Result<(), TooLong> {
        let so_far = self.first.len().max(self.all.len());
        if data.len() > max.saturating_sub(so_far) {
            return Err(TooLong);
        }
        if so_far == 0 {
            self.first = data;
            return Ok(());
        }
        if self.all.is_empty() {
            self.all.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.all.extend_from_slice(&data);
        Ok(())
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self.all.is_empty() {
            true => self.first,
            false => self.all.freeze(),
        }
    }
}
