use std::sync::Arc;

use futures::future::{BoxFuture, pending};
use rmcp::model::InputResponses;
use tokio::sync::oneshot;

use super::live_plan::LivePlan;
use crate::{
    Error, Refusal,
    delegate::{
        agent::{AgentProgress, AttemptReports, Question, RemoteTask},
        plan::{PlanState, TaskProgress},
        task_store::{NotWritten, Records},
    },
};

/// The reports of one attempt, on their way into the state of the plan and the store.
pub(super) struct Reports {
    pub(super) plan: Arc<LivePlan>,
    pub(super) task: u32,
    /// The number of the attempt. Reports of an earlier one are left out.
    pub(super) attempt: u32,
    pub(super) records: Option<Arc<Records>>,
}

impl Reports {
    async fn ask(&self, mut question: Question) -> Result<InputResponses, Error> {
        let (reply, answered) = oneshot::channel();
        let requests = question.requests.clone();
        if let Some(records) = &self.records {
            self.plan.data().expect_question(self.task);
            let asked = records.ask(self.task, &mut question);
            asked.await.map_err(not_kept)?;
        }
        {
            let mut data = self.plan.data();
            if data.tasks[self.task as usize].attempts != self.attempt
                || !data.schedule.wait_for_input(self.task)
            {
                return Err(Error::cancelled("the task has ended"));
            }
            data.set_question(self.task, question, Some(reply));
            data.changes.add(self.task);
        }
        self.plan.publish();
        let id = &self.plan.tasks[self.task as usize].id;
        let asked = async {
            let answers = match &self.plan.origin.asker {
                Some(asker) => asker.ask(id, &requests).await,
                None => None,
            };
            match answers {
                Some(answers) => answers,
                // The question is kept until an answer comes.
                None => pending().await,
            }
        };
        let answers = tokio::select! {
            answers = asked => answers,
            answers = answered => answers.map_err(|_| Error::cancelled("the task has ended"))?,
        };
        if let Some(records) = &self.records {
            let change = records.change(self.task, |record| record.question = None);
            change.await.map_err(not_kept)?;
        }
        {
            let mut data = self.plan.data();
            data.drop_question(self.task);
            data.record_answer(self.task);
            if !data.schedule.go_on(self.task) {
                return Err(Error::cancelled("the task has ended"));
            }
            data.changes.add(self.task);
        }
        self.plan.publish();
        Ok(answers)
    }
}

impl AttemptReports for Reports {
    fn remote(&self, remote: RemoteTask) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let Some(records) = &self.records else {
                return Ok(());
            };
            let change = records.change(self.task, |record| record.remote = Some(remote));
            change.await.map_err(not_kept)
        })
    }

    fn input_required(&self, question: Question) -> BoxFuture<'_, Result<InputResponses, Error>> {
        Box::pin(self.ask(question))
    }

    fn progress(&self, progress: AgentProgress) {
        {
            let mut data = self.plan.data();
            let is_current = data.tasks[self.task as usize].attempts == self.attempt;
            if !is_current || data.schedule.status(self.task).is_terminal() {
                return;
            }
            data.reported(self.task).progress = Some(TaskProgress {
                done: progress.done,
                total: progress.total,
                message: progress.message.map(Arc::from),
            });
            data.changes.add(self.task);
        }
        self.plan.publish();
    }

    fn is_released(&self) -> bool {
        matches!(self.plan.data().state, PlanState::Released(_))
    }
}

fn not_kept(error: NotWritten) -> Error {
    Refusal::new("delegate", error.to_string()).into()
}
