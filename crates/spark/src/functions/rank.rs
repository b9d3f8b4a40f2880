//! Ranking functions with Spark's INT in place of DataFusion's unsigned numbers.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::functions_window as df;
use datafusion::logical_expr::function::{ExpressionArgs, PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::window_state::WindowAggState;
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, ReversedUDWF, Signature, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;

use crate::error::Result;

/// Puts the ranking functions into a registry.
pub(super) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let ranking = [
        df::row_number::row_number_udwf(),
        df::rank::rank_udwf(),
        df::rank::dense_rank_udwf(),
        df::ntile::ntile_udwf(),
    ];
    for inner in ranking {
        registry.register_udwf(Arc::new(WindowUDF::new_from_impl(Ranking(inner))))?;
    }
    Ok(())
}

/// A window function whose numbers are INT.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Ranking(Arc<WindowUDF>);

impl WindowUDFImpl for Ranking {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn expressions(&self, args: ExpressionArgs) -> Vec<Arc<dyn PhysicalExpr>> {
        self.0.expressions(args)
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DataFusionResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(RankingEvaluator(self.0.partition_evaluator_factory(args)?)))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DataFusionResult<FieldRef> {
        let field = self.0.field(args)?;
        Ok(Arc::new(Field::new(field.name(), DataType::Int32, field.is_nullable())))
    }

    fn sort_options(&self) -> Option<SortOptions> {
        self.0.sort_options()
    }

    fn coerce_types(&self, types: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn reverse_expr(&self) -> ReversedUDWF {
        ReversedUDWF::NotSupported
    }

    fn limit_effect(&self, args: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        self.0.inner().limit_effect(args)
    }
}

#[derive(Debug)]
struct RankingEvaluator(Box<dyn PartitionEvaluator>);

impl PartitionEvaluator for RankingEvaluator {
    fn memoize(&mut self, state: &mut WindowAggState) -> DataFusionResult<()> {
        self.0.memoize(state)
    }

    fn get_range(&self, idx: usize, rows: usize) -> DataFusionResult<Range<usize>> {
        self.0.get_range(idx, rows)
    }

    fn is_causal(&self) -> bool {
        self.0.is_causal()
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DataFusionResult<ArrayRef> {
        Ok(arrow::compute::cast(&self.0.evaluate_all(values, rows)?, &DataType::Int32)?)
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DataFusionResult<ScalarValue> {
        self.0.evaluate(values, range)?.cast_to(&DataType::Int32)
    }

    fn evaluate_all_with_rank(&self, rows: usize, ranks: &[Range<usize>]) -> DataFusionResult<ArrayRef> {
        Ok(arrow::compute::cast(&self.0.evaluate_all_with_rank(rows, ranks)?, &DataType::Int32)?)
    }

    fn supports_bounded_execution(&self) -> bool {
        self.0.supports_bounded_execution()
    }

    fn uses_window_frame(&self) -> bool {
        self.0.uses_window_frame()
    }

    fn include_rank(&self) -> bool {
        self.0.include_rank()
    }
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("row_number() OVER (ORDER BY 1)", "1"),
            ("rank() OVER (ORDER BY 1)", "1"),
            ("dense_rank() OVER (ORDER BY 1)", "1"),
            ("ntile(2) OVER (ORDER BY 1)", "1"),
            ("typeof((SELECT row_number() OVER (ORDER BY 1)))", "int"),
            ("lag(1) OVER (ORDER BY 1)", "NULL"),
            ("lead(1, 1, 5) OVER (ORDER BY 1)", "5"),
        ])
        .await;
    }
}
