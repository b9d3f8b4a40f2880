//! Tables whose texts can be had as views.
//!
//! A column of texts (`Utf8`) is one buffer with all of them: whoever leaves rows out, or puts rows together, copies texts. Views
//! (`Utf8View`) point to where texts are, as to the page of a file that was decoded. Values of Spark's type are of the first kind
//! here; `optimizer::text_views` has the second kind read where rows are moved before anything looks at their texts.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;

/// A table that can give texts as views.
pub trait TextViews: TableProvider {
    /// The same table with its columns at these positions, which are texts, as views.
    fn with_views(&self, columns: &[usize]) -> Arc<dyn TableProvider>;
}

/// Such a table, as plans know it.
#[derive(Debug)]
pub struct TextTable(Arc<dyn TextViews>);

impl TextTable {
    /// The table, to be found in plans.
    pub fn new(table: Arc<dyn TextViews>) -> Self {
        Self(table)
    }

    /// The table itself.
    pub fn table(&self) -> &dyn TableProvider {
        self.0.as_ref()
    }

    /// See [`TextViews::with_views`].
    pub fn with_views(&self, columns: &[usize]) -> Arc<dyn TableProvider> {
        self.0.with_views(columns)
    }
}

#[async_trait]
impl TableProvider for TextTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn table_type(&self) -> TableType {
        self.0.table_type()
    }

    fn statistics(&self) -> Option<Statistics> {
        self.0.statistics()
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        self.0.supports_filters_pushdown(filters)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.0.scan(state, projection, filters, limit).await
    }
}
