//! Formats of lines of text: CSV, JSON and plain text, with Spark's options.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ExprSchema;
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::SessionContext;
use deltaworks_spark::cast::{CastMode, spark_cast};
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::session::conf_of;
use deltaworks_spark::{Error, Result};

/// How rows become lines.
pub(super) struct Lines {
    kind: Kind,
    names: Vec<String>,
}

enum Kind {
    /// One column of complete lines.
    Whole {
        extension: &'static str,
        separator: String,
    },
    Csv(Csv),
}

struct Csv {
    header: bool,
    delimiter: String,
    quote: char,
    escape: char,
    quote_all: bool,
    null: String,
    empty: String,
    separator: String,
}

impl Lines {
    /// The lines of a format over columns of `schema`.
    ///
    /// # Errors
    /// `User` if the format cannot hold the columns; `Unsupported` for options that change what is written
    /// and have no effect here.
    pub(super) fn new(format: &str, options: &ReadOptions, schema: &Arc<Schema>) -> Result<Self> {
        refuse_compression(options)?;
        let separator = options.get("lineSep").unwrap_or("\n").to_owned();
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let kind = match format {
            "csv" => Kind::Csv(Csv::new(options, separator)?),
            "json" => Kind::Whole { extension: "json", separator },
            _ => {
                if schema.fields().len() != 1 || schema.field(0).data_type() != &DataType::Utf8 {
                    return Err(Error::user("a text file has one column of type string")
                        .with_condition("UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE"));
                }
                Kind::Whole { extension: "txt", separator }
            }
        };
        Ok(Self { kind, names })
    }

    /// The ending of file names.
    pub(super) fn extension(&self) -> &'static str {
        match &self.kind {
            Kind::Whole { extension, .. } => extension,
            Kind::Csv(_) => "csv",
        }
    }

    /// The plan whose columns after the first `partitions` are texts to be written.
    pub(super) fn prepare(&self, ctx: &SessionContext, plan: LogicalPlan, partitions: usize) -> Result<LogicalPlan> {
        let columns = plan.schema().columns();
        let conf = conf_of(&ctx.state());
        let mut exprs: Vec<Expr> = columns[..partitions].iter().cloned().map(Expr::Column).collect();
        let data = &columns[partitions..];
        match &self.kind {
            Kind::Whole { extension: "json", .. } => {
                let mut fields = Vec::with_capacity(data.len() * 2);
                for column in data {
                    fields.extend([lit(column.name.as_str()), Expr::Column(column.clone())]);
                }
                let state = ctx.state();
                let call = |name: &str, args| -> Result<Expr> {
                    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(state.udf(name)?, args)))
                };
                exprs.push(call("to_json", vec![call("named_struct", fields)?])?.alias("value"));
            }
            _ => {
                for column in data {
                    let field = plan.schema().field_from_column(column)?;
                    let from = field.data_type().clone();
                    if from.is_nested() {
                        return Err(Error::user(format!("column `{}` cannot be written as CSV", column.name))
                            .with_condition("UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE"));
                    }
                    let value = Expr::Column(column.clone());
                    exprs
                        .push(spark_cast(value, &from, &DataType::Utf8, CastMode::Lenient, &conf)?.alias(&column.name));
                }
            }
        }
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    /// What stands at the start of a file.
    pub(super) fn start(&self, out: &mut impl Write) -> Result<()> {
        if let Kind::Csv(csv) = &self.kind
            && csv.header
        {
            let names: Vec<_> = self.names.iter().map(|name| csv.field(Some(name))).collect();
            write!(out, "{}{}", names.join(&csv.delimiter), csv.separator)?;
        }
        Ok(())
    }

    /// Writes prepared rows.
    pub(super) fn write(&self, batch: &RecordBatch, out: &mut impl Write) -> Result<()> {
        let columns: Vec<&StringArray> = batch.columns().iter().map(|column| column.as_string()).collect();
        let value = |column: &StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
        for row in 0..batch.num_rows() {
            match &self.kind {
                Kind::Whole { separator, .. } => {
                    let line = columns.first().and_then(|column| value(column, row)).unwrap_or_default();
                    write!(out, "{line}{separator}")?;
                }
                Kind::Csv(csv) => {
                    let fields: Vec<_> =
                        columns.iter().map(|column| csv.field(value(column, row).as_deref())).collect();
                    write!(out, "{}{}", fields.join(&csv.delimiter), csv.separator)?;
                }
            }
        }
        Ok(())
    }
}

fn refuse_compression(options: &ReadOptions) -> Result<()> {
    match options.get("compression").or_else(|| options.get("codec")) {
        None | Some("none" | "uncompressed") => Ok(()),
        Some(other) => Err(Error::unsupported(format!("writing text files with compression `{other}`"))
            .with_help("Leave the option `compression` out.")),
    }
}

impl Csv {
    fn new(options: &ReadOptions, separator: String) -> Result<Self> {
        let flag = |key: &str| options.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let character = |key: &str, default: char| match options.get(key) {
            None => Ok(default),
            Some(text) => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Ok(c),
                    (None, _) => Ok('\0'),
                    _ => Err(Error::user(format!("option `{key}` must be one character, got `{text}`"))),
                }
            }
        };
        Ok(Self {
            header: flag("header"),
            delimiter: options.get("sep").or_else(|| options.get("delimiter")).unwrap_or(",").to_owned(),
            quote: character("quote", '"')?,
            escape: character("escape", '\\')?,
            quote_all: flag("quoteAll"),
            null: options.get("nullValue").unwrap_or_default().to_owned(),
            empty: options.get("emptyValue").unwrap_or("\"\"").to_owned(),
            separator,
        })
    }

    fn field(&self, value: Option<&str>) -> String {
        let Some(value) = value else { return self.null.clone() };
        if value.is_empty() {
            return self.empty.clone();
        }
        let special = |c: char| c == self.quote || matches!(c, '\n' | '\r');
        let quoted = self.quote_all || value.contains(&self.delimiter) || value.contains(special);
        if !quoted {
            return value.to_owned();
        }
        let mut text = String::with_capacity(value.len() + 2);
        text.push(self.quote);
        for c in value.chars() {
            if c == self.quote || (c == self.escape && self.escape != '\0') {
                text.push(self.escape);
            }
            text.push(c);
        }
        text.push(self.quote);
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn csv_fields_are_quoted_where_needed() {
        let options = ReadOptions::from_iter([("nullValue", "NA")]);
        let csv = Csv::new(&options, "\n".to_owned()).unwrap();
        assert_eq!(csv.field(Some("plain")), "plain");
        assert_eq!(csv.field(Some("a,b")), "\"a,b\"");
        assert_eq!(csv.field(Some("a\"b")), "\"a\\\"b\"");
        assert_eq!(csv.field(Some("")), "\"\"");
        assert_eq!(csv.field(None), "NA");
    }
}
