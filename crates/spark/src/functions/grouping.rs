//! `grouping_id`: a name until the keys of its aggregation are known.

use std::hash::Hash;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::common::Result as DataFusionResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, TypeSignature, Volatility};

use crate::error::Error;

/// Whether an aggregate is `grouping_id`, which a planner replaces by `grouping` of the keys.
pub(crate) fn is_grouping_id(udaf: &AggregateUDF) -> bool {
    udaf.inner().is::<GroupingId>()
}

/// The name for DataFusion's registry.
pub(super) fn aggregate() -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::new_from_impl(GroupingId))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GroupingId;

static SIGNATURE: LazyLock<Signature> = LazyLock::new(|| {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Immutable)
});

impl AggregateUDFImpl for GroupingId {
    fn name(&self) -> &str {
        "grouping_id"
    }

    fn signature(&self) -> &Signature {
        &SIGNATURE
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Int64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> DataFusionResult<Box<dyn Accumulator>> {
        Err(Error::unsupported("`grouping_id` in this place")
            .with_help("Use `grouping(column)` in SQL, or `grouping_id` in the `agg` of a DataFrame.")
            .into())
    }
}
