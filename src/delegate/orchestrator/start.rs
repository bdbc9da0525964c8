//! The start of plans: of those that are submitted, and of those that are taken over.

use std::sync::Arc;

use tokio::{sync::mpsc::unbounded_channel, time::Instant};

use super::{
    Orchestrator, PlanHandle,
    driver::Driver,
    live_plan::LivePlan,
    origin::{Origin, Owner},
    plan_table::{Entry, NotAdded},
    request_reader::RequestReader,
};
use crate::{
    delegate::{
        plan::{Graph, Plan, PlanError, PlanSnapshot, PlanState},
        task_store::{PlanRecord, Records, StoredPlan, TaskStore, now_ms},
    },
    store::{Lease, StoreError},
};

impl Orchestrator {
    pub(in crate::delegate) fn submit(
        &self,
        plan: Plan,
        origin: Origin,
    ) -> Result<PlanHandle, PlanError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| PlanError::NoRuntime)?;
        let (depth, max) = (origin.hops.depth, self.settings.max_depth);
        if depth >= max {
            return Err(PlanError::TooManyHops { depth, max });
        }
        let graph = Arc::new(Graph::of(&plan, self.settings.bounds)?);
        let id: Arc<str> = format!("{:032x}", rand::random::<u128>()).into();
        let stored = self.settings.store.clone();
        let stored = stored.map(|store| (store, PlanRecord::of(&plan, &origin)));
        let (live, driver) = self.prepare(id, plan, graph, origin, Instant::now());
        live.data().is_unknown = stored.is_some();
        let added = self.plans.add(live.clone());
        let entry = added.map_err(|reason| match reason {
            NotAdded::TooManyOfCaller => PlanError::TooManyPlansOfCaller {
                max: self.settings.max_plans_per_caller,
            },
            NotAdded::TooMany | NotAdded::Runs => PlanError::TooManyPlans {
                max: self.settings.max_plans,
            },
        })?;
        runtime.spawn(run_new(driver, live.id.clone(), stored, entry));
        Ok(PlanHandle::new(live))
    }

    fn prepare(
        &self,
        id: Arc<str>,
        plan: Plan,
        graph: Arc<Graph>,
        origin: Origin,
        submitted: Instant,
    ) -> (Arc<LivePlan>, Driver) {
        let time = match (plan.limits.max_time, origin.hops.remaining_time) {
            (Some(own), Some(left)) => Some(own.min(left)),
            (own, left) => own.or(left),
        };
        let deadline = time.and_then(|time| submitted.checked_add(time));
        let (events, inbox) = unbounded_channel();
        let live = LivePlan::new(id, plan, graph, origin, submitted, events);
        let live = Arc::new(live);
        let (settings, dispatcher) = (self.settings.clone(), self.dispatcher.clone());
        let driver = Driver::new(live.clone(), settings, dispatcher, inbox, deadline);
        (live, driver)
    }

    pub(super) async fn take_over(&self) -> Result<Vec<PlanHandle>, StoreError> {
        let Some(store) = &self.settings.store else {
            return Ok(Vec::new());
        };
        let mut taken = Vec::new();
        for id in store.active().await? {
            if self.plans.runs(&id) {
                continue;
            }
            match self.take_over_plan(store, &id).await {
                Ok(plan) => taken.extend(plan),
                Err(error) => {
                    tracing::warn!(%error, plan = id, "a plan cannot be taken over");
                }
            }
        }
        Ok(taken)
    }

    async fn take_over_plan(
        &self,
        store: &TaskStore,
        id: &str,
    ) -> Result<Option<PlanHandle>, StoreError> {
        let Some(lease) = store.lease(id).await? else {
            return Ok(None);
        };
        let Some(stored) = store.read(id).await? else {
            // It has expired.
            store.close(id).await?;
            return Ok(None);
        };
        let (live, mut driver) = self.revive(id, &stored)?;
        let Ok(entry) = self.plans.add_taken(live.clone()) else {
            return Err(StoreError::new("too many plans run here already"));
        };
        let records = Arc::new(Records::new(store.clone(), live.id.clone(), lease.token()));
        driver.keep_records(records.clone());
        driver.recover(stored, &records);
        let mut requests = RequestReader::new(live.clone(), records.clone());
        // Before the plan goes on: a task that is to be cancelled does not start.
        requests
            .read()
            .await
            .map_err(|error| StoreError::new("its requests cannot be read").with_source(error))?;
        tokio::spawn(run_leased(driver, requests, records, lease, entry));
        Ok(Some(PlanHandle::new(live)))
    }

    /// Makes a plan from its record, without the states of its tasks.
    fn revive(&self, id: &str, stored: &StoredPlan) -> Result<(Arc<LivePlan>, Driver), StoreError> {
        let plan = stored.record.plan.clone();
        let graph = Graph::of(&plan, self.settings.bounds)
            .map_err(|error| StoreError::new("a stored plan is not valid").with_source(error))?;
        let now = Instant::now();
        let submitted = now.checked_sub(stored.record.elapsed(now_ms()));
        let (submitted, origin) = (submitted.unwrap_or(now), stored.record.origin());
        Ok(self.prepare(id.into(), plan, Arc::new(graph), origin, submitted))
    }

    pub(super) async fn read_snapshot(
        &self,
        owner: &Owner,
        id: &str,
    ) -> Result<Option<PlanSnapshot>, StoreError> {
        let Some(store) = &self.settings.store else {
            return Ok(None);
        };
        // Any other text might be the key of another record.
        let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_id {
            return Ok(None);
        }
        let found = store.read(id).await?;
        let Some(stored) = found.filter(|stored| stored.record.owner() == *owner) else {
            return Ok(None);
        };
        let (live, mut driver) = self.revive(id, &stored)?;
        // Running tasks of a plan that is stopped may go on to their end.
        let goes_on = stored.stop.is_some() && store.is_active(id).await?;
        driver.show(stored, goes_on);
        let mut snapshot = live.snapshot();
        let is_ended = snapshot.ended() == snapshot.tasks.len();
        snapshot.state = match (is_ended, snapshot.state) {
            (true, PlanState::Stopping(reason)) => PlanState::Stopped(reason),
            (true, PlanState::Running) => PlanState::Ended,
            (_, state) => state,
        };
        Ok(Some(snapshot))
    }
}

/// Runs a plan that was submitted here.
async fn run_new(
    mut driver: Driver,
    id: Arc<str>,
    stored: Option<(TaskStore, PlanRecord)>,
    entry: Entry,
) {
    let Some((store, record)) = stored else {
        // Without records nothing is lost.
        let _ = driver.run().await;
        driver.close();
        drop(entry);
        return;
    };
    let refuse = |driver: &mut Driver, error: StoreError| {
        let reason = format!("the plan cannot be stored: {error}; try again");
        driver.stop(reason.into());
        driver.close();
    };
    let leased = store.lease(&id).await;
    let taken = || StoreError::new("another process runs the plan");
    let lease = match leased.and_then(|lease| lease.ok_or_else(taken)) {
        Ok(lease) => lease,
        Err(error) => return refuse(&mut driver, error),
    };
    let opened = store.open(&id, &record).await;
    let records = Arc::new(Records::new(store, id, lease.token()));
    match opened {
        Ok(()) => {
            driver.keep_records(records.clone());
            driver.plan().make_known();
            let requests = RequestReader::new(driver.plan().clone(), records.clone());
            run_leased(driver, requests, records, lease, entry).await;
        }
        Err(error) => {
            refuse(&mut driver, error);
            withdraw(&records, lease).await;
        }
    }
}

/// Marks a plan that was refused as ended: the store may have it although its reply was lost, and
/// then no process must run it.
async fn withdraw(records: &Records, lease: Lease) {
    let marked = lease.hold(async {
        records.stop("its orchestrator could not store it").await?;
        records.close().await
    });
    match marked.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%error, "a plan that was refused may be in the store"),
        Err(error) => tracing::warn!(%error, "a plan that was refused may be in the store"),
    }
}

async fn run_leased(
    mut driver: Driver,
    mut requests: RequestReader,
    records: Arc<Records>,
    lease: Lease,
    entry: Entry,
) {
    let run = async {
        tokio::select! {
            biased;
            ended = driver.run() => ended?,
            never = requests.run() => match never {},
        }
        records.close().await
    };
    match lease.hold(run).await {
        Ok(Ok(())) => driver.close(),
        Ok(Err(lost)) => driver.release(&lost.to_string()),
        Err(lost) => driver.release(&lost.to_string()),
    }
    drop(entry);
}
