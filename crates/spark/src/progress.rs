//! Which plans the present work runs, for those who tell how far it is.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;

tokio::task_local! {
    static PLANS: Plans;
}

/// The plans of one piece of work, in the order in which they were started.
#[derive(Debug, Clone, Default)]
pub struct Plans(Arc<Mutex<Vec<Arc<dyn ExecutionPlan>>>>);

impl Plans {
    /// Runs `work`, whose plans these are.
    pub async fn of<F: Future>(&self, work: F) -> F::Output {
        PLANS.scope(self.clone(), work).await
    }

    /// The plans so far.
    pub fn started(&self) -> Vec<Arc<dyn ExecutionPlan>> {
        self.0.lock().clone()
    }

    /// The plans so far, which are forgotten: they hold on to rows.
    pub fn take(&self) -> Vec<Arc<dyn ExecutionPlan>> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Tells that the present work runs `plan` from now on. Nobody may want to know.
pub fn runs(plan: &Arc<dyn ExecutionPlan>) {
    let _wanted = PLANS.try_with(|plans| plans.0.lock().push(Arc::clone(plan)));
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;
    use datafusion::physical_plan::empty::EmptyExec;

    use super::*;

    #[tokio::test]
    async fn plans_belong_to_the_work_that_runs_them() {
        let plan: Arc<dyn ExecutionPlan> = Arc::new(EmptyExec::new(Arc::new(Schema::empty())));
        let plans = Plans::default();
        plans.of(async { runs(&plan) }).await;
        runs(&plan);
        assert_eq!(plans.started().len(), 1);
    }
}
