//! `DataFrame.write.format("jdbc")`: what is to happen to the table, and the columns of one that is made.

use datafusion::dataframe::DataFrame;
use deltaworks_spark::catalog::SaveMode;
use deltaworks_spark::conf::SparkConf;
use deltaworks_spark::relation::ReadOptions;
use deltaworks_spark::types::{parse_schema, sql_type_name};
use deltaworks_spark::{Error, Result};

use arrow::datatypes::DataType;

use crate::dialect::Dialect;
use crate::options::{PathMapper, WriteJob};
use crate::values::{OutColumn, Outgoing};
use crate::{mysql, postgres, sqlite};

/// Runs a query and puts its rows into a table of a database, in one transaction: all of them, or none.
///
/// # Errors
/// `TABLE_OR_VIEW_ALREADY_EXISTS` (`User`) by the mode; wrong options, columns that the table has not, and what the database
/// refuses (`User`); rows that it does not take (`Data`); types without a counterpart (`Unsupported`).
pub async fn write(
    frame: DataFrame,
    options: &ReadOptions,
    mode: SaveMode,
    conf: &SparkConf,
    paths: &PathMapper,
) -> Result<()> {
    let job = WriteJob::parse(options, conf, paths)?;
    let rows = Outgoing::new(frame, job.connecting.target.dialect)?;
    match job.connecting.target.dialect {
        Dialect::Postgres => postgres::write(&job, mode, rows).await,
        Dialect::MySql => mysql::write(&job, mode, rows).await,
        Dialect::Sqlite => sqlite::write(job, mode, rows).await,
    }
}

/// What happens to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Nothing,
    /// Rows are added.
    Append,
    /// It is made.
    Create,
    /// Another one takes its place.
    Replace,
    /// It keeps its columns and loses its rows.
    Empty,
}

/// What a mode means for a table that exists, or does not.
///
/// # Errors
/// `TABLE_OR_VIEW_ALREADY_EXISTS` (`User`).
pub(crate) fn step(mode: SaveMode, exists: bool, job: &WriteJob) -> Result<Step> {
    match (mode, exists) {
        (_, false) => Ok(Step::Create),
        (SaveMode::Append, true) => Ok(Step::Append),
        (SaveMode::Overwrite, true) if job.truncate => Ok(Step::Empty),
        (SaveMode::Overwrite, true) => Ok(Step::Replace),
        (SaveMode::Ignore, true) => Ok(Step::Nothing),
        (SaveMode::ErrorIfExists, true) => {
            Err(Error::user(format!("table `{}` exists in the database at `{}`", job.table, job.connecting.target))
                .with_condition("TABLE_OR_VIEW_ALREADY_EXISTS")
                .with_parameter("relationName", job.table.clone())
                .with_help("Use mode(\"append\") or mode(\"overwrite\")."))
        }
    }
}

/// The columns of the table that take those of the rows, in their order.
///
/// # Errors
/// `User` if the table lacks one.
pub(crate) fn matched(columns: &[OutColumn], table: &[String], job: &WriteJob) -> Result<Vec<usize>> {
    let find = |name: &str| {
        let exact = table.iter().position(|known| known == name);
        exact.or_else(|| {
            let same = |known: &String| !job.case_sensitive && known.to_lowercase() == name.to_lowercase();
            table.iter().position(same)
        })
    };
    columns
        .iter()
        .map(|column| {
            find(&column.name).ok_or_else(|| {
                let names = table.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                Error::user(format!("table `{}` has no column `{}`", job.table, column.name))
                    .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
                    .with_help(format!("Its columns are {names}."))
            })
        })
        .collect()
}

/// The name of a table beside that of `job`, in quotes.
pub(crate) fn beside(job: &WriteJob) -> String {
    let dialect = job.connecting.target.dialect;
    let own = dialect.quote(&format!("deltaworks_{}", uuid::Uuid::new_v4().simple()));
    let parts = job.name.len() - 1;
    let parent: String = job.name[..parts].iter().map(|part| format!("{}.", dialect.quote(part))).collect();
    format!("{parent}{own}")
}

/// The statement that makes a table of this name for the columns.
///
/// # Errors
/// `User` for wrong `createTableColumnTypes`; `Unsupported` for types without a counterpart.
pub(crate) fn create_table(name: &str, columns: &[OutColumn], job: &WriteJob) -> Result<String> {
    let dialect = job.connecting.target.dialect;
    let given = match &job.create_types {
        Some(text) => given_types(text, columns)?,
        None => Vec::new(),
    };
    let mut definitions = Vec::with_capacity(columns.len());
    for column in columns {
        let data_type = match given.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name)) {
            Some((_, data_type)) => data_type.clone(),
            None => type_name(&column.data_type, dialect)?,
        };
        let null = match (column.nullable, dialect) {
            (false, _) => " NOT NULL",
            // MySQL's first timestamp may else be the time of the insertion.
            (true, Dialect::MySql) if matches!(column.data_type, DataType::Timestamp(..)) => " NULL",
            (true, _) => "",
        };
        definitions.push(format!("{} {data_type}{null}", dialect.quote(&column.name)));
    }
    Ok(format!("CREATE TABLE {name} ({}){}", definitions.join(", "), job.create_options))
}

/// `name CHAR(64), comments VARCHAR(1024)`: types of columns, as the database is to have them.
fn given_types(text: &str, columns: &[OutColumn]) -> Result<Vec<(String, String)>> {
    let wrong = |error: Error| error.context("in option `createTableColumnTypes`");
    let schema = parse_schema(text).map_err(wrong)?;
    let mut types = Vec::new();
    for (field, definition) in schema.fields().iter().zip(split_definitions(text)) {
        if !columns.iter().any(|column| column.name.eq_ignore_ascii_case(field.name())) {
            return Err(Error::user(format!(
                "option `createTableColumnTypes` names `{}`, which is no column of the rows",
                field.name()
            ))
            .with_condition("INVALID_PARAMETER_VALUE"));
        }
        types.push((field.name().clone(), definition));
    }
    Ok(types)
}

/// The types of `a INT, b DECIMAL(10, 2)`.
fn split_definitions(text: &str) -> Vec<String> {
    let mut depth = 0;
    let parts = text.split(|c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    });
    parts
        .map(|part| {
            let part = part.trim();
            let name_ends = match part.strip_prefix('`').and_then(|rest| rest.find('`')) {
                Some(at) => at + 2,
                None => part.find(char::is_whitespace).unwrap_or(part.len()),
            };
            part[name_ends..].trim().to_owned()
        })
        .collect()
}

/// The type that a table gets for a column.
fn type_name(data_type: &DataType, dialect: Dialect) -> Result<String> {
    use Dialect::{MySql, Postgres, Sqlite};
    let name = match (data_type, dialect) {
        (DataType::Boolean, MySql) => "BIT(1)",
        (DataType::Boolean, _) => "BOOLEAN",
        (DataType::Int8, Postgres) => "SMALLINT",
        (DataType::Int8, _) => "TINYINT",
        (DataType::Int16, _) => "SMALLINT",
        // To SQLite an INTEGER may be as large as a BIGINT.
        (DataType::Int32, Sqlite) => "INT",
        (DataType::Int32, _) => "INTEGER",
        (DataType::Int64, _) => "BIGINT",
        (DataType::Float32, Postgres) => "FLOAT4",
        (DataType::Float32, MySql) => "FLOAT",
        (DataType::Float32, Sqlite) => "REAL",
        (DataType::Float64, Postgres) => "FLOAT8",
        (DataType::Float64, _) => "DOUBLE PRECISION",
        // SQLite keeps some fifteen digits of a number, and all of a text.
        (DataType::Decimal128(precision @ 16.., scale), Sqlite) => {
            return Ok(format!("DECIMAL_TEXT({precision},{scale})"));
        }
        (DataType::Decimal128(precision, scale), Postgres) => return Ok(format!("NUMERIC({precision},{scale})")),
        (DataType::Decimal128(precision, scale), _) => return Ok(format!("DECIMAL({precision},{scale})")),
        (DataType::Utf8, MySql) => "LONGTEXT",
        (DataType::Utf8, _) => "TEXT",
        (DataType::Binary, Postgres) => "BYTEA",
        (DataType::Binary, MySql) => "LONGBLOB",
        (DataType::Binary, Sqlite) => "BLOB",
        (DataType::Date32, _) => "DATE",
        (DataType::Timestamp(_, Some(_)), Postgres) => "TIMESTAMP WITH TIME ZONE",
        (DataType::Timestamp(_, Some(_)), MySql) => "TIMESTAMP(6)",
        (DataType::Timestamp(_, None), MySql) => "DATETIME(6)",
        (DataType::Timestamp(_, None), Sqlite) => "DATETIME",
        (DataType::Timestamp(..), _) => "TIMESTAMP",
        (DataType::List(element), Postgres) => return Ok(format!("{}[]", type_name(element.data_type(), dialect)?)),
        (other, _) => {
            return Err(Error::unsupported(format!("a column of type {} in a database", sql_type_name(other))));
        }
    };
    Ok(name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn job(url: &str, more: &[(&str, &str)]) -> WriteJob {
        let mut options: ReadOptions = [("url", url), ("dbtable", "s.\"T\"")].into_iter().collect();
        more.iter().for_each(|(key, value)| options.set(*key, *value));
        let paths: PathMapper = Arc::new(|path| Ok(path.to_owned()));
        WriteJob::parse(&options, &SparkConf::pipeline_defaults(), &paths).unwrap()
    }

    fn columns() -> Vec<OutColumn> {
        let column = |name: &str, data_type, nullable| OutColumn { name: name.to_owned(), data_type, nullable };
        vec![
            column("id", DataType::Int32, false),
            column("Na\"me", DataType::Utf8, true),
            column("price", DataType::Decimal128(20, 2), true),
            column("at", deltaworks_spark::types::timestamp(), true),
        ]
    }

    #[test]
    fn modes_and_tables() {
        let check = |mode, exists, truncate: &str, expected| {
            let job = job("jdbc:postgresql://h/d", &[("truncate", truncate)]);
            assert_eq!(step(mode, exists, &job).ok(), expected);
        };
        check(SaveMode::Append, false, "false", Some(Step::Create));
        check(SaveMode::Append, true, "true", Some(Step::Append));
        check(SaveMode::Overwrite, true, "false", Some(Step::Replace));
        check(SaveMode::Overwrite, true, "true", Some(Step::Empty));
        check(SaveMode::Ignore, true, "false", Some(Step::Nothing));
        check(SaveMode::ErrorIfExists, true, "false", None);
    }

    #[test]
    fn statements_that_make_tables() {
        let check = |url: &str, more: &[(&str, &str)], expected: &str| {
            assert_eq!(create_table("t", &columns(), &job(url, more)).unwrap(), expected);
        };
        check(
            "jdbc:postgresql://h/d",
            &[("createTableOptions", "TABLESPACE x")],
            "CREATE TABLE t (\"id\" INTEGER NOT NULL, \"Na\"\"me\" TEXT, \"price\" NUMERIC(20,2), \"at\" TIMESTAMP WITH TIME ZONE) TABLESPACE x",
        );
        check(
            "jdbc:mysql://h/d",
            &[("createTableColumnTypes", "ID BIGINT, price DECIMAL(30, 4)")],
            "CREATE TABLE t (`id` BIGINT NOT NULL, `Na\"me` LONGTEXT, `price` DECIMAL(30, 4), `at` TIMESTAMP(6) NULL)",
        );
        check(
            "jdbc:sqlite:/x.db",
            &[],
            "CREATE TABLE t (\"id\" INT NOT NULL, \"Na\"\"me\" TEXT, \"price\" DECIMAL_TEXT(20,2), \"at\" TIMESTAMP)",
        );
        let wrong = job("jdbc:mysql://h/d", &[("createTableColumnTypes", "nobody INT")]);
        let error = create_table("t", &columns(), &wrong).unwrap_err();
        assert_eq!(error.message(), "option `createTableColumnTypes` names `nobody`, which is no column of the rows");
    }

    #[test]
    fn columns_are_matched_by_name_in_any_case() {
        let table: Vec<String> = ["AT", "price", "ID", "na\"ME", "other"].map(str::to_owned).into();
        let job = job("jdbc:postgresql://h/d", &[]);
        assert_eq!(matched(&columns(), &table, &job).unwrap(), [2, 3, 1, 0]);
        let error = matched(&columns(), &table[1..], &job).unwrap_err();
        assert_eq!(error.message(), "table `s.\"T\"` has no column `at`");
    }

    #[test]
    fn tables_beside_another_are_in_its_schema() {
        assert!(beside(&job("jdbc:postgresql://h/d", &[])).starts_with("\"s\".\"deltaworks_"));
    }
}
