//! The memory of a run.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// An allocator that counts.
pub struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn add(bytes: usize) {
    let now = NOW.fetch_add(bytes, Relaxed) + bytes;
    MOST.fetch_max(now, Relaxed);
}

// SAFETY: the system's allocator does it all.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        NOW.fetch_sub(layout.size(), Relaxed);
        add(size);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The bytes that a run may take at a time beside its input: pipes, buffers, tasks. An empty input
/// takes 120 KB for a caller.
const FIXED: usize = 320 * 1024;

/// The bytes that a value of JSON may take beside its text. Text takes 2 to 3 times its length. The
/// shortest values, in an input of 60 KB, take these bytes each:
///
/// | input | bytes a value | times the input |
/// |---|---|---|
/// | a call's arguments, `[0,0,..]` | 82 | 41 |
/// | a caller's notification, `[0,0,..]` | 148 | 74 |
/// | a result's structured content, `[0,0,..]` | 104 | 52 |
/// | the same, in a result that is read in part | 233 | 117 |
/// | a server's notification or request, `[0,0,..]` | 246 | 123 |
/// | a result's content, `[{},{},..]`, read in part | 498 | 332 |
///
/// A `serde_json::Value` has 32, the vector of them grows by doubling, and a value is read more than
/// once: by its type, and as JSON. `max_message_bytes` bounds it.
const OF_VALUE: usize = 512;

/// The most memory of a run.
pub struct Peak {
    before: usize,
}

impl Peak {
    pub fn start() -> Self {
        let before = NOW.load(Relaxed);
        MOST.store(before, Relaxed);
        Self { before }
    }

    pub fn bytes(&self) -> usize {
        MOST.load(Relaxed).saturating_sub(self.before)
    }

    /// Checks the peak. It is shown if `SHOW_PEAK` is set.
    ///
    /// # Panics
    ///
    /// Panics if the run took more than three times its input, beside the values in it.
    pub fn check(&self, input: &[u8]) {
        let is_of_value = |byte: &&u8| b",:[{".contains(byte);
        let values = input.iter().filter(is_of_value).count();
        let limit = FIXED + 3 * input.len() + OF_VALUE * values;
        let peak = self.bytes();
        if std::env::var_os("SHOW_PEAK").is_some() {
            eprintln!(
                "{peak} bytes for an input of {}, {values} values",
                input.len()
            );
        }
        assert!(
            peak <= limit,
            "{peak} bytes for an input of {}, {values} values",
            input.len()
        );
    }
}
