//! Bodies that are read whole.

use bytes::{Bytes, BytesMut};

/// The most bytes that are reserved for a rest that has not come.
const MAX_RESERVED: usize = 1024 * 1024;

/// The data of a body so far. A body in one piece is not copied.
#[derive(Debug, Default)]
pub(crate) struct BodyBuffer {
    first: Bytes,
    all: BytesMut,
    /// The length that is announced, or zero.
    announced: u64,
}

/// The body is longer than its limit.
#[derive(Debug)]
pub(crate) struct TooLong;

impl BodyBuffer {
    /// Creates the buffer of a body with this announced length.
    pub(crate) fn of_length(announced: u64) -> Self {
        Self {
            announced,
            ..Self::default()
        }
    }

    /// Returns the announced length, or zero.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    /// Adds a piece, up to `max` bytes altogether. `left` is the length that is announced for the
    /// rest of the body, so that a body in many pieces is copied once.
    pub(crate) fn add(&mut self, data: Bytes, left: u64, max: usize) -> Result<(), TooLong> {
        let so_far = self.first.len().max(self.all.len());
        if data.len() > max.saturating_sub(so_far) {
            return Err(TooLong);
        }
        if so_far == 0 {
            self.first = data;
            return Ok(());
        }
        if self.all.is_empty() {
            let known = self.first.len() + data.len();
            let left = left.max(self.announced.saturating_sub(known as u64));
            let left = usize::try_from(left).unwrap_or(max).min(MAX_RESERVED);
            self.all.reserve(known + left);
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
