//! Types as Spark's DDL text (`STRUCT<a: BIGINT, b: ARRAY<STRING>>`): for schema hints and stored schemas.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use deltaworks_spark::{Error, Result};

/// A column of a list: its path (`a.b` has two parts) and type.
pub(crate) type HintedColumn = (Vec<String>, DataType);

/// Parses `a.b DOUBLE, tags MAP<STRING, STRING>`.
pub(crate) fn parse_columns(text: &str) -> Result<Vec<HintedColumn>> {
    let mut parser = Parser::new(text);
    let mut columns = Vec::new();
    while !parser.at_end() {
        let mut path = vec![parser.identifier()?];
        while parser.take(".") {
            path.push(parser.identifier()?);
        }
        parser.take(":");
        columns.push((path, parser.data_type()?));
        parser.skip_constraints();
        if !parser.take(",") && !parser.at_end() {
            return Err(parser.error("`,`"));
        }
    }
    Ok(columns)
}

/// Parses one type.
pub(crate) fn parse_type(text: &str) -> Result<DataType> {
    let mut parser = Parser::new(text);
    let data_type = parser.data_type()?;
    if parser.at_end() { Ok(data_type) } else { Err(parser.error("the end")) }
}

/// Formats a type so that [`parse_type`] reads it.
pub(crate) fn format_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision},{scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ".to_owned(),
        DataType::Binary => "BINARY".to_owned(),
        DataType::Null => "VOID".to_owned(),
        DataType::List(item) => format!("ARRAY<{}>", format_type(item.data_type())),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("MAP<{}, {}>", format_type(fields[0].data_type()), format_type(fields[1].data_type()))
            }
            _ => "MAP<STRING, STRING>".to_owned(),
        },
        DataType::Struct(fields) => {
            let inner: Vec<_> = fields
                .iter()
                .map(|field| format!("`{}`: {}", field.name().replace('`', "``"), format_type(field.data_type())))
                .collect();
            format!("STRUCT<{}>", inner.join(", "))
        }
        _ => "STRING".to_owned(),
    }
}

/// The type of Spark's TIMESTAMP.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The map type of these keys and values.
pub(crate) fn map_type(key: DataType, value: DataType) -> DataType {
    let fields = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

/// The list type of this element.
pub(crate) fn list_type(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.position..];
        let trimmed = rest.trim_start();
        self.position += rest.len() - trimmed.len();
        trimmed
    }

    fn at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    fn take(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.position += symbol.len();
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.error(&format!("`{symbol}`"))) }
    }

    fn error(&mut self, expected: &str) -> Error {
        let at = self.rest().chars().take(20).collect::<String>();
        Error::user(format!("cannot parse schema `{}`: expected {expected} at `{at}`", self.text))
            .with_condition("PARSE_SYNTAX_ERROR")
    }

    fn identifier(&mut self) -> Result<String> {
        let rest = self.rest();
        if let Some(quoted) = rest.strip_prefix('`') {
            let mut name = String::new();
            let mut chars = quoted.char_indices().peekable();
            while let Some((offset, c)) = chars.next() {
                if c != '`' {
                    name.push(c);
                } else if chars.peek().is_some_and(|(_, next)| *next == '`') {
                    chars.next();
                    name.push('`');
                } else {
                    self.position += offset + 2;
                    return Ok(name);
                }
            }
            return Err(self.error("a closing backtick"));
        }
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.error("a name"));
        }
        self.position += length;
        Ok(rest[..length].to_owned())
    }

    fn number(&mut self) -> Result<i64> {
        let rest = self.rest();
        let length = rest.find(|c: char| !(c.is_ascii_digit() || c == '-')).unwrap_or(rest.len());
        let number = rest[..length].parse().map_err(|_| self.error("a number"))?;
        self.position += length;
        Ok(number)
    }

    fn data_type(&mut self) -> Result<DataType> {
        let name = self.identifier()?.to_ascii_lowercase();
        Ok(match name.as_str() {
            "boolean" | "bool" => DataType::Boolean,
            "tinyint" | "byte" => DataType::Int8,
            "smallint" | "short" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" | "long" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => DataType::Float64,
            "decimal" | "dec" | "numeric" => self.decimal()?,
            "string" => DataType::Utf8,
            "varchar" | "char" | "character" => {
                self.expect("(")?;
                self.number()?;
                self.expect(")")?;
                DataType::Utf8
            }
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" | "timestamp_ltz" => timestamp_type(),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "void" => DataType::Null,
            "array" => {
                self.expect("<")?;
                let item = self.data_type()?;
                self.expect(">")?;
                list_type(item)
            }
            "map" => {
                self.expect("<")?;
                let key = self.data_type()?;
                self.expect(",")?;
                let value = self.data_type()?;
                self.expect(">")?;
                map_type(key, value)
            }
            "struct" => self.structure()?,
            _ => {
                return Err(Error::user(format!("unknown data type `{name}` in schema `{}`", self.text))
                    .with_condition("UNSUPPORTED_DATATYPE"));
            }
        })
    }

    fn decimal(&mut self) -> Result<DataType> {
        let (mut precision, mut scale) = (10, 0);
        if self.take("(") {
            precision = self.number()?;
            if self.take(",") {
                scale = self.number()?;
            }
            self.expect(")")?;
        }
        match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(p @ 1..=38), Ok(s)) if s >= 0 && s as u8 <= p => Ok(DataType::Decimal128(p, s)),
            _ => Err(self.error("a precision from 1 to 38 and a scale not above it")),
        }
    }

    fn structure(&mut self) -> Result<DataType> {
        self.expect("<")?;
        let mut fields = Vec::new();
        while !self.take(">") {
            let name = self.identifier()?;
            self.take(":");
            fields.push(Field::new(name, self.data_type()?, true));
            self.skip_constraints();
            if !self.take(",") {
                self.expect(">")?;
                break;
            }
        }
        Ok(DataType::Struct(fields.into()))
    }

    /// `NOT NULL` and `COMMENT '…'` say nothing about how files are read.
    fn skip_constraints(&mut self) {
        let rest = self.rest();
        if rest.get(..8).is_some_and(|head| head.eq_ignore_ascii_case("not null")) {
            self.position += 8;
        }
        let rest = self.rest();
        if rest.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("comment")) {
            let quoted = rest[7..].trim_start();
            let skipped = rest.len() - quoted.len();
            if let Some(end) = quoted.get(1..).and_then(|text| text.find(['\'', '"'])) {
                self.position += skipped + end + 2;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn types_survive_a_round_trip() {
        for text in [
            "BIGINT",
            "DECIMAL(10,2)",
            "ARRAY<STRUCT<`a b`: INT, `c`: MAP<STRING, DOUBLE>>>",
            "TIMESTAMP",
            "TIMESTAMP_NTZ",
        ] {
            assert_eq!(format_type(&parse_type(text).unwrap()), text);
        }
    }

    #[test]
    fn hints_have_paths() {
        let columns = parse_columns("a.b DOUBLE, tags map<string,string>, `x y` int NOT NULL COMMENT 'n, m'").unwrap();
        let names: Vec<_> = columns.iter().map(|(path, _)| path.join("/")).collect();
        assert_eq!(names, ["a/b", "tags", "x y"]);
        assert!(parse_columns("a nothing").unwrap_err().message().contains("unknown data type `nothing`"));
        assert!(parse_columns("a int b int").is_err());
    }
}
