//! Hands out the key columns of passing rows, to be remembered for later batches.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::common::{Column, DFSchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_plan::ExecutionPlan;

use crate::dedup::DedupExec;
use crate::map_exec::MapExec;
use crate::state::{Expiry, NewRows};
use crate::watermark::times_of;

/// Passes all rows and collects their key columns.
#[derive(Debug, Clone)]
pub(crate) struct CollectKeys {
    pub input: Arc<LogicalPlan>,
    pub keys: Vec<Column>,
    /// When the keys need not be remembered any more, if ever.
    pub expires: Option<Expiry>,
    pub new_rows: NewRows,
}

impl CollectKeys {
    pub(crate) fn plan(&self, input: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let index = |column: &Column| self.input.schema().index_of_column(column);
        let keys = self.keys.iter().map(index).collect::<Result<Vec<_>>>()?;
        let expires = match &self.expires {
            Some(expires) => Some((index(&expires.column)?, expires.plus_us)),
            None => None,
        };
        let (new_rows, schema) = (self.new_rows.clone(), input.schema());
        if let (Some(first_rows), None) = (input.downcast_ref::<DedupExec>(), expires)
            && let Some(remembering) = first_rows.remembering(&keys, &new_rows)
        {
            // Without earlier state the first rows of this batch are all new: one set of their keys is enough.
            let pass = MapExec::new("CollectKeysExec", Arc::new(remembering), schema, |batch, _| Ok(batch));
            return Ok(Arc::new(pass.reading_to_the_end(new_rows.completion())));
        }
        let collect = MapExec::new("CollectKeysExec", input, schema, move |batch, context| {
            let expires = match expires {
                Some((column, plus_us)) => {
                    Some(times_of(batch.column(column))?.unary(|time: i64| time.saturating_add(plus_us)))
                }
                None => None,
            };
            new_rows.push(batch.columns(), &keys, expires.as_ref(), context)?;
            Ok(batch)
        });
        Ok(Arc::new(collect.reading_to_the_end(self.new_rows.completion())))
    }
}

impl PartialEq for CollectKeys {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.keys == other.keys
            && self.expires == other.expires
            && self.new_rows.is(&other.new_rows)
    }
}

impl Eq for CollectKeys {}

impl Hash for CollectKeys {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.input.hash(state);
        self.keys.hash(state);
    }
}

impl PartialOrd for CollectKeys {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        if self == other {
            return Some(Ordering::Equal);
        }
        match self.keys.partial_cmp(&other.keys) {
            Some(Ordering::Equal) => self.input.partial_cmp(&other.input),
            unequal => unequal,
        }
    }
}

impl UserDefinedLogicalNodeCore for CollectKeys {
    fn name(&self) -> &str {
        "CollectKeys"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        let time = self.expires.iter().map(|expires| &expires.column);
        self.keys.iter().chain(time).cloned().map(Expr::Column).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let keys: Vec<_> = self.keys.iter().map(Column::flat_name).collect();
        write!(f, "CollectKeys: [{}]", keys.join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut keys = exprs
            .into_iter()
            .map(|expr| match expr {
                Expr::Column(column) => Ok(column),
                other => Err(DataFusionError::Internal(format!("collected key is not a column: {other}"))),
            })
            .collect::<Result<Vec<_>>>()?;
        let time = keys.split_off(self.keys.len()).pop();
        let expires =
            self.expires.as_ref().zip(time).map(|(expires, column)| Expiry { column, plus_us: expires.plus_us });
        match <[_; 1]>::try_from(inputs) {
            Ok([input]) => Ok(Self { input: Arc::new(input), keys, expires, new_rows: self.new_rows.clone() }),
            Err(inputs) => Err(DataFusionError::Internal(format!("CollectKeys has {} inputs", inputs.len()))),
        }
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let mut needed = output_columns.to_vec();
        for key in self.keys.iter().chain(self.expires.iter().map(|expires| &expires.column)) {
            needed.push(self.input.schema().maybe_index_of_column(key)?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}
