//! Formats of lines of text: CSV, JSON and plain text, with Spark's options.

use std::io::Write;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion::common::ExprSchema;
use datafusion::execution::FunctionRegistry as _;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::prelude::SessionContext;
use deltaworks_spark::cast::{CastMode, spark_cast};
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::session::conf_of;
use deltaworks_spark::{Error, Result};

/// How times are written unless options say otherwise: with the zone that they are shown in, if they are instants.
const TIMESTAMP: &str = "yyyy-MM-dd'T'HH:mm:ss.SSSXXX";
const TIMESTAMP_NTZ: &str = "yyyy-MM-dd'T'HH:mm:ss.SSS";

/// How rows become lines.
#[derive(Debug)]
pub(super) struct Lines {
    kind: Kind,
    names: Vec<String>,
    separator: String,
}

#[derive(Debug)]
enum Kind {
    Json(Vec<(&'static str, String)>),
    Text,
    Csv(Box<Csv>),
}

#[derive(Debug)]
struct Csv {
    header: bool,
    delimiter: String,
    quote: char,
    escape: char,
    quote_all: bool,
    /// Whether a value with a quote in it is quoted.
    escape_quotes: bool,
    trim_start: bool,
    trim_end: bool,
    null: String,
    empty: String,
    date: Option<String>,
    timestamp: String,
    timestamp_ntz: String,
}

impl Lines {
    /// The lines of a format over columns of `schema`.
    ///
    /// # Errors
    /// `User` if the format cannot hold the columns, or an option has no such value; `Unsupported` for options that change
    /// what is written and have no effect here.
    pub(super) fn new(format: &str, options: &ReadOptions, schema: &Schema) -> Result<Self> {
        refuse_encoding(options)?;
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let kind = match format {
            "csv" => {
                refuse_nested(schema)?;
                Kind::Csv(Box::new(Csv::new(options)?))
            }
            "json" => Kind::Json(json_options(options)),
            _ => {
                if schema.fields().len() != 1 || schema.field(0).data_type() != &DataType::Utf8 {
                    return Err(Error::user("a text file has one column of type string")
                        .with_condition("UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE")
                        .with_help("Select one column, and cast it to STRING."));
                }
                Kind::Text
            }
        };
        Ok(Self { kind, names, separator: options.get("lineSep").unwrap_or("\n").to_owned() })
    }

    /// The ending of file names.
    pub(super) fn extension(&self) -> &'static str {
        match &self.kind {
            Kind::Json(_) => "json",
            Kind::Text => "txt",
            Kind::Csv(_) => "csv",
        }
    }

    /// The plan whose columns after the first `partitions` are texts to be written.
    pub(super) fn prepare(&self, ctx: &SessionContext, plan: LogicalPlan, partitions: usize) -> Result<LogicalPlan> {
        let columns = plan.schema().columns();
        let (state, conf) = (ctx.state(), conf_of(&ctx.state()));
        let mut exprs: Vec<Expr> = columns[..partitions].iter().cloned().map(Expr::Column).collect();
        let data = &columns[partitions..];
        match &self.kind {
            Kind::Json(options) => {
                let mut fields = Vec::with_capacity(data.len() * 2);
                for column in data {
                    fields.extend([lit(column.name.as_str()), Expr::Column(column.clone())]);
                }
                let mut arguments = vec![call(&state, "named_struct", fields)?];
                if !options.is_empty() {
                    let options = options.iter().flat_map(|(key, value)| [lit(*key), lit(value.as_str())]).collect();
                    arguments.push(call(&state, "map", options)?);
                }
                exprs.push(call(&state, "to_json", arguments)?.alias("value"));
            }
            Kind::Text => exprs.extend(data.iter().cloned().map(Expr::Column)),
            Kind::Csv(csv) => {
                for column in data {
                    let from = plan.schema().field_from_column(column)?.data_type().clone();
                    let value = Expr::Column(column.clone());
                    let text = match csv.pattern(&from) {
                        Some(pattern) => call(&state, "date_format", vec![value, lit(pattern)])?,
                        None => spark_cast(value, &from, &DataType::Utf8, CastMode::Lenient, &conf)?,
                    };
                    exprs.push(text.alias(&column.name));
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
            write!(out, "{}{}", names.join(&csv.delimiter), self.separator)?;
        }
        Ok(())
    }

    /// Writes prepared rows.
    pub(super) fn write(&self, batch: &RecordBatch, out: &mut impl Write) -> Result<()> {
        let columns: Vec<&StringArray> = batch.columns().iter().map(|column| column.as_string()).collect();
        let value = |column: &&StringArray, row: usize| column.is_valid(row).then(|| column.value(row).to_owned());
        for row in 0..batch.num_rows() {
            match &self.kind {
                Kind::Json(_) | Kind::Text => {
                    let line = columns.first().and_then(|column| value(column, row)).unwrap_or_default();
                    write!(out, "{line}{}", self.separator)?;
                }
                Kind::Csv(csv) => {
                    let fields: Vec<_> =
                        columns.iter().map(|column| csv.field(value(column, row).as_deref())).collect();
                    write!(out, "{}{}", fields.join(&csv.delimiter), self.separator)?;
                }
            }
        }
        Ok(())
    }
}

fn call(state: &SessionState, name: &str, arguments: Vec<Expr>) -> Result<Expr> {
    Ok(Expr::ScalarFunction(ScalarFunction::new_udf(state.udf(name)?, arguments)))
}

/// The options that `to_json` takes, too.
fn json_options(options: &ReadOptions) -> Vec<(&'static str, String)> {
    let known = ["dateFormat", "timestampFormat", "ignoreNullFields"];
    known.into_iter().filter_map(|key| Some((key, options.get(key)?.to_owned()))).collect()
}

fn refuse_nested(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(field) => Err(Error::user(format!("column `{}` cannot be written as CSV", field.name()))
            .with_condition("UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE")
            .with_help("Write it as text: to_json(column).")),
    }
}

fn refuse_encoding(options: &ReadOptions) -> Result<()> {
    match options.get("encoding").or_else(|| options.get("charset")) {
        Some(name) if !["utf-8", "utf8"].iter().any(|known| known.eq_ignore_ascii_case(name)) => {
            Err(Error::unsupported(format!("writing text files with encoding `{name}`")).with_help("Use UTF-8."))
        }
        _ => Ok(()),
    }
}

impl Csv {
    fn new(options: &ReadOptions) -> Result<Self> {
        let flag = |key: &str, default: bool| match options.get(key) {
            None => Ok(default),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) => Err(Error::user(format!("option `{key}` must be true or false, got `{value}`"))),
        };
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
        let text = |key: &str, default: &str| options.get(key).unwrap_or(default).to_owned();
        Ok(Self {
            header: flag("header", false)?,
            delimiter: options.get("sep").or_else(|| options.get("delimiter")).unwrap_or(",").replace("\\t", "\t"),
            quote: character("quote", '"')?,
            escape: character("escape", '\\')?,
            quote_all: flag("quoteAll", false)?,
            escape_quotes: flag("escapeQuotes", true)?,
            trim_start: flag("ignoreLeadingWhiteSpace", true)?,
            trim_end: flag("ignoreTrailingWhiteSpace", true)?,
            null: text("nullValue", ""),
            empty: text("emptyValue", "\"\""),
            date: options.get("dateFormat").map(str::to_owned),
            timestamp: text("timestampFormat", TIMESTAMP),
            timestamp_ntz: text("timestampNTZFormat", TIMESTAMP_NTZ),
        })
    }

    /// How values of a type are written, if not as a cast would.
    fn pattern(&self, of: &DataType) -> Option<&str> {
        match of {
            DataType::Date32 => self.date.as_deref(),
            DataType::Timestamp(_, Some(_)) => Some(&self.timestamp),
            DataType::Timestamp(_, None) => Some(&self.timestamp_ntz),
            _ => None,
        }
    }

    fn field(&self, value: Option<&str>) -> String {
        let Some(value) = value else { return self.quoted_if_all(&self.null) };
        if value.is_empty() {
            return self.quoted_if_all(&self.empty);
        }
        let value = if self.trim_start { value.trim_start() } else { value };
        let value = if self.trim_end { value.trim_end() } else { value };
        let special = |c: char| matches!(c, '\n' | '\r') || (self.escape_quotes && c == self.quote);
        match self.quote_all || value.contains(&self.delimiter) || value.contains(special) {
            true => self.quoted(value),
            false => value.to_owned(),
        }
    }

    fn quoted_if_all(&self, value: &str) -> String {
        let is_quoted = value.len() >= 2 && value.starts_with(self.quote) && value.ends_with(self.quote);
        if self.quote_all && !is_quoted { self.quoted(value) } else { value.to_owned() }
    }

    fn quoted(&self, value: &str) -> String {
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

    fn fields(options: &[(&str, &str)], values: &[Option<&str>]) -> String {
        let csv = Csv::new(&options.iter().copied().collect()).unwrap();
        let fields: Vec<String> = values.iter().map(|value| csv.field(*value)).collect();
        fields.join(&csv.delimiter)
    }

    /// As Spark 4.2 writes them.
    #[test]
    fn csv_fields_are_quoted_where_needed() {
        let values = [Some("a,b"), None, Some(""), Some(" pad "), Some("q\"uo"), Some("back\\sl")];
        assert_eq!(fields(&[], &values), r#""a,b",,"",pad,"q\"uo",back\sl"#);
        let given =
            [("quoteAll", "true"), ("nullValue", "NA"), ("emptyValue", "E"), ("ignoreLeadingWhiteSpace", "false")];
        assert_eq!(fields(&given, &values), r#""a,b","NA","E"," pad","q\"uo","back\\sl""#);
        assert_eq!(fields(&[("escape", "\""), ("sep", "|")], &values[4..]), r#""q""uo"|back\sl"#);
        assert_eq!(fields(&[("escapeQuotes", "false")], &values[4..]), r#"q"uo,back\sl"#);
    }

    #[test]
    fn what_has_no_effect_is_refused() {
        let schema = Schema::empty();
        let given = |key: &str, value: &str| Lines::new("csv", &ReadOptions::from_iter([(key, value)]), &schema);
        assert!(given("encoding", "UTF-16").unwrap_err().to_string().contains("encoding `UTF-16`"));
        assert!(given("header", "yes").unwrap_err().to_string().contains("must be true or false"));
        assert!(given("encoding", "utf-8").is_ok());
    }
}
