//! What rows must fulfil before they are written: NOT NULL, generated columns, CHECK constraints.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::cast;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DFSchema, DFSchemaRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use deltaworks_spark::error::{Error, Result};

use crate::definition::{CONSTRAINT_PREFIX, GENERATION_KEY, INVARIANTS_KEY};
use crate::length::Length;

/// Turns the SQL text of an expression over a table's columns into an expression.
pub type ParseExpression = Arc<dyn Fn(&str, &DFSchema) -> Result<Expr> + Send + Sync>;

/// The checks of one table, ready to run on batches of its schema.
pub(crate) struct Checks {
    schema: SchemaRef,
    generated: Vec<Generated>,
    constraints: Vec<Constraint>,
    lengths: Vec<Length>,
}

struct Generated {
    column: usize,
    sql: String,
    expression: Arc<dyn PhysicalExpr>,
}

struct Constraint {
    name: String,
    sql: String,
    expression: Arc<dyn PhysicalExpr>,
}

impl Checks {
    /// Plans all expressions of the table's schema and properties.
    ///
    /// # Errors
    /// `User` if an expression cannot be planned.
    pub(crate) fn new(
        schema: &SchemaRef,
        properties: &BTreeMap<String, String>,
        session: Option<&SessionState>,
        parse: Option<&ParseExpression>,
    ) -> Result<Self> {
        let lengths = Length::all(schema);
        let generated = generation_expressions(schema);
        let constraints = constraint_expressions(schema, properties);
        if generated.is_empty() && constraints.is_empty() {
            return Ok(Self { schema: Arc::clone(schema), generated: Vec::new(), constraints: Vec::new(), lengths });
        }
        let planner = Planner::new(schema, session, parse)?;
        let generated = generated
            .into_iter()
            .map(|(column, sql)| Ok(Generated { column, expression: planner.plan(&sql)?, sql }))
            .collect::<Result<_>>()?;
        let constraints = constraints
            .into_iter()
            .map(|(name, sql)| Ok(Constraint { name, expression: planner.plan(&sql)?, sql }))
            .collect::<Result<_>>()?;
        Ok(Self { schema: Arc::clone(schema), generated, constraints, lengths })
    }

    /// Fills generated columns that are `missing`, then checks everything.
    ///
    /// # Errors
    /// `Data`, naming the column or constraint and showing the first row that breaks it.
    pub(crate) fn complete(&self, mut columns: Vec<ArrayRef>, rows: usize, missing: &[usize]) -> Result<Vec<ArrayRef>> {
        for length in &self.lengths {
            columns[length.column] = length.fit(&columns[length.column], self.schema.field(length.column).name())?;
        }
        for generated in &self.generated {
            let batch = self.unchecked(&columns, rows)?;
            let value = generated.expression.evaluate(&batch)?.into_array(rows)?;
            let value = cast(&value, self.schema.field(generated.column).data_type())?;
            if missing.contains(&generated.column) {
                columns[generated.column] = value;
            } else {
                self.check_generated(generated, &batch, &value)?;
            }
        }
        self.check_not_null(&columns)?;
        if !self.constraints.is_empty() {
            let batch = self.unchecked(&columns, rows)?;
            self.constraints.iter().try_for_each(|constraint| check_constraint(constraint, &batch))?;
        }
        Ok(columns)
    }

    /// Whether the table computes this column itself.
    pub(crate) fn generates(&self, column: usize) -> bool {
        self.generated.iter().any(|generated| generated.column == column)
    }

    fn check_generated(&self, generated: &Generated, batch: &RecordBatch, expected: &ArrayRef) -> Result<()> {
        let name = self.schema.field(generated.column).name();
        let equal = not_distinct(batch.column(generated.column), expected)?;
        match first_failure(&equal) {
            None => Ok(()),
            Some(row) => Err(Error::data(format!(
                "column `{name}` does not have the value of its generation expression `{}`; first such row: {}",
                generated.sql,
                show_row(batch, row)
            ))
            .with_condition("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES")),
        }
    }

    fn check_not_null(&self, columns: &[ArrayRef]) -> Result<()> {
        for (field, column) in self.schema.fields().iter().zip(columns) {
            if field.is_nullable() || column.null_count() == 0 {
                continue;
            }
            let row = (0..column.len()).find(|row| column.is_null(*row)).unwrap_or_default();
            let batch = self.unchecked(columns, column.len())?;
            return Err(Error::data(format!(
                "NOT NULL constraint violated for column `{}`; first such row: {}",
                field.name(),
                show_row(&batch, row)
            ))
            .with_condition("DELTA_NOT_NULL_CONSTRAINT_VIOLATED"));
        }
        Ok(())
    }

    /// The columns as a batch that may hold NULL anywhere.
    fn unchecked(&self, columns: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(nullable(&self.schema), columns.to_vec(), &options)?)
    }
}

struct Planner<'a> {
    schema: DFSchemaRef,
    session: std::borrow::Cow<'a, SessionState>,
    parse: Option<&'a ParseExpression>,
}

impl<'a> Planner<'a> {
    fn new(schema: &SchemaRef, session: Option<&'a SessionState>, parse: Option<&'a ParseExpression>) -> Result<Self> {
        let session = match session {
            Some(session) => std::borrow::Cow::Borrowed(session),
            None => std::borrow::Cow::Owned(SessionContext::new().state()),
        };
        let schema = Arc::new(DFSchema::try_from(nullable(schema).as_ref().clone())?);
        Ok(Self { schema, session, parse })
    }

    fn plan(&self, sql: &str) -> Result<Arc<dyn PhysicalExpr>> {
        let planned = || -> Result<Arc<dyn PhysicalExpr>> {
            let expression = match self.parse {
                Some(parse) => parse(sql, &self.schema)?,
                None => self.session.create_logical_expr(sql, &self.schema)?,
            };
            Ok(self.session.create_physical_expr(expression, &self.schema)?)
        };
        planned().map_err(|error| error.context(format!("in the table's expression `{sql}`")))
    }
}

fn nullable(schema: &Schema) -> SchemaRef {
    let fields: Vec<_> =
        schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect();
    Arc::new(Schema::new(fields))
}

fn generation_expressions(schema: &Schema) -> Vec<(usize, String)> {
    let expression = |(index, field): (usize, &arrow::datatypes::FieldRef)| {
        field.metadata().get(GENERATION_KEY).map(|sql| (index, sql.clone()))
    };
    schema.fields().iter().enumerate().filter_map(expression).collect()
}

fn constraint_expressions(schema: &Schema, properties: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let checks = properties
        .iter()
        .filter_map(|(key, sql)| key.strip_prefix(CONSTRAINT_PREFIX).map(|name| (name.to_owned(), sql.clone())));
    let invariants = schema.fields().iter().filter_map(|field| {
        let invariant: serde_json::Value = serde_json::from_str(field.metadata().get(INVARIANTS_KEY)?).ok()?;
        Some((field.name().clone(), invariant["expression"]["expression"].as_str()?.to_owned()))
    });
    checks.chain(invariants).collect()
}

/// As in Delta, a constraint whose value is NULL is violated.
fn check_constraint(constraint: &Constraint, batch: &RecordBatch) -> Result<()> {
    let value = constraint.expression.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(holds) = value.as_any().downcast_ref::<BooleanArray>() else {
        return Err(Error::user(format!(
            "CHECK constraint `{}` is not a condition but has type {}",
            constraint.name,
            crate::schema::type_name(value.data_type())
        )));
    };
    match first_failure(holds) {
        None => Ok(()),
        Some(row) => Err(Error::data(format!(
            "CHECK constraint `{}` ({}) violated; first such row: {}",
            constraint.name,
            constraint.sql,
            show_row(batch, row)
        ))
        .with_condition("DELTA_VIOLATE_CONSTRAINT_WITH_VALUES")),
    }
}

fn first_failure(holds: &BooleanArray) -> Option<usize> {
    if holds.null_count() == 0 && holds.false_count() == 0 {
        return None;
    }
    (0..holds.len()).find(|row| holds.is_null(*row) || !holds.value(*row))
}

/// A row for people: `id=1, name=NULL`.
fn show_row(batch: &RecordBatch, row: usize) -> String {
    let options = FormatOptions::new().with_null("NULL").with_display_error(true);
    let cells = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = ArrayFormatter::try_new(column.as_ref(), &options)
            .map_or_else(|_| "?".to_owned(), |formatter| formatter.value(row).to_string());
        format!("{}={value}", field.name())
    });
    cells.collect::<Vec<_>>().join(", ")
}
