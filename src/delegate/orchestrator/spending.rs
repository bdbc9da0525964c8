use crate::delegate::{
    TaskOutput,
    plan::{PlanLimits, Task},
};

/// Bytes of an answer that count as one token if its agent reports none.
const BYTES_PER_TOKEN: u64 = 4;

/// The tokens and the cost of a plan: spent, promised to running attempts, and left.
pub(super) struct Spending {
    max_tokens: Option<u64>,
    max_cost: Option<f64>,
    /// The tokens that no task with a share of its own has, and no running one.
    pool: u64,
    /// The number of tasks without a share of their own that have not started.
    without_share: u64,
    tokens: u64,
    cost: f64,
    /// The cost of the running attempts, as far as it is known.
    running_cost: f64,
}

/// The part of the spending that an attempt may have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Grant {
    pub(super) tokens: Option<u64>,
    cost: f64,
}

/// The tokens and the cost of an attempt.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) tokens: u64,
    pub(super) cost: f64,
}

impl Used {
    /// Returns what an attempt has used that was granted this. It has an output if it is complete.
    pub(super) fn of(grant: Grant, output: Option<&TaskOutput>) -> Self {
        let is_cost = |cost: &f64| cost.is_finite() && *cost >= 0.0;
        let reported = output.and_then(|output| output.cost).filter(is_cost);
        Self {
            tokens: output.map_or(0, |output| {
                let estimate = output.answer.len() as u64 / BYTES_PER_TOKEN;
                output.tokens.unwrap_or(estimate)
            }),
            cost: reported.unwrap_or(grant.cost),
        }
    }
}

impl Spending {
    pub(super) fn new(limits: &PlanLimits, handed_down: Option<u64>, tasks: &[Task]) -> Self {
        let max_tokens = match (limits.max_tokens, handed_down) {
            (Some(own), Some(left)) => Some(own.min(left)),
            (own, left) => own.or(left),
        };
        let shares = tasks.iter().filter_map(|task| task.budget_share);
        let (count, shared) = shares.fold((0_u64, 0_u64), |(count, sum), share| {
            let tokens = share_of(max_tokens.unwrap_or_default(), share);
            (count + 1, sum.saturating_add(tokens))
        });
        Self {
            max_tokens,
            max_cost: limits.max_cost,
            pool: max_tokens.unwrap_or_default().saturating_sub(shared),
            without_share: (tasks.len() as u64).saturating_sub(count),
            tokens: 0,
            cost: 0.0,
            running_cost: 0.0,
        }
    }

    pub(super) fn tokens(&self) -> u64 {
        self.tokens
    }

    pub(super) fn cost(&self) -> f64 {
        self.cost
    }

    /// Promises an attempt its tokens, and its agent's cost.
    ///
    /// # Errors
    ///
    /// Returns the reason if a limit is reached.
    pub(super) fn grant(
        &mut self,
        task: &Task,
        is_first: bool,
        cost: f64,
    ) -> Result<Grant, String> {
        if let Some(max) = self.max_tokens
            && self.tokens >= max
        {
            return Err(format!(
                "the plan has used {} of its {max} tokens; give more by `max_tokens`",
                self.tokens
            ));
        }
        let all = self.cost + self.running_cost + cost;
        if let Some(max) = self.max_cost
            && all > max
        {
            return Err(format!(
                "another attempt would bring the plan's cost to {all}, and {max} is allowed; allow \
                 more by `max_cost`"
            ));
        }
        self.running_cost += cost;
        let tokens = self.max_tokens.map(|max| match task.budget_share {
            Some(share) => share_of(max, share),
            None => {
                let tokens = self.pool / self.without_share.max(1);
                self.pool -= tokens;
                tokens
            }
        });
        if is_first && task.budget_share.is_none() {
            self.without_share = self.without_share.saturating_sub(1);
        }
        Ok(Grant { tokens, cost })
    }

    /// Takes a promise back, and charges for what the attempt has used.
    pub(super) fn settle(&mut self, grant: Grant, used: Used) {
        self.running_cost = (self.running_cost - grant.cost).max(0.0);
        self.tokens = self.tokens.saturating_add(used.tokens);
        self.cost = sum(self.cost, used.cost);
        // A share of its own that is left over is for the others.
        let left = grant.tokens.unwrap_or_default().saturating_sub(used.tokens);
        let over = used
            .tokens
            .saturating_sub(grant.tokens.unwrap_or(used.tokens));
        self.pool = self.pool.saturating_add(left).saturating_sub(over);
    }

    /// Counts what was spent before a restart.
    pub(super) fn add(&mut self, tokens: u64, cost: f64) {
        self.tokens = self.tokens.saturating_add(tokens);
        self.pool = self.pool.saturating_sub(tokens);
        self.cost = sum(self.cost, cost);
    }
}

/// Adds costs. Agents report them, and JSON has no infinity.
fn sum(all: f64, cost: f64) -> f64 {
    (all + cost).min(f64::MAX)
}

fn share_of(tokens: u64, share: f64) -> u64 {
    (tokens as f64 * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(tokens: u64) -> TaskOutput {
        let mut output = TaskOutput::new("done");
        output.tokens = Some(tokens);
        output
    }

    #[test]
    fn tokens_are_shared_among_the_tasks_and_a_rest_goes_to_the_others() {
        let tasks = [
            Task::new("a", "a").budget_share(0.5),
            Task::new("b", "b"),
            Task::new("c", "c"),
        ];
        let limits = PlanLimits {
            max_tokens: Some(1_000),
            ..PlanLimits::default()
        };
        let mut spending = Spending::new(&limits, Some(800), &tasks);
        let a = spending.grant(&tasks[0], true, 1.0).unwrap();
        let b = spending.grant(&tasks[1], true, 1.0).unwrap();
        assert_eq!((a.tokens, b.tokens), (Some(400), Some(200)));
        spending.settle(a, Used::of(a, Some(&used(100))));
        let c = spending.grant(&tasks[2], true, 1.0).unwrap();
        assert_eq!(c.tokens, Some(500));
        spending.settle(b, Used::of(b, Some(&used(650))));
        spending.settle(c, Used::of(c, Some(&used(50))));
        assert_eq!((spending.tokens(), spending.cost()), (800, 3.0));
        let error = spending.grant(&tasks[2], false, 1.0).unwrap_err();
        assert!(error.contains("used 800 of its 800 tokens"), "{error}");
    }

    #[test]
    fn an_attempt_that_would_cost_too_much_has_no_grant() {
        let task = Task::new("a", "a");
        let limits = PlanLimits {
            max_cost: Some(2.0),
            ..PlanLimits::default()
        };
        let mut spending = Spending::new(&limits, None, std::slice::from_ref(&task));
        let first = spending.grant(&task, true, 1.5).unwrap();
        spending.grant(&task, false, 1.0).unwrap_err();
        spending.settle(first, Used::of(first, None));
        spending.grant(&task, false, 1.0).unwrap_err();
        let second = spending.grant(&task, false, 0.5).unwrap();
        spending.settle(second, Used::default());
        assert_eq!(spending.cost(), 1.5);
    }
}
