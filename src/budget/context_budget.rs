/// A model's context window, and the tokens that a conversation has used of it.
///
/// A [`BudgetLayer`](super::BudgetLayer) has one for each conversation. By itself it is plain
/// arithmetic, for programs that also account for tokens that no layer sees:
///
/// ```
/// use rmcp_layers::budget::ContextBudget;
///
/// let mut budget = ContextBudget::new(128_000);
/// assert_eq!(budget.available(), 128_000 - 4_096 - 2_000);
/// assert!(budget.consume(100_000));
/// assert!(!budget.can_afford(30_000));
/// assert!(!budget.consume(30_000));
/// assert_eq!(budget.used(), 100_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContextBudget {
    /// The size of the window.
    pub total_tokens: u64,
    /// The part of the window for the model's own answer. Default: 4,096.
    pub reserved_for_response: u64,
    /// The part of the window for the system prompt. Default: 2,000.
    pub reserved_for_system: u64,
    used: u64,
}

impl ContextBudget {
    /// Creates the unused budget of a window of this size.
    pub const fn new(total_tokens: u64) -> Self {
        Self {
            total_tokens,
            reserved_for_response: 4_096,
            reserved_for_system: 2_000,
            used: 0,
        }
    }

    /// Sets the part of the window for the model's own answer. Default: 4,096.
    #[must_use]
    pub const fn with_reserved_for_response(mut self, tokens: u64) -> Self {
        self.reserved_for_response = tokens;
        self
    }

    /// Sets the part of the window for the system prompt. Default: 2,000.
    #[must_use]
    pub const fn with_reserved_for_system(mut self, tokens: u64) -> Self {
        self.reserved_for_system = tokens;
        self
    }

    /// Returns the size of the window without its two reserved parts.
    pub const fn usable(&self) -> u64 {
        self.total_tokens
            .saturating_sub(self.reserved_for_response)
            .saturating_sub(self.reserved_for_system)
    }

    /// Returns the number of used tokens.
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Returns the number of tokens that are left.
    pub const fn available(&self) -> u64 {
        self.usable().saturating_sub(self.used)
    }

    /// Returns `true` if so many tokens are left.
    pub const fn can_afford(&self, tokens: u64) -> bool {
        tokens <= self.available()
    }

    /// Uses so many tokens. Returns `false` and changes nothing if they are not left.
    #[must_use = "the tokens are not used if it returns `false`"]
    pub const fn consume(&mut self, tokens: u64) -> bool {
        if !self.can_afford(tokens) {
            return false;
        }
        self.used += tokens;
        true
    }

    /// Gives used tokens back. More than are used count as all of them.
    pub const fn refund(&mut self, tokens: u64) {
        self.used = self.used.saturating_sub(tokens);
    }

    /// Gives all used tokens back.
    pub const fn reset(&mut self) {
        self.used = 0;
    }

    /// Adds tokens that are in the window already, whether or not they are left.
    pub(super) const fn charge(&mut self, tokens: u64) {
        self.used = self.used.saturating_add(tokens);
    }

    /// Returns the budget with so many used tokens.
    pub(super) const fn with_used(mut self, tokens: u64) -> Self {
        self.used = tokens;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_gives_back_no_more_than_was_used() {
        let mut budget = ContextBudget::new(10_000).with_reserved_for_response(0);
        assert!(budget.consume(8_000));
        assert!(!budget.consume(1));
        budget.refund(9_000);
        assert_eq!((budget.used(), budget.available()), (0, 8_000));
    }

    #[test]
    fn a_window_smaller_than_its_reserves_has_nothing_left() {
        let mut budget = ContextBudget::new(1_000);
        assert_eq!(budget.available(), 0);
        assert!(budget.consume(0) && !budget.consume(1));
        budget.charge(u64::MAX);
        budget.charge(5);
        assert_eq!(budget.available(), 0);
        budget.reset();
        assert_eq!(budget.used(), 0);
    }
}
