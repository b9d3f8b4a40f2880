//! Views in the catalog, expanded where they are read.

use datafusion::logical_expr::LogicalPlan;
use deltaworks_spark::{Error, Result, sql};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use super::relations::FlowRelations;
use super::schema;
use crate::views::StoredView;

/// How deep views may stand on views.
const MAX_VIEW_DEPTH: usize = 100;

impl FlowRelations<'_> {
    /// The plan of a stored view's query, which means what it meant where the view was made.
    ///
    /// # Errors
    /// Those of its query, if what it reads is not there any more or has other columns;
    /// `VIEW_EXCEED_MAX_NESTED_DEPTH` (`User`) for views that stand on themselves.
    pub(super) fn stored_view<'b>(&'b self, view: &'b StoredView) -> BoxFuture<'b, Result<LogicalPlan>> {
        async move {
            if self.depth == MAX_VIEW_DEPTH {
                return Err(Error::user(format!("view `{}` stands on more than {MAX_VIEW_DEPTH} others", view.name))
                    .with_condition("VIEW_EXCEED_MAX_NESTED_DEPTH"));
            }
            self.expanded(view).await.map_err(|error| {
                error.context(format!("in view `{}`", view.name)).with_help(match view.pipeline_id {
                    Some(_) => "Update the pipeline that publishes the view; correct its query if that does not help.",
                    None => "Create the view again (CREATE OR REPLACE VIEW).",
                })
            })
        }
        .boxed()
    }

    async fn expanded(&self, view: &StoredView) -> Result<LogicalPlan> {
        let environment = &self.resolver.environment;
        let ctx = environment.sessions.context(&view.conf(&environment.conf)?)?;
        let namespace = view.namespace();
        let inner = FlowRelations {
            resolver: self.resolver,
            namespace: &namespace,
            flow: self.flow,
            trail: self.trail.clone(),
            references: Mutex::default(),
            pending: Mutex::default(),
            depth: self.depth + 1,
        };
        let plan = schema::selected(sql::plan_query(&ctx, &view.parsed()?, &inner).await?)?;
        let plan = schema::renamed(plan, &view.columns, &view.name)?;
        if view.agrees_with(&environment.conf) {
            return Ok(plan);
        }
        // What settings make of casts and operators is decided by the analysis: it must not be left to the reader's.
        let state = ctx.state();
        Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
    }
}
