//! Executions: their responses are kept until the client has them, so that it can reattach.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::codegen::BoxStream;
use uuid::Uuid;

use super::error_store::ErrorStore;
use super::{Session, progress};
use crate::cancel;
use crate::connect::proto::execute_plan_response::{ObservedMetrics, ResponseType};
use crate::connect::proto::get_status_response::operation_status::OperationState;
use crate::connect::proto::{self, ExecutePlanResponse};
use crate::error::{Error, Kind, Result};
use crate::progress::Plans;

/// How many responses may wait for the client before the execution pauses.
const MAX_WAITING: usize = 16;

/// What a client has asked for beside a plan.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// Whether it may go away and come back.
    pub reattachable: bool,
    /// How many bytes of a batch go into one response; `None`: all.
    pub chunk_bytes: Option<usize>,
    /// How often it is told how far the execution is; `None`: never.
    pub progress_interval: Option<Duration>,
}

/// One execution.
pub(super) struct Operation {
    pub id: String,
    pub tags: Vec<String>,
    /// How many bytes of a batch go into one response; `None`: all.
    pub chunk_bytes: Option<usize>,
    reattachable: bool,
    progress_interval: Option<Duration>,
    /// What it runs.
    plans: Plans,
    session_id: String,
    server_id: String,
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    task: Mutex<Option<AbortHandle>>,
    /// Reaches what does not notice that the task is aborted.
    cancelled: CancellationToken,
    errors: Arc<ErrorStore>,
}

#[derive(Default)]
struct State {
    /// The number of the first response that is kept.
    first: usize,
    kept: VecDeque<ExecutePlanResponse>,
    /// The number after the last response the client was given.
    taken: usize,
    /// How many streams of responses are open.
    listeners: usize,
    /// When the last of them went away.
    detached: Option<Instant>,
    end: Option<Result<(), Status>>,
}

impl Operation {
    pub fn new(session: &Session, id: Option<String>, tags: Vec<String>, terms: Terms) -> Arc<Self> {
        Arc::new(Self {
            id: id.unwrap_or_else(|| Uuid::new_v4().to_string()),
            tags,
            chunk_bytes: terms.chunk_bytes,
            reattachable: terms.reattachable,
            progress_interval: terms.progress_interval,
            plans: Plans::default(),
            session_id: session.id.clone(),
            server_id: session.server_id.clone(),
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            task: Mutex::new(None),
            cancelled: CancellationToken::new(),
            errors: Arc::clone(&session.errors),
        })
    }

    /// Runs `work` as the execution.
    pub fn start(self: &Arc<Self>, work: impl Future<Output = Result<()>> + Send + 'static) {
        let operation = Arc::clone(self);
        let task = tokio::spawn(async move {
            let work = cancel::under(operation.cancelled.clone(), operation.plans.of(work));
            let result = operation.telling_progress(work).await;
            if result.is_ok() {
                operation.push_last_progress().await;
                operation.push(ResponseType::ResultComplete(Default::default())).await;
            }
            operation.finish(result.map_err(|error| operation.errors.status(&error)));
        });
        *self.task.lock() = Some(task.abort_handle());
    }

    /// Runs `work` to its end, and tells the client every so often how far it is.
    async fn telling_progress<T>(&self, work: impl Future<Output = T>) -> T {
        let Some(interval) = self.progress_interval else { return work.await };
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval_at(Instant::now() + interval, interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                _ = ticks.tick() => self.tell_progress(),
            }
        }
    }

    /// Adds how far the execution is, unless the client is behind.
    fn tell_progress(&self) {
        let plans = self.plans.started();
        if plans.is_empty() {
            return;
        }
        let response_type = Some(ResponseType::ExecutionProgress(progress::progress(&plans, false)));
        if self.try_add(ExecutePlanResponse { response_type, ..self.response() }).is_ok() {
            self.notify();
        }
    }

    /// Adds that all is done.
    async fn push_last_progress(&self) {
        let plans = self.plans.take();
        if self.progress_interval.is_some() && !plans.is_empty() {
            self.push(ResponseType::ExecutionProgress(progress::progress(&plans, true))).await;
        }
    }

    /// Adds what the operators of the last plan have counted.
    pub async fn push_metrics(&self) {
        if let Some(plan) = self.plans.started().last() {
            let metrics = Some(progress::metrics(plan));
            self.add(ExecutePlanResponse { metrics, ..self.response() }).await;
        }
    }

    /// Adds a response; waits while the client is behind.
    pub async fn push(&self, response: ResponseType) {
        self.respond(Some(response), None).await;
    }

    /// Adds the schema of the rows that follow.
    pub async fn push_schema(&self, schema: proto::DataType) {
        self.respond(None, Some(schema)).await;
    }

    /// Adds what was observed.
    pub async fn push_observed(&self, observed_metrics: Vec<ObservedMetrics>) {
        self.add(ExecutePlanResponse { observed_metrics, ..self.response() }).await;
    }

    async fn respond(&self, response_type: Option<ResponseType>, schema: Option<proto::DataType>) {
        self.add(ExecutePlanResponse { response_type, schema, ..self.response() }).await;
    }

    fn response(&self) -> ExecutePlanResponse {
        ExecutePlanResponse {
            session_id: self.session_id.clone(),
            server_side_session_id: self.server_id.clone(),
            operation_id: self.id.clone(),
            response_id: Uuid::new_v4().to_string(),
            ..Default::default()
        }
    }

    async fn add(&self, mut response: ExecutePlanResponse) {
        let mut changes = self.changed.subscribe();
        loop {
            match self.try_add(response) {
                Ok(()) => break,
                Err(refused) => response = *refused,
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
        self.notify();
    }

    /// Adds a response; gives it back if the client is behind.
    fn try_add(&self, response: ExecutePlanResponse) -> Result<(), Box<ExecutePlanResponse>> {
        let mut state = self.state.lock();
        if state.first + state.kept.len() >= state.taken + MAX_WAITING {
            return Err(Box::new(response));
        }
        state.kept.push_back(response);
        Ok(())
    }

    fn finish(&self, end: Result<(), Status>) {
        self.state.lock().end.get_or_insert(end);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version = version.wrapping_add(1));
    }

    /// Stops the execution; the client gets a cancellation.
    pub fn cancel(&self) {
        self.cancelled.cancel();
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
        let error = Error::new(Kind::Cancelled, "the operation was cancelled").with_condition("OPERATION_CANCELED");
        self.finish(Err(self.errors.status(&error)));
    }

    /// How long nobody has listened; `None` while somebody does.
    pub fn detached_for(&self, now: Instant) -> Option<Duration> {
        self.state.lock().detached.map(|since| now.saturating_duration_since(since))
    }

    /// Whether the execution has come to an end.
    pub fn is_finished(&self) -> bool {
        self.state.lock().end.is_some()
    }

    /// What a client is told that asks for it.
    pub fn operation_state(&self) -> OperationState {
        match &self.state.lock().end {
            None => OperationState::Running,
            Some(Ok(())) => OperationState::Succeeded,
            Some(Err(_)) if self.cancelled.is_cancelled() => OperationState::Cancelled,
            Some(Err(_)) => OperationState::Failed,
        }
    }

    /// Forgets the responses up to and including `response_id`.
    pub fn release_until(&self, response_id: &str) {
        let mut state = self.state.lock();
        if let Some(position) = state.kept.iter().position(|response| response.response_id == response_id) {
            state.kept.drain(..=position);
            state.first += position + 1;
        }
    }

    /// The responses after `last_response_id`, or all that are kept, then those to come.
    pub fn responses(self: &Arc<Self>, last_response_id: Option<&str>) -> BoxStream<ExecutePlanResponse> {
        let next = {
            let state = self.state.lock();
            let after = last_response_id
                .and_then(|id| state.kept.iter().position(|response| response.response_id == id))
                .map_or(0, |position| position + 1);
            state.first + after
        };
        let start = (Listener::new(self), next, self.changed.subscribe(), false);
        Box::pin(futures::stream::unfold(start, |(listener, mut next, mut changes, ended)| async move {
            if ended {
                return None;
            }
            loop {
                let found = listener.0.take(&mut next);
                match found {
                    Some(Ok(Some(response))) => return Some((Ok(response), (listener, next, changes, false))),
                    Some(Ok(None)) => return None,
                    Some(Err(status)) => return Some((Err(status), (listener, next, changes, true))),
                    None => changes.changed().await.ok()?,
                }
            }
        }))
    }

    /// The response number `next`, the end, or nothing yet.
    fn take(&self, next: &mut usize) -> Option<Result<Option<ExecutePlanResponse>, Status>> {
        let response = {
            let mut state = self.state.lock();
            *next = (*next).max(state.first);
            let response = state.kept.get(*next - state.first).cloned();
            if response.is_none() {
                return state.end.clone().map(|end| end.map(|()| None));
            }
            *next += 1;
            state.taken = state.taken.max(*next);
            response
        };
        self.notify();
        response.map(|response| Ok(Some(response)))
    }
}

/// One open stream of responses.
struct Listener(Arc<Operation>);

impl Listener {
    fn new(operation: &Arc<Operation>) -> Self {
        let mut state = operation.state.lock();
        state.listeners += 1;
        state.detached = None;
        drop(state);
        Self(Arc::clone(operation))
    }
}

impl Drop for Listener {
    /// A client that cannot come back has no use for the rest.
    fn drop(&mut self) {
        let alone = {
            let mut state = self.0.state.lock();
            state.listeners -= 1;
            if state.listeners == 0 {
                state.detached = Some(Instant::now());
            }
            state.listeners == 0 && state.end.is_none()
        };
        if alone && !self.0.reattachable {
            self.0.cancel();
        }
    }
}
