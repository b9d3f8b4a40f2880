//! `spark.read.json` and `spark.read.csv` over rows of text instead of files.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use serde::de::IgnoredAny;

use super::context::Planner;
use super::proto::{self, parse::ParseFormat};
use super::scope::{Output, Scope};
use super::{faces, types};
use crate::error::{Error, Result};
use crate::json::{InferOptions, infer};
use crate::streaming::is_streaming;

/// Where rows of JSON that cannot be read go, if a schema that was inferred has to have a place for them.
const CORRUPT_RECORD: &str = "_corrupt_record";

impl Planner<'_> {
    /// A row per text, of the columns of a schema that is given or, for JSON, inferred from all texts.
    pub(super) async fn parse(&self, parse: &proto::Parse) -> Result<Scope> {
        let scope = self.input(&parse.input).await?;
        let text = text_column(&scope)?;
        let trimmed = faces::call(self, "trim", vec![text.clone()], false, scope.schema())?;
        let present = trimmed.not_eq(lit(""));
        let scope = scope.clone().with_plan(LogicalPlanBuilder::from(scope.plan).filter(present)?.build()?);
        let (function, schema) = match parse.format() {
            ParseFormat::Json => ("from_json", self.json_schema(&scope, &text, parse).await?),
            ParseFormat::Csv => ("from_csv", declared(parse)?.ok_or_else(csv_without_schema)?),
            ParseFormat::Xml | ParseFormat::Unspecified => {
                return Err(Error::unsupported("`spark.read` of XML in a DataFrame"));
            }
        };
        let mut arguments = vec![text, lit(faces::ddl(&schema))];
        if !parse.options.is_empty() {
            let options = parse.options.iter().flat_map(|(name, value)| [lit(name.as_str()), lit(value.as_str())]);
            arguments.push(faces::call(self, "map", options.collect(), false, scope.schema())?);
        }
        let row = faces::call(self, function, arguments, false, scope.schema())?;
        let parsed = scope.project(vec![Output::computed(row, self.names.unique("row"))], &self.names)?;
        let [row] = parsed.columns.as_slice() else { return Err(Error::internal("parsed rows of several columns")) };
        let field = |field: &std::sync::Arc<Field>| {
            Ok(Output::computed(faces::get_field(self, row.expr(), field.name())?, field.name()))
        };
        let outputs = schema.fields().iter().map(field).collect::<Result<_>>()?;
        parsed.project(outputs, &self.names)
    }

    async fn json_schema(&self, scope: &Scope, text: &Expr, parse: &proto::Parse) -> Result<Schema> {
        if let Some(schema) = declared(parse)? {
            return Ok(schema);
        }
        if is_streaming(&scope.plan) {
            return Err(Error::user("the schema of JSON in a stream cannot be inferred")
                .with_help("Give it: spark.read.schema(…).json(…)."));
        }
        let plan = LogicalPlanBuilder::from(scope.plan.clone()).project(vec![text.clone().alias("text")])?.build()?;
        let mut texts = Vec::new();
        for batch in DataFrame::new(self.state.as_ref().clone(), plan).collect().await? {
            texts.push(arrow::compute::cast(batch.column(0), &DataType::Utf8)?);
        }
        let rows = || texts.iter().flat_map(|array| array.as_string::<i32>().iter().flatten());
        let option = |wanted: &str| {
            let found = parse.options.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"))
        };
        let options = InferOptions { primitives_as_string: option("primitivesAsString"), ..InferOptions::default() };
        let mut fields: Vec<Field> =
            infer(rows().map(str::as_bytes), options).fields().iter().map(|field| field.as_ref().clone()).collect();
        if rows().any(|row| serde_json::from_str::<IgnoredAny>(row).is_err()) {
            fields.insert(0, Field::new(CORRUPT_RECORD, DataType::Utf8, true));
        }
        Ok(Schema::new(fields))
    }
}

/// The only column, which is text.
fn text_column(scope: &Scope) -> Result<Expr> {
    let mut visible = scope.visible();
    match (visible.next(), visible.next()) {
        (Some(only), None) if faces::canonical(&scope.data_type(only)?) == DataType::Utf8 => Ok(only.expr()),
        _ => Err(Error::user("only a DataFrame with one column of text can be parsed")
            .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE")
            .with_help("Select the column that has the text.")),
    }
}

fn declared(parse: &proto::Parse) -> Result<Option<Schema>> {
    match parse.schema.as_ref().map(types::to_arrow).transpose()? {
        None => Ok(None),
        Some(DataType::Struct(fields)) => Ok(Some(Schema::new(fields))),
        Some(other) => Err(Error::user(format!("the schema of rows is a struct, not `{}`", faces::type_name(&other)))
            .with_condition("INVALID_SCHEMA.NON_STRUCT_TYPE")),
    }
}

fn csv_without_schema() -> Error {
    Error::unsupported("`spark.read.csv` of a DataFrame without a schema")
        .with_help("Give it: spark.read.schema(\"a INT, b STRING\").csv(…).")
}
