//! An operator that does one thing to each batch of rows.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::completion::Completion;

type Map = Arc<dyn Fn(RecordBatch, &TaskContext) -> Result<RecordBatch> + Send + Sync>;

/// Turns each batch of its input into another, partition by partition.
pub(crate) struct MapExec {
    name: &'static str,
    input: Arc<dyn ExecutionPlan>,
    map: Map,
    /// Set if all input must be seen, whatever becomes of the output.
    completion: Option<Completion>,
    properties: Arc<PlanProperties>,
}

impl MapExec {
    /// `map` gives batches of `schema`; if that is the schema of the input, it only leaves rows out.
    pub(crate) fn new(
        name: &'static str,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        map: impl Fn(RecordBatch, &TaskContext) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> Self {
        Self::with_map(name, input, schema, Arc::new(map), None)
    }

    /// The same, but for its input running to the end even where its output is not read.
    pub(crate) fn reading_to_the_end(self, completion: Completion) -> Self {
        Self { completion: Some(completion), ..self }
    }

    fn with_map(
        name: &'static str,
        input: Arc<dyn ExecutionPlan>,
        schema: SchemaRef,
        map: Map,
        completion: Option<Completion>,
    ) -> Self {
        let partitioning = match schema == input.schema() {
            true => input.output_partitioning().clone(),
            false => Partitioning::UnknownPartitioning(input.output_partitioning().partition_count()),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            partitioning,
            input.pipeline_behavior(),
            input.boundedness(),
        );
        Self { name, input, map, completion, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for MapExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(self.name).field("input", &self.input).finish_non_exhaustive()
    }
}

impl DisplayAs for MapExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl ExecutionPlan for MapExec {
    fn name(&self) -> &str {
        self.name
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => {
                let (map, completion) = (Arc::clone(&self.map), self.completion.clone());
                Ok(Arc::new(Self::with_map(self.name, input, self.schema(), map, completion)))
            }
            Err(inputs) => Err(DataFusionError::Internal(format!("{} has {} inputs", self.name, inputs.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, Arc::clone(&context))?;
        let map = Arc::clone(&self.map);
        let rows = input
            .map(move |batch| map(batch?, &context))
            .try_filter(|batch| futures::future::ready(batch.num_rows() > 0));
        let Some(completion) = &self.completion else {
            return Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)));
        };
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        completion.spawn(async move {
            let mut rows = std::pin::pin!(rows);
            while let Some(batch) = rows.next().await {
                let error = batch.as_ref().err().map(copy);
                // If nobody reads on, the input is run to its end all the same.
                let _unread = sender.send(batch).await;
                if let Some(error) = error {
                    return Err(error);
                }
            }
            Ok(())
        });
        let rows = futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }
}

/// An error that says the same, to whoever waits for the end instead of reading rows.
fn copy(error: &DataFusionError) -> DataFusionError {
    match error.find_root() {
        DataFusionError::ResourcesExhausted(detail) => DataFusionError::ResourcesExhausted(detail.clone()),
        _ => DataFusionError::Execution(error.to_string()),
    }
}
