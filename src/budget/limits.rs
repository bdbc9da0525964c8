/// Limits of a result that is counted and cut. They keep a hostile result from costing much time or
/// memory.
///
/// ```
/// use rmcp_layers::budget::ResultLimits;
///
/// let limits = ResultLimits::default().max_bytes(4 * 1024 * 1024).max_blocks(100);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultLimits {
    pub(super) blocks: usize,
    pub(super) bytes: usize,
    pub(super) depth: usize,
    pub(super) nodes: usize,
}

impl ResultLimits {
    /// Sets the maximum number of content blocks. A result with more is not delivered; the caller
    /// receives a tool error that says so. Default: 10,000.
    #[must_use]
    pub fn max_blocks(mut self, blocks: usize) -> Self {
        self.blocks = blocks;
        self
    }

    /// Sets the maximum length of a result, in bytes of all its text and data. A longer result is
    /// not delivered; the caller receives a tool error that says so. Default: 64 MiB. Limit: 1 GiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes.min(1 << 30);
        self
    }

    /// Sets the depth of nesting up to which JSON is cut by its structure. Deeper JSON in a text
    /// block is cut as text. Default: 64. Limit: 100.
    #[must_use]
    pub fn max_depth(mut self, depth: usize) -> Self {
        self.depth = depth.min(100);
        self
    }

    /// Sets the number of JSON values up to which JSON is cut by its structure. JSON of more values
    /// in a text block is cut as text. Default: 1,000,000.
    #[must_use]
    pub fn max_nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }
}

impl Default for ResultLimits {
    fn default() -> Self {
        Self {
            blocks: 10_000,
            bytes: 64 << 20,
            depth: 64,
            nodes: 1_000_000,
        }
    }
}
