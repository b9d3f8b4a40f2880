//! VARIANT columns: a type of its own in the log, a struct of bytes in files and for the library that reads them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;
use deltalake::kernel::{DataType as KernelType, StructField, StructType};
use deltaworks_spark::types::{holds_variant, is_variant, variant};

use crate::empty_scans::with_a_partition;

/// Whether a column holds variants.
pub(crate) fn any_variant(schema: &Schema) -> bool {
    schema.fields().iter().any(|field| holds_variant(field.data_type()))
}

/// The columns of the log, with VARIANT where `schema` has it: converted by their Arrow types they are structs.
pub(crate) fn with_variants(columns: StructType, schema: &Schema) -> deltalake::DeltaResult<StructType> {
    Ok(if any_variant(schema) { fields_of(&columns, schema.fields())? } else { columns })
}

fn fields_of(kernel: &StructType, arrow: &Fields) -> deltalake::DeltaResult<StructType> {
    let fields = kernel.fields().zip(arrow).map(|(kernel, arrow)| {
        let data_type = kernel_type(kernel.data_type(), arrow.data_type())?;
        Ok(StructField { data_type, ..kernel.clone() })
    });
    Ok(StructType::try_new(fields.collect::<deltalake::DeltaResult<Vec<_>>>()?)?)
}

fn kernel_type(kernel: &KernelType, arrow: &DataType) -> deltalake::DeltaResult<KernelType> {
    Ok(match (kernel, arrow) {
        (_, arrow) if is_variant(arrow) => KernelType::unshredded_variant(),
        (KernelType::Struct(kernel), DataType::Struct(arrow)) => fields_of(kernel, arrow)?.into(),
        (KernelType::Array(array), DataType::List(item)) => {
            let mut array = array.clone();
            array.element_type = kernel_type(&array.element_type, item.data_type())?;
            KernelType::Array(array)
        }
        (KernelType::Map(map), DataType::Map(entries, _)) => {
            let mut map = map.clone();
            if let DataType::Struct(pair) = entries.data_type() {
                map.value_type = kernel_type(&map.value_type, pair[1].data_type())?;
            }
            KernelType::Map(map)
        }
        (other, _) => other.clone(),
    })
}

/// The Arrow columns that were converted from `columns`, with VARIANT marked as such.
pub(crate) fn marked(schema: SchemaRef, columns: &StructType) -> SchemaRef {
    if !columns.fields().any(|field| has_variant(field.data_type())) {
        return schema;
    }
    let fields = schema.fields().iter().map(|arrow| match columns.field(arrow.name()) {
        Some(kernel) => marked_field(arrow, kernel.data_type()),
        None => Arc::clone(arrow),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), schema.metadata().clone()))
}

fn has_variant(data_type: &KernelType) -> bool {
    match data_type {
        KernelType::Variant(_) => true,
        KernelType::Struct(fields) => fields.fields().any(|field| has_variant(field.data_type())),
        KernelType::Array(array) => has_variant(array.element_type()),
        KernelType::Map(map) => has_variant(map.value_type()),
        KernelType::Primitive(_) => false,
    }
}

fn marked_field(arrow: &FieldRef, kernel: &KernelType) -> FieldRef {
    let data_type = match (arrow.data_type(), kernel) {
        (_, KernelType::Variant(_)) => variant(),
        (DataType::Struct(fields), KernelType::Struct(columns)) => {
            let field = |arrow: &FieldRef| match columns.field(arrow.name()) {
                Some(kernel) => marked_field(arrow, kernel.data_type()),
                None => Arc::clone(arrow),
            };
            DataType::Struct(fields.iter().map(field).collect())
        }
        (DataType::List(item), KernelType::Array(array)) => DataType::List(marked_field(item, array.element_type())),
        (DataType::Map(entries, sorted), KernelType::Map(map)) => match entries.data_type() {
            DataType::Struct(pair) => {
                let pair = [Arc::clone(&pair[0]), marked_field(&pair[1], map.value_type())];
                let pair = DataType::Struct(pair.into_iter().collect());
                DataType::Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted)
            }
            _ => return Arc::clone(arrow),
        },
        _ => return Arc::clone(arrow),
    };
    Arc::new(Field::clone(arrow).with_data_type(data_type))
}

/// The columns of `scanned` with the types that `table` has for columns of variants.
pub(crate) fn typed_as(scanned: SchemaRef, table: &Schema) -> SchemaRef {
    if !any_variant(table) {
        return scanned;
    }
    let fields = scanned.fields().iter().map(|field| match table.field_with_name(field.name()) {
        Ok(known) if holds_variant(known.data_type()) => {
            Arc::new(Field::clone(field).with_data_type(known.data_type().clone()))
        }
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), scanned.metadata().clone()))
}

/// The rows of `plan` with the types that `schema` has for columns of variants.
pub(crate) fn in_types(plan: Arc<dyn ExecutionPlan>, schema: &Schema) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    if !any_variant(schema) {
        return Ok(plan);
    }
    let found = plan.schema();
    let expressions = found.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        let expression = match schema.field_with_name(field.name()) {
            Ok(known) if known.data_type() != field.data_type() && holds_variant(known.data_type()) => {
                Arc::new(CastExpr::new(column, known.data_type().clone(), None))
            }
            _ => column,
        };
        (expression, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(expressions.collect::<Vec<_>>(), plan)?))
}

/// A table of the library's, with VARIANT marked as such.
#[derive(Debug)]
pub(crate) struct Marked {
    inner: Arc<dyn TableProvider>,
    schema: SchemaRef,
}

impl Marked {
    /// `inner` with the types that `table` has for columns of variants.
    pub(crate) fn new(inner: Arc<dyn TableProvider>, table: &Schema) -> Self {
        let schema = typed_as(inner.schema(), table);
        Self { inner, schema }
    }
}

#[async_trait]
impl TableProvider for Marked {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        in_types(with_a_partition(self.inner.scan(session, projection, filters, limit).await?)?, &self.schema)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        if any_variant(&self.schema) {
            return Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()]);
        }
        self.inner.supports_filters_pushdown(filters)
    }
}
