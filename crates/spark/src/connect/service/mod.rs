//! The Spark Connect service: sessions, authentication, and one handler per method.

mod analyze;
mod artifact;
mod batches;
mod catalog;
mod command;
mod compressed;
mod dml;
mod error_store;
mod execute;
mod functions;
mod history;
mod lifetime;
mod maintenance;
mod observe;
mod operation;
mod progress;
mod rows;
mod sessions;
mod settings;
mod show;
mod tables;
mod tls;
mod tree;
mod views;
mod write;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::http::HeaderMap;
use tonic::transport::server::TcpIncoming;
use uuid::Uuid;

use super::artifacts::Artifacts;
use super::grpc::ConnectServer;
use super::host::{AnalysisContext, ConnectHost, ConnectSession, Purpose};
use super::plan::plan_relation_with;
use super::proto::{self, relation::RelType};
use crate::conf::SparkConf;
use crate::error::{Error, Kind, Result};
use crate::python::{NamedFunction, TableFunctions};
use crate::relation::ObjectName;
use error_store::ErrorStore;
pub use execute::is_query;
use functions::OwnFunctions;
pub use lifetime::Lifetimes;
use operation::Operation;
pub use show::show_rows;
pub use tls::TlsIdentity;
use views::{GlobalViews, Views};

/// How the service treats its clients.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The token every request must carry; `None`: whoever reaches the listener is served.
    pub token: Option<String>,
    /// How long clients may be silent.
    pub lifetimes: Lifetimes,
    /// What connections are encrypted with; `None`: they are not.
    pub tls: Option<TlsIdentity>,
    /// How often clients are told how far an execution is; `None`: never.
    pub progress_interval: Option<Duration>,
}

/// No token, no encryption, otherwise as Spark has it.
impl Default for ServeOptions {
    fn default() -> Self {
        Self { token: None, lifetimes: Lifetimes::default(), tls: None, progress_interval: Some(PROGRESS_INTERVAL) }
    }
}

/// How often clients are told how far an execution is, if nothing is set.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

impl ServeOptions {
    /// With what Spark's settings for servers say.
    ///
    /// # Errors
    /// `INVALID_CONF_VALUE` (`User`) for a time that is none.
    pub fn with_conf(mut self, conf: &SparkConf) -> Result<Self> {
        if let Some(time) = conf.duration("spark.connect.session.manager.defaultSessionTimeout")? {
            self.lifetimes.idle_session = time;
        }
        if let Some(time) = conf.duration("spark.connect.execute.manager.detachedTimeout")? {
            self.lifetimes.detached_execution = time;
        }
        if let Some(time) = conf.duration("spark.connect.progress.reportInterval")? {
            self.progress_interval = (!time.is_zero()).then_some(time);
        }
        Ok(self)
    }
}

/// Serves Spark Connect on `listener` until `shutdown` is done; requests in progress are finished.
///
/// Only requests with `authorization: Bearer <token>` are answered. The stock client sends it in
/// plain text to `sc://localhost:<port>/;token=<token>`, to any other host it insists on TLS.
///
/// # Errors
/// `Unavailable` if the listener fails.
pub async fn serve(
    host: Arc<dyn ConnectHost>,
    listener: TcpListener,
    token: String,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let options = ServeOptions { token: Some(token), ..ServeOptions::default() };
    serve_with(host, listener, options, shutdown).await
}

/// As [`serve`], with all options. After `shutdown` executions are cancelled, not waited for.
///
/// # Errors
/// `Unavailable` if the listener fails.
pub async fn serve_with(
    host: Arc<dyn ConnectHost>,
    listener: TcpListener,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<()> {
    let service = Arc::new(ConnectService {
        host,
        token: options.token,
        sessions: Mutex::default(),
        global_views: GlobalViews::default(),
        progress_interval: options.progress_interval,
    });
    let stop = async {
        shutdown.await;
        service.cancel_all();
    };
    let router = tonic::transport::Server::builder().add_service(ConnectServer(Arc::clone(&service)));
    let server = async {
        match options.tls {
            Some(identity) => router.serve_with_incoming_shutdown(identity.connections(listener), stop).await,
            None => {
                // The server's own `tcp_nodelay` is for listeners that it opens itself. Without it each answer waits
                // some 40 ms for the client to acknowledge what was sent before.
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, stop).await
            }
        }
    };
    tokio::select! {
        served = server => served
            .map_err(|error| Error::new(Kind::Unavailable, "the Spark Connect service failed").with_source(error)),
        () = service.keep_clean(options.lifetimes) => Ok(()),
    }
}

/// A client's name of a session: the user and the id the client chose.
type SessionKey = (String, String);

/// What the service keeps for all clients.
pub(super) struct ConnectService {
    host: Arc<dyn ConnectHost>,
    token: Option<String>,
    sessions: Mutex<HashMap<SessionKey, Arc<Session>>>,
    global_views: GlobalViews,
    progress_interval: Option<Duration>,
}

/// What the service keeps for one client.
struct Session {
    host: Arc<dyn ConnectSession>,
    /// The client's name of the session.
    id: String,
    /// Ours: the client notices by it if the server was restarted.
    server_id: String,
    artifacts: Artifacts,
    /// The functions in Python that the client has given names.
    functions: Mutex<HashMap<String, NamedFunction>>,
    /// The table functions in Python that the client has given names.
    table_functions: Mutex<TableFunctions>,
    /// Its functions in SQL that live as long as the session.
    sql_functions: OwnFunctions,
    views: Views,
    global_views: GlobalViews,
    /// The complete names of the tables that the client has asked to be cached.
    cached: Mutex<HashSet<String>>,
    operations: Mutex<HashMap<String, Arc<Operation>>>,
    errors: Arc<ErrorStore>,
    used: Mutex<Instant>,
}

impl ConnectService {
    /// Refuses requests without the token.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Status> {
        let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let given = given.strip_prefix("Bearer ").unwrap_or_default().as_bytes();
        let Some(token) = &self.token else { return Ok(()) };
        let expected = token.as_bytes();
        let differing =
            given.iter().zip(expected).fold(given.len() ^ expected.len(), |all, (a, b)| all | usize::from(a ^ b));
        if differing == 0 { Ok(()) } else { Err(Status::unauthenticated("the token is missing or wrong")) }
    }

    /// Stops whatever runs, so that no connection waits for it.
    fn cancel_all(&self) {
        for session in self.sessions.lock().values() {
            for operation in session.operations.lock().values() {
                operation.cancel();
            }
        }
    }

    pub async fn fetch_error_details(
        &self,
        request: proto::FetchErrorDetailsRequest,
    ) -> Result<proto::FetchErrorDetailsResponse, Status> {
        let session = self.session_of(&request).await?;
        let error = session.errors.take(&request.error_id);
        Ok(proto::FetchErrorDetailsResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            root_error_idx: error.as_ref().map(|_| 0),
            errors: error.into_iter().collect(),
        })
    }
}

/// Runs one SQL statement, a query or a command, in a session that ends with it. Gives its rows, not computed yet.
///
/// # Errors
/// Those of parsing and analysing it; those of running it, if it is a command.
pub async fn run_statement(host: Arc<dyn ConnectSession>, text: &str) -> Result<DataFrame> {
    let session = Session::new(host, "", GlobalViews::default());
    let relation = match execute::is_query(text) {
        true => relation_of(RelType::Sql(proto::Sql { query: text.to_owned(), ..proto::Sql::default() })),
        false => session.run_command(text).await?,
    };
    let plan = session.plan(&relation, Purpose::Execute, None).await?;
    Ok(session.context().execute_logical_plan(plan).await?)
}

impl Session {
    fn new(host: Arc<dyn ConnectSession>, id: &str, global_views: GlobalViews) -> Self {
        let artifacts = Artifacts::with_python(host.python());
        Self {
            host,
            id: id.to_owned(),
            server_id: Uuid::new_v4().to_string(),
            artifacts,
            functions: Mutex::default(),
            table_functions: Mutex::default(),
            sql_functions: OwnFunctions::default(),
            views: Views::default(),
            global_views,
            cached: Mutex::default(),
            operations: Mutex::default(),
            errors: Arc::default(),
            used: Mutex::new(Instant::now()),
        }
    }

    /// The engine's session, with the settings of now and the client's own functions.
    fn context(&self) -> SessionContext {
        let functions = self.sql_functions.lock().clone();
        functions.in_session(&self.python_context())
    }

    /// The engine's session, with the settings of now and the client's own functions in Python.
    fn python_context(&self) -> SessionContext {
        let context = self.host.context();
        self.functions.lock().values().for_each(|function| function.register(&context));
        self.table_functions.lock().in_session(&context)
    }

    /// Gives a function in Python a name, for SQL and for `call_function`.
    fn register_function(&self, message: &proto::CommonInlineUserDefinedFunction) -> Result<()> {
        let name = message.function_name.to_lowercase();
        let conf = super::faces::conf_of(&self.host.context());
        let function = match super::user_function::aggregate_of(message, &self.artifacts, &conf)? {
            Some(mut aggregate) => {
                aggregate.name.clone_from(&name);
                NamedFunction::OfGroups(Arc::new(AggregateUDF::new_from_impl(aggregate)))
            }
            None => {
                let function = super::user_function::of(message, &self.artifacts)?;
                NamedFunction::OfRows(Arc::new(ScalarUDF::new_from_impl(function.named(&name))))
            }
        };
        self.host.function_registered(&function);
        self.sql_functions.lock().remove(&ObjectName(vec![name.clone()]));
        self.functions.lock().insert(name, function);
        Ok(())
    }

    /// Gives a table function in Python a name, for SQL.
    fn register_table_function(&self, message: &proto::CommonInlineUserDefinedTableFunction) -> Result<()> {
        let function = super::relation_python::table_function(message, &self.artifacts)?;
        self.sql_functions.lock().remove(&ObjectName(vec![message.function_name.clone()]));
        self.table_functions.lock().insert(&message.function_name, function);
        Ok(())
    }

    /// How long ago the client was last heard of.
    fn idle_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.used.lock())
    }

    /// The plan of a relation, with the session's views and artifacts in reach.
    async fn plan(
        &self,
        relation: &proto::Relation,
        purpose: Purpose,
        analysis: Option<&AnalysisContext>,
    ) -> Result<datafusion::logical_expr::LogicalPlan> {
        let resolver = self.host.resolver(purpose, analysis);
        let relation = self.with_views(relation.clone());
        let mut functions = self.sql_functions.lock().clone();
        let context = self.python_context();
        // Expressions of DataFrames ask nobody for stored functions: those that they call are found by their errors.
        loop {
            let context = functions.clone().in_session(&context);
            let planned = plan_relation_with(&context, &relation, resolver.as_ref(), &self.artifacts).await;
            let Err(error) = &planned else { return planned };
            let Some(name) = missing_function(error).filter(|name| functions.get(name).is_none()) else {
                return planned;
            };
            match self.sql_function(&name).await {
                Ok(Some(function)) => functions.insert(&name, function),
                _ => return planned,
            }
        }
    }

    /// All rows of a relation, few as they are.
    async fn rows(&self, relation: &proto::Relation) -> Result<RecordBatch> {
        self.rows_for(relation, None).await
    }

    async fn rows_for(&self, relation: &proto::Relation, analysis: Option<&AnalysisContext>) -> Result<RecordBatch> {
        let plan = self.plan(relation, Purpose::Execute, analysis).await?;
        let schema = Arc::new(plan.schema().as_arrow().clone());
        let batches = DataFrame::new(self.context().state(), plan).collect().await?;
        Ok(arrow::compute::concat_batches(&schema, &batches)?)
    }
}

/// The function that an error says is missing.
fn missing_function(error: &Error) -> Option<ObjectName> {
    if error.condition() != Some("UNRESOLVED_ROUTINE") {
        return None;
    }
    let (_, name) = error.parameters().iter().find(|(key, _)| *key == "routineName")?;
    super::scope::split_identifier(name).ok().map(ObjectName)
}

/// A relation of a kind, without a plan id.
fn relation_of(kind: RelType) -> proto::Relation {
    proto::Relation { common: None, rel_type: Some(kind) }
}

/// The place within a pipeline that a request says it comes from.
fn analysis_context(user: Option<&proto::UserContext>) -> Option<AnalysisContext> {
    let extension =
        user?.extensions.iter().find(|any| any.type_url.ends_with("spark.connect.PipelineAnalysisContext"))?;
    proto::PipelineAnalysisContext::decode(extension.value.as_slice()).ok().map(AnalysisContext::from)
}
