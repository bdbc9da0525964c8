//! The context of a task: its own, and the results of its dependencies.

use std::{fmt, sync::Arc};

use crate::delegate::plan::Status;

/// A function that makes the context of a task.
pub(super) type FitContext = Arc<dyn Fn(&TaskContext<'_>) -> String + Send + Sync>;

/// The material for the context of a task that is about to start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskContext<'a> {
    /// The id of the task.
    pub task: &'a str,
    /// The context that the task was given.
    pub own: Option<&'a str>,
    /// The results of its dependencies, in the order of the plan.
    pub results: Vec<DependencyResult<'a>>,
    /// The tokens that the task may use, if the plan has a limit.
    pub tokens: Option<u64>,
    /// Maximum length in bytes.
    pub max_bytes: usize,
}

/// The result of a task that another one depends on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct DependencyResult<'a> {
    /// The id of the dependency.
    pub task: &'a str,
    /// Its status.
    pub status: Status,
    /// Its answer, or the reason why it was not completed.
    pub text: &'a str,
}

impl TaskContext<'_> {
    /// Returns the context as text: each result below a line that names its task.
    ///
    /// If they are too long together, each is cut to an equal part of `max_bytes`, and says so.
    pub fn to_text(&self) -> String {
        use fmt::Write as _;
        let lengths = self.results.iter().map(|result| result.text.len());
        let own = self.own.map_or(0, str::len);
        let all = own.saturating_add(lengths.sum());
        let parts = self.results.len() + usize::from(self.own.is_some());
        let most = match all > self.max_bytes {
            true => self.max_bytes / parts.max(1),
            false => usize::MAX,
        };
        let mut text = String::with_capacity(all.min(self.max_bytes) + 64 * parts);
        if let Some(own) = self.own {
            push_cut(&mut text, own, most);
        }
        for result in &self.results {
            if !text.is_empty() {
                text.push_str("\n\n");
            }
            let id = result.task;
            let _ = match result.status {
                Status::Complete => writeln!(text, "Result of task `{id}`:"),
                status => writeln!(text, "Task `{id}` was not completed ({status}):"),
            };
            push_cut(&mut text, result.text, most);
        }
        text
    }
}

fn push_cut(text: &mut String, part: &str, most: usize) {
    let kept = crate::util::text::start_of(part, most);
    text.push_str(kept);
    let left_out = part.len() - kept.len();
    if left_out > 0 {
        text.push_str(&format!("\n[{left_out} bytes are left out here]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(max_bytes: usize) -> TaskContext<'static> {
        TaskContext {
            task: "c",
            own: Some("Be brief."),
            results: vec![
                DependencyResult {
                    task: "a",
                    status: Status::Complete,
                    text: "eleven bytes",
                },
                DependencyResult {
                    task: "b",
                    status: Status::Failed,
                    text: "no",
                },
            ],
            tokens: None,
            max_bytes,
        }
    }

    #[test]
    fn results_and_errors_are_named_by_their_tasks() {
        assert_eq!(
            context(1_000).to_text(),
            "Be brief.\n\nResult of task `a`:\neleven bytes\n\n\
             Task `b` was not completed (failed):\nno"
        );
    }

    #[test]
    fn results_that_are_too_long_are_cut_to_equal_parts() {
        let text = context(18).to_text();
        assert!(
            text.contains("eleven\n[6 bytes are left out here]"),
            "{text}"
        );
        assert!(text.ends_with("\nno"), "{text}");
    }
}
