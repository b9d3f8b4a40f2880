//! How an observed schema and a known one become one: in inference and in evolution.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};

use deltaworks_spark::types;

/// The type that holds values of both; STRING if none does.
pub(crate) fn widest(a: &DataType, b: &DataType) -> DataType {
    if a == b {
        return a.clone();
    }
    match (a, b) {
        (DataType::Null, other) | (other, DataType::Null) => other.clone(),
        (DataType::Struct(a), DataType::Struct(b)) => DataType::Struct(merged(a, b)),
        (DataType::List(a), DataType::List(b)) => types::array(widest(a.data_type(), b.data_type())),
        (DataType::Map(a, _), DataType::Map(b, _)) => match (a.data_type(), b.data_type()) {
            (DataType::Struct(a), DataType::Struct(b)) if a.len() == 2 && b.len() == 2 => {
                types::map(widest(a[0].data_type(), b[0].data_type()), widest(a[1].data_type(), b[1].data_type()))
            }
            _ => DataType::Utf8,
        },
        (DataType::Decimal128(..), DataType::Float64) | (DataType::Float64, DataType::Decimal128(..)) => {
            DataType::Float64
        }
        (DataType::Date32, DataType::Timestamp(..)) | (DataType::Timestamp(..), DataType::Date32) => types::timestamp(),
        _ => widened(a, b).or_else(|| widened(b, a)).unwrap_or(DataType::Utf8),
    }
}

/// The wider type that values of type `observed` need in a column of type `known`, if widening can hold both.
///
/// `None` if the column holds them already, or if no supported widening does.
pub(crate) fn widened(known: &DataType, observed: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp};
    let rank = |data_type: &DataType| match data_type {
        Int8 => Some((1, 3)),
        Int16 => Some((2, 5)),
        Int32 => Some((3, 10)),
        Int64 => Some((4, 19)),
        _ => None,
    };
    match (known, observed) {
        _ if known == observed => None,
        (Float32, Float64) => Some(Float64),
        (Date32, Timestamp(_, None)) => Some(observed.clone()),
        (Int8 | Int16 | Int32 | Int64, Float32 | Float64) => Some(Float64),
        (Decimal128(p, s), Decimal128(q, t)) => {
            let (integer, scale) = ((*p as i16 - *s as i16).max(*q as i16 - *t as i16), (*s).max(*t));
            decimal(integer, scale).filter(|wide| wide != known)
        }
        (Decimal128(p, s), other) => {
            let (_, digits) = rank(other)?;
            decimal((*p as i16 - *s as i16).max(digits), *s).filter(|wide| wide != known)
        }
        (_, Decimal128(p, s)) => {
            let (_, digits) = rank(known)?;
            decimal((*p as i16 - *s as i16).max(digits), *s)
        }
        _ => (rank(observed)?.0 > rank(known)?.0).then(|| observed.clone()),
    }
}

fn decimal(integer: i16, scale: i8) -> Option<DataType> {
    let precision = integer + i16::from(scale);
    Some(if precision <= 38 { DataType::Decimal128(precision as u8, scale) } else { DataType::Float64 })
}

/// Fields of both, with the widest types; new ones at the end.
fn merged(known: &Fields, observed: &Fields) -> Fields {
    let mut fields: Vec<_> = known.iter().cloned().collect();
    for new in observed {
        match fields.iter().position(|field| field.name() == new.name()) {
            Some(index) => {
                let data_type = widest(fields[index].data_type(), new.data_type());
                fields[index] = Arc::new(Field::new(new.name(), data_type, true));
            }
            None => fields.push(Arc::new(Field::new(new.name(), new.data_type().clone(), true))),
        }
    }
    fields.into()
}

/// The union of two observed schemas.
pub(crate) fn merge_observed(a: &Schema, b: &Schema) -> Schema {
    Schema::new(merged(&a.fields, &b.fields))
}

/// Of the fields whose names differ in case only, the first: tables cannot hold both. The values of the others are
/// rescued, unless `case_sensitive` is false: they are values of the one column then, and its type holds them.
pub(crate) fn one_spelling(schema: &Schema, case_sensitive: bool) -> Schema {
    Schema::new(distinct(&schema.fields, case_sensitive))
}

fn distinct(fields: &Fields, case_sensitive: bool) -> Fields {
    let mut kept: Vec<Arc<Field>> = Vec::with_capacity(fields.len());
    for field in fields {
        let data_type = distinct_type(field.data_type());
        match kept.iter().position(|known| known.name().eq_ignore_ascii_case(field.name())) {
            None => kept.push(Arc::new(field.as_ref().clone().with_data_type(data_type))),
            Some(_) if case_sensitive => {}
            Some(index) => {
                let both = widest(kept[index].data_type(), &data_type);
                kept[index] = Arc::new(kept[index].as_ref().clone().with_data_type(both));
            }
        }
    }
    kept.into()
}

/// Fields of structures are always told apart by case.
fn distinct_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(distinct(fields, true)),
        DataType::List(item) => types::array(distinct_type(item.data_type())),
        other => other.clone(),
    }
}

/// The wider type for a column of the first type, if values of the second ask for one.
pub(crate) type Widen = fn(&DataType, &DataType) -> Option<DataType>;

/// The known schema grown by what was observed: new columns and struct fields at the end; types unchanged,
/// except as `widen` says. `excluded` names are columns that come from elsewhere.
pub(crate) fn evolve(
    known: &Schema,
    observed: &Schema,
    widen: Option<Widen>,
    excluded: &dyn Fn(&str) -> bool,
) -> Schema {
    let observed: Fields = observed.fields.iter().filter(|field| !excluded(field.name())).cloned().collect();
    Schema::new(grown_fields(&known.fields, &observed, widen))
}

/// A name that differs from a known one in case only is rescued, not added: tables cannot hold both.
fn grown_fields(known: &Fields, observed: &Fields, widen: Option<Widen>) -> Fields {
    let mut fields: Vec<_> = known.iter().cloned().collect();
    for new in observed {
        match fields.iter().position(|field| field.name().eq_ignore_ascii_case(new.name())) {
            Some(index) if fields[index].name() == new.name() => {
                let data_type = grown(fields[index].data_type(), new.data_type(), widen);
                fields[index] = Arc::new(Field::new(new.name(), data_type, true));
            }
            Some(_) => {}
            None => fields.push(Arc::new(Field::new(new.name(), new.data_type().clone(), true))),
        }
    }
    fields.into()
}

fn grown(known: &DataType, observed: &DataType, widen: Option<Widen>) -> DataType {
    match (known, observed) {
        (DataType::Struct(a), DataType::Struct(b)) => DataType::Struct(grown_fields(a, b, widen)),
        (DataType::List(a), DataType::List(b)) => types::array(grown(a.data_type(), b.data_type(), widen)),
        _ => widen.and_then(|widen| widen(known, observed)).unwrap_or_else(|| known.clone()),
    }
}

/// The wider type that a stored column of type `known` can take, for values of type `observed`: one in which the
/// files written before stay readable.
///
/// `None` if it holds them already, or cannot hold them: such values are rescued.
pub(crate) fn storable_widening(known: &DataType, observed: &DataType) -> Option<DataType> {
    use DataType::{Int8, Int16, Int32, Int64};
    match (known, observed) {
        (Int8, Int16) => Some(Int16),
        // Files that name no types, like JSON, give all integers as BIGINT.
        (Int8 | Int16, Int32 | Int64) => Some(Int32),
        _ => None,
    }
}

/// As [`storable_widening`], where `observed` is the type of many values together: some may ask for a wider type although
/// others have none that can be stored.
pub(crate) fn storable_widening_for_some(known: &DataType, observed: &DataType) -> Option<DataType> {
    match observed {
        DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) => storable_widening(known, &DataType::Int64),
        _ => storable_widening(known, observed),
    }
}

/// Columns never seen with a value become STRING, as in Spark.
pub(crate) fn without_void(schema: Schema) -> Schema {
    Schema::new(schema.fields.iter().map(|field| solid(field)).collect::<Vec<_>>())
}

fn solid(field: &Field) -> Field {
    Field::new(field.name(), solid_type(field.data_type()), true)
}

fn solid_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Null => DataType::Utf8,
        DataType::List(item) => types::array(solid_type(item.data_type())),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| solid(field)).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn widening_goes_up_only() {
        use DataType::*;
        assert_eq!(widened(&Int32, &Int64), Some(Int64));
        assert_eq!(widened(&Int64, &Int32), None);
        assert_eq!(widened(&Int64, &Float64), Some(Float64));
        assert_eq!(widened(&Decimal128(10, 2), &Decimal128(10, 4)), Some(Decimal128(12, 4)));
        assert_eq!(widened(&Utf8, &Int64), None);
        assert_eq!(widest(&Int64, &Utf8), Utf8);
        assert_eq!(widest(&Null, &Boolean), Boolean);
    }

    #[test]
    fn evolution_appends_and_keeps_types() {
        let known = Schema::new(vec![Field::new("b", DataType::Int64, true)]);
        let observed = Schema::new(vec![
            Field::new("a", DataType::Utf8, true),
            Field::new("b", DataType::Float64, true),
            Field::new("B", DataType::Float64, true),
        ]);
        let names = |schema: &Schema| {
            schema.fields.iter().map(|f| format!("{}:{}", f.name(), f.data_type())).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(&evolve(&known, &observed, None, &|_| false)), "b:Int64,a:Utf8");
        // A stored BIGINT cannot become DOUBLE.
        assert_eq!(names(&evolve(&known, &observed, Some(storable_widening), &|_| false)), "b:Int64,a:Utf8");
        let known = Schema::new(vec![Field::new("b", DataType::Int16, true)]);
        let observed = Schema::new(vec![Field::new("b", DataType::Int64, true)]);
        assert_eq!(names(&evolve(&known, &observed, Some(storable_widening), &|_| false)), "b:Int32");
        assert_eq!(names(&evolve(&known, &observed, None, &|_| false)), "b:Int16");
    }

    fn shown(schema: &Schema) -> Vec<String> {
        let name = deltaworks_spark::types::sql_type_name;
        schema.fields.iter().map(|field| format!("{} {}", field.name(), name(field.data_type()))).collect()
    }

    fn columns(ddl: &str) -> Schema {
        deltaworks_spark::types::parse_schema(ddl).unwrap()
    }

    #[test]
    fn evolution_reaches_into_arrays_and_structures() {
        let known = columns("a ARRAY<STRUCT<x: DOUBLE>>, m MAP<STRING, STRUCT<x: INT>>, s STRUCT<X: INT>");
        let observed =
            columns("a ARRAY<STRUCT<x: BIGINT, y: BIGINT>>, m STRUCT<k: STRUCT<y: STRING>>, s STRUCT<x: INT>");
        assert_eq!(
            shown(&evolve(&known, &observed, None, &|_| false)),
            ["a ARRAY<STRUCT<x: DOUBLE, y: BIGINT>>", "m MAP<STRING, STRUCT<x: INT>>", "s STRUCT<X: INT>"]
        );
    }

    #[test]
    fn of_several_spellings_one_is_a_column() {
        let observed = columns("Flag BOOLEAN, flag DOUBLE, s STRUCT<A: INT, a: STRING>");
        assert_eq!(shown(&one_spelling(&observed, true)), ["Flag BOOLEAN", "s STRUCT<A: INT>"]);
        assert_eq!(shown(&one_spelling(&observed, false)), ["Flag STRING", "s STRUCT<A: INT>"]);
    }
}
