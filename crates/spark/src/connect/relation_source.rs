//! Relations without an input: reads, local data, ranges, SQL text, the catalog.

use std::io::Cursor;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use datafusion::catalog::MemTable;
use datafusion::common::ScalarValue;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};

use super::context::Planner;
use super::expression::{Expressions, Item};
use super::proto::{self, read};
use super::scope::{Output, Scope, split_identifier};
use super::types;
use super::{faces, generator};
use crate::error::{Error, Result};
use crate::null_structs::with_null_fields;
use crate::relation::{ObjectName, ReadOptions, RelationRequest, UnresolvedRelation};
use crate::table_functions::known_rows;

impl Planner<'_> {
    pub(super) async fn read(&self, read: &proto::Read) -> Result<Scope> {
        match &read.read_type {
            Some(read::ReadType::NamedTable(table)) => {
                let name = split_identifier(&table.unparsed_identifier)?;
                let options = sorted_options(&table.options);
                let relation = UnresolvedRelation::Table { name: ObjectName(name.clone()), options, time_travel: None };
                self.resolved(relation, read.is_streaming, &name).await
            }
            Some(read::ReadType::DataSource(source)) => {
                let schema =
                    source.schema.as_deref().filter(|text| !text.is_empty()).map(types::parse_schema).transpose()?;
                let mut options = sorted_options(&source.options);
                options.set_predicates(&source.predicates);
                let mut paths = source.paths.clone();
                if paths.is_empty()
                    && let Some(path) = options.get("path")
                {
                    paths.push(path.to_owned());
                }
                if let Some(name) = &source.source_name {
                    options.set("sourceName", name.as_str());
                }
                let format = source.format.clone().filter(|format| !format.is_empty());
                let relation = UnresolvedRelation::Source { format, paths, schema: schema.map(Arc::new), options };
                self.resolved(relation, read.is_streaming, &[]).await
            }
            None => Err(Error::internal("a read without a source")),
        }
    }

    async fn resolved(&self, relation: UnresolvedRelation, streaming: bool, name: &[String]) -> Result<Scope> {
        let request = RelationRequest { relation, streaming, location: None };
        Ok(Scope::new(self.resolver.resolve(&request).await?, name))
    }

    pub(super) fn local_relation(&self, local: &proto::LocalRelation) -> Result<Scope> {
        let schema = local.schema.as_deref().map(types::parse_schema).transpose()?;
        match &local.data {
            Some(data) => self.local_data(std::slice::from_ref(data), schema),
            None => {
                let schema = schema.ok_or_else(|| Error::internal("a local relation without data and schema"))?;
                self.local_batches(Arc::new(schema), Vec::new(), None)
            }
        }
    }

    /// Local data that was uploaded before, in one or several blobs.
    pub(super) fn cached_local_relation(&self, hashes: &[String], schema: Option<&str>) -> Result<Scope> {
        let blob = |hash: &str| {
            self.artifacts
                .cached(hash)
                .ok_or_else(|| Error::user(format!("the client has not uploaded `cache/{hash}`")))
        };
        let declared = match schema {
            Some(hash) => {
                let bytes = blob(hash)?;
                let text = std::str::from_utf8(&bytes)
                    .map_err(|error| Error::user("the uploaded schema is not text").with_source(error))?;
                Some(types::parse_schema(text)?)
            }
            None => None,
        };
        let data = hashes.iter().map(|hash| blob(hash)).collect::<Result<Vec<_>>>()?;
        self.local_data(&data, declared)
    }

    /// The rows of a checkpoint.
    pub(super) fn checkpoint(&self, id: &str) -> Result<Scope> {
        let checkpoint = self.artifacts.kept(id).ok_or_else(|| {
            Error::user(format!("the session keeps no DataFrame `{id}`"))
                .with_condition("NO_HANDLER_FOR_EXTENSION_RELATION")
                .with_help("The session in which the checkpoint was made is gone.")
        })?;
        self.local_batches(checkpoint.schema, checkpoint.batches, None)
    }

    fn local_data(&self, streams: &[bytes::Bytes], declared: Option<Schema>) -> Result<Scope> {
        let mut batches = Vec::new();
        let mut schema = None;
        for stream in streams {
            let reader = StreamReader::try_new(Cursor::new(stream), None)?;
            schema.get_or_insert(reader.schema());
            for batch in reader {
                batches.push(with_null_fields(batch?)?);
            }
        }
        let schema = schema.ok_or_else(|| Error::internal("local data without a stream"))?;
        self.local_batches(schema, batches, declared)
    }

    /// Rows that came with the request, cast to the types the client declared.
    fn local_batches(&self, schema: Arc<Schema>, batches: Vec<RecordBatch>, declared: Option<Schema>) -> Result<Scope> {
        let internal = Schema::new(
            schema
                .fields()
                .iter()
                .enumerate()
                .map(|(i, field)| field.as_ref().clone().with_name(self.names.unique(&i.to_string())))
                .collect::<Vec<_>>(),
        );
        let internal = Arc::new(internal);
        let batches = batches
            .into_iter()
            .map(|batch| {
                let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                Ok(RecordBatch::try_new_with_options(Arc::clone(&internal), batch.columns().to_vec(), &options)?)
            })
            .collect::<Result<Vec<_>>>()?;
        let table = MemTable::try_new(Arc::clone(&internal), vec![batches])?;
        let plan = LogicalPlanBuilder::scan("local_relation", provider_as_source(Arc::new(table)), None)?.build()?;
        let scope = Scope::new(plan, &[]);
        let target: Vec<Field> = match &declared {
            Some(declared) if declared.fields().len() == schema.fields().len() => {
                declared.fields().iter().map(|field| field.as_ref().clone()).collect()
            }
            Some(declared) => {
                return Err(Error::user(format!(
                    "the data has {} columns, the schema {}",
                    schema.fields().len(),
                    declared.fields().len()
                )));
            }
            None => schema
                .fields()
                .iter()
                .map(|field| field.as_ref().clone().with_data_type(faces::canonical(field.data_type())))
                .collect(),
        };
        let outputs = scope
            .columns
            .iter()
            .zip(&target)
            .map(|(column, field)| Ok(Output::computed(self.to_field(column.expr(), field, &scope)?, field.name())))
            .collect::<Result<_>>()?;
        scope.project(outputs, &self.names)
    }

    /// An expression brought to a field's type, with its metadata.
    pub(super) fn to_field(&self, expr: Expr, field: &Field, scope: &Scope) -> Result<Expr> {
        use datafusion::logical_expr::ExprSchemable as _;
        let expr = if expr.get_type(scope.schema())? == *field.data_type() {
            expr
        } else {
            faces::cast(expr, field.data_type(), faces::CastMode::Ansi, scope.schema(), &self.conf)?
        };
        if field.metadata().is_empty() {
            return Ok(expr);
        }
        let metadata: std::collections::BTreeMap<_, _> = field.metadata().clone().into_iter().collect();
        Ok(expr.alias_with_metadata(field.name(), Some(metadata.into())))
    }

    /// `spark.range`: computed, so that a large range takes no memory.
    pub(super) fn range(&self, range: &proto::Range) -> Result<Scope> {
        if range.step == 0 {
            return Err(Error::user("the step of a range must not be 0"));
        }
        let plan = faces::range_plan(self, range.start.unwrap_or(0), range.end, range.step, &self.names.unique("id"))?;
        let scope = Scope::new(plan, &[]);
        let outputs = scope.columns.iter().map(|column| Output::renamed(column, "id")).collect();
        scope.project(outputs, &self.names)
    }

    /// `spark.tvf`: `range`, or a generator over one row without columns.
    pub(super) fn table_function(&self, call: &proto::UnresolvedTableValuedFunction) -> Result<Scope> {
        let nothing = Scope::new(LogicalPlanBuilder::empty(true).build()?, &[]);
        let expressions = Expressions::new(self, &nothing);
        if call.function_name.eq_ignore_ascii_case("range") {
            return self.range(&range_of(expressions.plan_all(&call.arguments)?)?);
        }
        if let Some(plan) = known_rows(&call.function_name, call.arguments.len())? {
            let scope = Scope::new(plan, &[]);
            let outputs = scope.columns.iter().map(|column| Output::renamed(column, &column.name)).collect();
            return scope.project(outputs, &self.names);
        }
        let message = expression_of_call(&call.function_name, &call.arguments);
        match generator::of(&expressions, &message, &[])? {
            Some(generator) => self.project_items(nothing.clone(), vec![Item::Generator(generator)]),
            None => Err(Error::unsupported(format!("the table-valued function `{}`", call.function_name))
                .with_condition("UNRESOLVABLE_TABLE_VALUED_FUNCTION")),
        }
    }

    pub(super) async fn sql(&self, sql: &proto::Sql) -> Result<Scope> {
        let arguments = self.sql_arguments(sql).await?;
        let plan = faces::plan_query(self, &sql.query, arguments).await?;
        Ok(Scope::new(plan, &[]))
    }
}

/// `range(end)`, `range(start, end[, step[, partitions]])`
fn range_of(arguments: Vec<Expr>) -> Result<proto::Range> {
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) => match value.cast_to(&arrow::datatypes::DataType::Int64) {
            Ok(ScalarValue::Int64(Some(number))) => Ok(number),
            _ => Err(Error::user(format!("an argument of `range` is no integer: {value}"))),
        },
        _ => Err(Error::user("the arguments of `range` must be constants")),
    };
    let numbers = arguments.iter().map(number).collect::<Result<Vec<_>>>()?;
    let (start, end, step) = match numbers.as_slice() {
        [end] => (0, *end, 1),
        [start, end] => (*start, *end, 1),
        [start, end, step] | [start, end, step, _] => (*start, *end, *step),
        _ => {
            return Err(Error::user(format!("`range` takes one to four arguments, got {}", numbers.len()))
                .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
        }
    };
    Ok(proto::Range { start: Some(start), end, step, num_partitions: None })
}

fn expression_of_call(name: &str, arguments: &[proto::Expression]) -> proto::Expression {
    use proto::expression::{ExprType, UnresolvedFunction};
    let function = UnresolvedFunction {
        function_name: name.to_owned(),
        arguments: arguments.to_vec(),
        ..UnresolvedFunction::default()
    };
    proto::Expression { common: None, expr_type: Some(ExprType::UnresolvedFunction(function)) }
}

/// Options in a fixed order: the protocol's map has none.
fn sorted_options(options: &std::collections::HashMap<String, String>) -> ReadOptions {
    let mut pairs: Vec<_> = options.iter().collect();
    pairs.sort();
    pairs.into_iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
