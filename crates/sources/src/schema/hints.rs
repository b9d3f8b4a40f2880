//! Schema hints: types the user knows better than inference.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use deltaworks_spark::{Error, Result, types};

/// A hinted column: its path (`a.b` has two parts) and type.
type HintedColumn = (Vec<String>, DataType);

/// Replaces the types of hinted columns and adds those that are missing.
///
/// `a.b` is field `b` of struct `a`; `a.element` the element of an array; `a.value` the value of a map.
pub(crate) fn apply_hints(schema: Schema, hints: &str) -> Result<Schema> {
    let mut fields = schema.fields;
    for hint in parse_columns(hints)? {
        fields = hinted(&fields, &hint);
    }
    Ok(Schema::new(fields))
}

/// The columns that hints reach into: `a` of `a.b INT`.
pub(crate) fn reached_into(hints: &str) -> Result<Vec<String>> {
    let columns = parse_columns(hints)?;
    Ok(columns.into_iter().filter(|(path, _)| path.len() > 1).filter_map(|(path, _)| path.into_iter().next()).collect())
}

fn hinted(fields: &Fields, (path, data_type): &HintedColumn) -> Fields {
    let Some((name, rest)) = path.split_first() else { return fields.clone() };
    let mut fields: Vec<_> = fields.iter().cloned().collect();
    let known = fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    let hint = (rest.to_vec(), data_type.clone());
    match known {
        Some(index) => {
            let new = hinted_type(fields[index].data_type(), &hint);
            fields[index] = Arc::new(Field::new(fields[index].name(), new, true));
        }
        None => fields.push(Arc::new(Field::new(name, hinted_type(&DataType::Null, &hint), true))),
    }
    fields.into()
}

fn hinted_type(current: &DataType, hint: &HintedColumn) -> DataType {
    let (path, data_type) = hint;
    let Some((first, rest)) = path.split_first() else { return data_type.clone() };
    let deeper = || (rest.to_vec(), data_type.clone());
    match current {
        DataType::Struct(fields) => DataType::Struct(hinted(fields, hint)),
        DataType::List(item) if first == "element" => types::array(hinted_type(item.data_type(), &deeper())),
        DataType::Map(entries, _) if first == "value" || first == "key" => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let (key, value) = (pair[0].data_type(), pair[1].data_type());
                match first.as_str() {
                    "key" => types::map(hinted_type(key, &deeper()), value.clone()),
                    _ => types::map(key.clone(), hinted_type(value, &deeper())),
                }
            }
            _ => current.clone(),
        },
        _ => DataType::Struct(hinted(&Fields::empty(), hint)),
    }
}

/// Parses `a.b DOUBLE, tags MAP<STRING, STRING> COMMENT 'x'`.
fn parse_columns(hints: &str) -> Result<Vec<HintedColumn>> {
    let parts = split_columns(hints);
    parts.into_iter().filter(|part| !part.trim().is_empty()).map(parse_column).collect()
}

/// Cuts a list of columns at the commas that separate columns.
fn split_columns(hints: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, c) in hints.char_indices() {
        match (quote, c) {
            (Some(open), _) => quote = (c != open).then_some(open),
            (None, '`' | '\'' | '"') => quote = Some(c),
            (None, '<' | '(') => depth += 1,
            (None, '>' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                parts.push(&hints[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&hints[start..]);
    parts
}

/// Parses one column: its path up to the last dot, the rest as a column of a schema.
fn parse_column(hint: &str) -> Result<HintedColumn> {
    let mut path = Vec::new();
    let mut rest = hint.trim();
    while let Some((name, tail)) = split_path(rest) {
        path.push(name);
        rest = tail;
    }
    match types::parse_schema(rest)?.fields.as_ref() {
        [field] => {
            path.push(field.name().clone());
            Ok((path, field.data_type().clone()))
        }
        _ => Err(Error::user(format!("`{hint}` is not a schema hint"))
            .with_condition("PARSE_SYNTAX_ERROR")
            .with_help("Write hints as `column TYPE`, separated by commas; `a.b TYPE` for a field of a struct.")),
    }
}

/// The first name of a path and what follows its dot; `None` for the last name.
fn split_path(text: &str) -> Option<(String, &str)> {
    let end = match text.strip_prefix('`') {
        Some(quoted) => quoted.find('`')? + 2,
        None => text.find(|c: char| !(c.is_alphanumeric() || c == '_'))?,
    };
    let (name, rest) = text.split_at(end);
    Some((name.trim_matches('`').to_owned(), rest.strip_prefix('.')?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use deltaworks_spark::types::sql_type_name;

    #[test]
    fn hints_have_paths() {
        let columns =
            parse_columns("a.b DOUBLE, tags map<string,string>, `x y`.z int NOT NULL COMMENT 'n, m'").unwrap();
        let names: Vec<_> = columns.iter().map(|(path, _)| path.join("/")).collect();
        assert_eq!(names, ["a/b", "tags", "x y/z"]);
        assert_eq!(parse_columns("a nothing").unwrap_err().condition(), Some("UNSUPPORTED_DATATYPE"));
        assert!(parse_columns("a int b int").is_err());
    }

    #[test]
    fn hints_replace_nest_and_add() {
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("s", DataType::Utf8, true)]);
        let hinted = apply_hints(schema, "A INT, s.x DOUBLE, new.y.z DATE").unwrap();
        let shown: Vec<_> = hinted
            .fields
            .iter()
            .map(|field| format!("{} {}", field.name(), sql_type_name(field.data_type())))
            .collect();
        assert_eq!(shown, ["a INT", "s STRUCT<x: DOUBLE>", "new STRUCT<y: STRUCT<z: DATE>>"]);
    }
}
