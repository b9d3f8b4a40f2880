//! Shows a table in the schema that a plan was made for.
//!
//! A stored table may have more columns than its definition (columns once removed are kept), in another
//! order. Plans name columns by position, so the difference is bridged here.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::{TableProvider, view::ViewTable};
use datafusion::common::Column;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlanBuilder, cast, lit};
use datafusion::prelude::Expr;
use datafusion::scalar::ScalarValue;
use deltaworks_spark::Result;

/// `provider` in the columns of `schema`, by name; columns it lacks are NULL.
pub fn to_schema(provider: Arc<dyn TableProvider>, schema: &SchemaRef) -> Result<Arc<dyn TableProvider>> {
    let same = provider.schema().fields().len() == schema.fields().len()
        && provider
            .schema()
            .fields()
            .iter()
            .zip(schema.fields())
            .all(|(stored, wanted)| stored.name() == wanted.name() && stored.data_type() == wanted.data_type());
    if same {
        return Ok(provider);
    }
    let stored = provider.schema();
    let columns = schema
        .fields()
        .iter()
        .map(|wanted| {
            let found = stored.fields().iter().find(|field| field.name().eq_ignore_ascii_case(wanted.name()));
            Ok(match found {
                Some(field) if field.data_type() == wanted.data_type() => {
                    Expr::Column(Column::from_name(field.name())).alias(wanted.name())
                }
                Some(field) => {
                    cast(Expr::Column(Column::from_name(field.name())), wanted.data_type().clone()).alias(wanted.name())
                }
                None => lit(ScalarValue::try_from(wanted.data_type())?).alias(wanted.name()),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let plan = LogicalPlanBuilder::scan("stored", provider_as_source(provider), None)?.project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, None)))
}
