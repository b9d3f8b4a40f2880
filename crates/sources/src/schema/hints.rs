//! Schema hints: types the user knows better than inference.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};
use deltaworks_spark::Result;

use super::ddl::{HintedColumn, list_type, map_type, parse_columns};

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
        DataType::List(item) if first == "element" => list_type(hinted_type(item.data_type(), &deeper())),
        DataType::Map(entries, _) if first == "value" || first == "key" => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => {
                let (key, value) = (pair[0].data_type(), pair[1].data_type());
                match first.as_str() {
                    "key" => map_type(hinted_type(key, &deeper()), value.clone()),
                    _ => map_type(key.clone(), hinted_type(value, &deeper())),
                }
            }
            _ => current.clone(),
        },
        _ => DataType::Struct(hinted(&Fields::empty(), hint)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::schema::ddl::format_type;

    #[test]
    fn hints_replace_nest_and_add() {
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("s", DataType::Utf8, true)]);
        let hinted = apply_hints(schema, "A INT, s.x DOUBLE, new.y.z DATE").unwrap();
        let shown: Vec<_> =
            hinted.fields.iter().map(|field| format!("{} {}", field.name(), format_type(field.data_type()))).collect();
        assert_eq!(shown, ["a INT", "s STRUCT<`x`: DOUBLE>", "new STRUCT<`y`: STRUCT<`z`: DATE>>"]);
    }
}
