//! The sessions of all clients: found by what a request says, made, copied and ended.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use tonic::Status;
use uuid::Uuid;

use super::{ConnectService, Session, SessionKey};
use crate::connect::proto::get_status_response::OperationStatus;
use crate::connect::proto::get_status_response::operation_status::OperationState;
use crate::connect::proto::{self, UserContext};
use crate::connect::status::status;
use crate::error::{Error, Kind};

/// How many sessions there may be at a time.
const MAX_SESSIONS: usize = 1_000;

/// What every request says of its session.
pub(super) trait OfSession {
    /// Who asks.
    fn user(&self) -> Option<&UserContext>;
    /// The client's name of the session.
    fn session_id(&self) -> &str;
    /// Our name of the session, if the client knows it already.
    fn observed(&self) -> Option<&str>;
}

macro_rules! of_session {
    ($($request:ident),*) => {$(
        impl OfSession for proto::$request {
            fn user(&self) -> Option<&UserContext> {
                self.user_context.as_ref()
            }

            fn session_id(&self) -> &str {
                &self.session_id
            }

            fn observed(&self) -> Option<&str> {
                self.client_observed_server_side_session_id.as_deref()
            }
        }
    )*};
}

of_session!(
    ExecutePlanRequest,
    AnalyzePlanRequest,
    ConfigRequest,
    AddArtifactsRequest,
    ArtifactStatusesRequest,
    InterruptRequest,
    ReattachExecuteRequest,
    ReleaseExecuteRequest,
    FetchErrorDetailsRequest,
    CloneSessionRequest,
    GetStatusRequest
);

impl ConnectService {
    /// The session of a request: made if the client has none yet, but not if it had one that has ended.
    pub(super) async fn session_of(&self, request: &impl OfSession) -> Result<Arc<Session>, Status> {
        let user = request.user().map(|user| user.user_id.clone()).unwrap_or_default();
        let key = (user, request.session_id().to_owned());
        let observed = request.observed().filter(|id| !id.is_empty());
        let found = self.sessions.lock().get(&key).cloned();
        match (found, observed) {
            (Some(session), Some(id)) if session.server_id != id => Err(ended(&session.id)),
            (None, Some(_)) => Err(ended(&key.1)),
            (Some(session), _) => {
                *session.used.lock() = Instant::now();
                Ok(session)
            }
            (None, None) => self.new_session(key).await,
        }
    }

    async fn new_session(&self, key: SessionKey) -> Result<Arc<Session>, Status> {
        if self.sessions.lock().len() >= MAX_SESSIONS {
            return Err(Status::resource_exhausted(format!(
                "the server has {MAX_SESSIONS} sessions; end some (`spark.stop()`), or wait until idle ones have ended"
            )));
        }
        let host = self.host.session(&key.0, &key.1).await.map_err(|error| status(&error))?;
        let session = Session::new(host, &key.1, Arc::clone(&self.global_views));
        Ok(Arc::clone(self.sessions.lock().entry(key).or_insert_with(|| Arc::new(session))))
    }

    pub async fn release_session(
        &self,
        request: proto::ReleaseSessionRequest,
    ) -> Result<proto::ReleaseSessionResponse, Status> {
        let user = request.user_context.map(|user| user.user_id).unwrap_or_default();
        let session = self.end_session(&(user, request.session_id.clone())).await;
        let server_side_session_id = session.map(|session| session.server_id.clone()).unwrap_or_default();
        Ok(proto::ReleaseSessionResponse { session_id: request.session_id, server_side_session_id })
    }

    /// Makes a session that starts with what another one has: settings, current schema, views, functions and artifacts.
    pub async fn clone_session(
        &self,
        request: proto::CloneSessionRequest,
    ) -> Result<proto::CloneSessionResponse, Status> {
        let session = self.session_of(&request).await?;
        let user = request.user_context.map(|user| user.user_id).unwrap_or_default();
        let key = (user, request.new_session_id.unwrap_or_else(|| Uuid::new_v4().to_string()));
        if self.sessions.lock().contains_key(&key) {
            let error = Error::user(format!("session `{}` exists already", key.1))
                .with_condition("INVALID_CLONE_SESSION_REQUEST.TARGET_SESSION_ID_ALREADY_EXISTS");
            return Err(session.errors.status(&error));
        }
        let copy = self.new_session(key).await?;
        copy.take_over(&session).await.map_err(|error| session.errors.status(&error))?;
        Ok(proto::CloneSessionResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            new_session_id: copy.id.clone(),
            new_server_side_session_id: copy.server_id.clone(),
        })
    }

    /// Tells what has become of executions.
    pub async fn get_status(&self, request: proto::GetStatusRequest) -> Result<proto::GetStatusResponse, Status> {
        let session = self.session_of(&request).await?;
        let known: HashMap<String, OperationState> =
            session.operations.lock().iter().map(|(id, operation)| (id.clone(), operation.operation_state())).collect();
        let wanted = request.operation_status.map(|wanted| wanted.operation_ids);
        let wanted = wanted.map(|ids| if ids.is_empty() { known.keys().cloned().collect() } else { ids });
        let told = |operation_id: String| {
            let state = known.get(&operation_id).copied().unwrap_or(OperationState::Unknown).into();
            OperationStatus { operation_id, state, extensions: Vec::new() }
        };
        Ok(proto::GetStatusResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            operation_statuses: wanted.unwrap_or_default().into_iter().map(told).collect(),
            extensions: Vec::new(),
        })
    }

    /// Forgets a session and stops what it runs.
    pub(super) async fn end_session(&self, key: &SessionKey) -> Option<Arc<Session>> {
        let session = self.sessions.lock().remove(key)?;
        for operation in session.operations.lock().values() {
            operation.cancel();
        }
        self.host.release(&key.0, &key.1).await;
        Some(session)
    }
}

impl Session {
    /// Starts with what `other` has.
    async fn take_over(&self, other: &Self) -> crate::error::Result<()> {
        let (own, settings) = (self.host.conf().all, other.host.conf().all);
        for (key, value) in settings.iter().filter(|(key, value)| own.get(*key) != Some(*value)) {
            self.host.set_conf(key, value)?;
        }
        if let (Some(catalog), Some(others)) = (self.host.catalog(), other.host.catalog()) {
            let (name, schema) = others.current();
            catalog.set_current(&name, &schema).await?;
        }
        self.functions.lock().clone_from(&other.functions.lock());
        self.table_functions.lock().clone_from(&other.table_functions.lock());
        self.sql_functions.lock().clone_from(&other.sql_functions.lock());
        self.views.lock().clone_from(&other.views.lock());
        self.cached.lock().clone_from(&other.cached.lock());
        self.artifacts.take_over(&other.artifacts);
        Ok(())
    }
}

/// The status for a client whose session is there no more: it cannot go on as if nothing was lost.
fn ended(session: &str) -> Status {
    let error = Error::new(
        Kind::User,
        format!("session `{session}` has ended: it was idle for too long, was released, or the server was restarted"),
    )
    .with_condition("INVALID_HANDLE.SESSION_CHANGED")
    .with_help("Make a new session; temporary views, functions and settings of the old one are lost.");
    status(&error)
}
