//! Which type two types meet at: Spark's tables, with and without ANSI mode.

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::logical_expr::Operator;
use std::sync::Arc;

use crate::types::{array, canonical, is_variant, map, timestamp};

const MAX: i16 = 38;

/// A decimal type with precision and scale cut to what fits in 38 digits, keeping six decimals if it must cut.
pub(super) fn adjusted(precision: i16, scale: i16) -> DataType {
    if precision <= MAX {
        return DataType::Decimal128(precision.max(1) as u8, scale as i8);
    }
    let whole = precision - scale;
    DataType::Decimal128(MAX as u8, (MAX - whole).max(scale.min(6)) as i8)
}

/// The decimal type that holds every value of an integer type.
pub(super) fn decimal_of(data_type: &DataType) -> Option<(i16, i16)> {
    Some(match data_type {
        DataType::Int8 => (3, 0),
        DataType::Int16 => (5, 0),
        DataType::Int32 => (10, 0),
        DataType::Int64 => (20, 0),
        DataType::Decimal128(p, s) => (i16::from(*p), i16::from(*s)),
        _ => return None,
    })
}

/// The type of a decimal calculation.
pub(super) fn decimal_result(op: Operator, (p1, s1): (i16, i16), (p2, s2): (i16, i16)) -> DataType {
    let scale = s1.max(s2);
    match op {
        Operator::Multiply => adjusted(p1 + p2 + 1, s1 + s2),
        Operator::Divide => {
            let scale = (s1 + p2 + 1).max(6);
            adjusted(p1 - s1 + s2 + scale, scale)
        }
        Operator::Modulo => adjusted((p1 - s1).min(p2 - s2) + scale, scale),
        _ => adjusted((p1 - s1).max(p2 - s2) + scale + 1, scale),
    }
}

fn wider_decimal((p1, s1): (i16, i16), (p2, s2): (i16, i16)) -> DataType {
    let scale = s1.max(s2);
    let whole = (p1 - s1).max(p2 - s2);
    // Where not all digits have room, those before the point are kept.
    DataType::Decimal128((whole + scale).min(MAX) as u8, scale.min(MAX - whole) as i8)
}

/// The narrowest numeric type that holds both.
pub(super) fn numeric(a: &DataType, b: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    let rank = |t: &T| match t {
        T::Int8 => 1,
        T::Int16 => 2,
        T::Int32 => 3,
        T::Int64 => 4,
        T::Float32 => 5,
        T::Float64 => 6,
        _ => 0,
    };
    Some(match (a, b) {
        (T::Decimal128(..), T::Float32 | T::Float64) | (T::Float32 | T::Float64, T::Decimal128(..)) => T::Float64,
        (T::Decimal128(..), _) | (_, T::Decimal128(..)) => wider_decimal(decimal_of(a)?, decimal_of(b)?),
        _ if rank(a) == 0 || rank(b) == 0 => return None,
        // In ANSI mode an integer and a float meet at double, which holds both.
        _ if ansi && rank(a).max(rank(b)) == 5 && rank(a) != rank(b) => T::Float64,
        _ if rank(a) >= rank(b) => a.clone(),
        _ => b.clone(),
    })
}

/// The type both sides of a comparison are cast to.
pub(crate) fn for_comparison(a: &DataType, b: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    let (a, b) = (canonical(a), canonical(b));
    match (&a, &b) {
        _ if a == b => Some(a),
        (T::Utf8, other) | (other, T::Utf8) => match other {
            T::Interval(_) | T::Duration(_) => None,
            T::Null => Some(T::Utf8),
            T::Binary => Some(T::Binary),
            T::Int8 | T::Int16 | T::Int32 | T::Int64 if ansi => Some(T::Int64),
            T::Float32 if ansi => Some(T::Float64),
            T::Decimal128(..) => Some(T::Float64),
            other if other.is_nested() => None,
            other => Some(other.clone()),
        },
        // Without ANSI mode a truth value may be compared with 0 and 1.
        (T::Boolean, other) | (other, T::Boolean) if !ansi && other.is_numeric() => Some(other.clone()),
        _ => wider(&a, &b, ansi).or_else(|| same_structure(&a, &b).then_some(a)),
    }
}

/// Whether two types differ in nothing but the names of fields.
pub(crate) fn same_structure(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        _ if is_variant(a) || is_variant(b) => is_variant(a) && is_variant(b),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_structure(a.data_type(), b.data_type()))
        }
        (DataType::List(a), DataType::List(b)) | (DataType::Map(a, _), DataType::Map(b, _)) => {
            same_structure(a.data_type(), b.data_type())
        }
        _ => a == b,
    }
}

/// The type branches of CASE, elements of an array, or inputs of a UNION are cast to.
pub(crate) fn wider(a: &DataType, b: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    let (a, b) = (canonical(a), canonical(b));
    match (&a, &b) {
        _ if a == b => Some(a),
        (T::Null, other) | (other, T::Null) => Some(other.clone()),
        _ if a.is_numeric() && b.is_numeric() => numeric(&a, &b, ansi),
        (T::Date32, T::Timestamp(..)) => Some(b),
        (T::Timestamp(..), T::Date32) => Some(a),
        (T::Timestamp(..), T::Timestamp(..)) => Some(timestamp()),
        (T::Utf8, other) | (other, T::Utf8) => string_with(other, ansi),
        (T::List(x), T::List(y)) => Some(array(wider(x.data_type(), y.data_type(), ansi)?)),
        (T::Map(x, _), T::Map(y, _)) => match (x.data_type(), y.data_type()) {
            (T::Struct(x), T::Struct(y)) => Some(map(
                wider(x[0].data_type(), y[0].data_type(), ansi)?,
                wider(x[1].data_type(), y[1].data_type(), ansi)?,
            )),
            _ => None,
        },
        _ if is_variant(&a) || is_variant(&b) => None,
        (T::Struct(x), T::Struct(y)) => wider_struct(x, y, ansi),
        _ => None,
    }
}

fn string_with(other: &DataType, ansi: bool) -> Option<DataType> {
    use DataType as T;
    match other {
        T::Binary | T::Boolean if !ansi => None,
        T::Interval(_) | T::Duration(_) if ansi => None,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 if ansi => Some(T::Int64),
        T::Float32 | T::Decimal128(..) if ansi => Some(T::Float64),
        other if other.is_nested() => None,
        other if ansi => Some(other.clone()),
        _ => Some(T::Utf8),
    }
}

fn wider_struct(a: &Fields, b: &Fields, ansi: bool) -> Option<DataType> {
    let same_names = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name().eq_ignore_ascii_case(b.name()));
    let field = |(a, b): (&Arc<Field>, &Arc<Field>)| {
        let data_type = wider(a.data_type(), b.data_type(), ansi)?;
        Some(Arc::new(Field::new(a.name(), data_type, a.is_nullable() || b.is_nullable())))
    };
    let fields: Option<Fields> = same_names.then(|| a.iter().zip(b).map(field).collect())?;
    fields.map(DataType::Struct)
}

/// The type all of `types` are cast to.
pub(crate) fn widest<'a>(types: impl IntoIterator<Item = &'a DataType>, ansi: bool) -> Option<DataType> {
    let mut types = types.into_iter();
    let first = canonical(types.next()?);
    types.try_fold(first, |so_far, next| wider(&so_far, next, ansi))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::{parse_data_type, type_name};

    fn meet(f: impl Fn(&DataType, &DataType, bool) -> Option<DataType>, a: &str, b: &str, ansi: bool) -> String {
        let both = (parse_data_type(a).unwrap(), parse_data_type(b).unwrap());
        let one = f(&both.0, &both.1, ansi).map_or("none".to_owned(), |t| type_name(&t));
        let other = f(&both.1, &both.0, ansi).map_or("none".to_owned(), |t| type_name(&t));
        assert_eq!(one, other);
        one
    }

    #[test]
    fn comparisons() {
        for (a, b, lenient, ansi) in [
            ("string", "int", "int", "bigint"),
            ("string", "decimal(4,2)", "double", "double"),
            ("string", "date", "date", "date"),
            ("string", "boolean", "boolean", "boolean"),
            ("date", "timestamp", "timestamp", "timestamp"),
            ("boolean", "int", "int", "none"),
            ("int", "decimal(4,2)", "decimal(12,2)", "decimal(12,2)"),
            ("int", "float", "float", "double"),
        ] {
            assert_eq!(meet(for_comparison, a, b, false), lenient, "{a} {b}");
            assert_eq!(meet(for_comparison, a, b, true), ansi, "{a} {b}");
        }
    }

    #[test]
    fn decimals_keep_the_digits_before_the_point() {
        for (a, b, expected) in [
            ("decimal(38,38)", "int", "decimal(38,28)"),
            ("decimal(38,10)", "decimal(38,38)", "decimal(38,10)"),
            ("decimal(10,2)", "bigint", "decimal(22,2)"),
        ] {
            assert_eq!(meet(wider, a, b, true), expected, "{a} {b}");
        }
    }

    #[test]
    fn intervals_of_other_kinds_do_not_meet() {
        for other in ["interval month", "interval", "string"] {
            assert_eq!(meet(wider, "interval day", other, true), "none", "{other}");
            assert_eq!(meet(for_comparison, "interval day", other, false), "none", "{other}");
        }
        assert_eq!(meet(wider, "interval day", "string", false), "string");
    }

    #[test]
    fn structs_of_other_names_are_compared_if_their_types_are_the_same() {
        let compared =
            |b| for_comparison(&parse_data_type("struct<a:int>").unwrap(), &parse_data_type(b).unwrap(), true);
        assert!(compared("struct<b:int>").is_some());
        assert!(compared("struct<b:bigint>").is_none());
        assert!(compared("struct<b:int,c:int>").is_none());
    }

    #[test]
    fn branches() {
        for (a, b, lenient, ansi) in [
            ("string", "int", "string", "bigint"),
            ("string", "date", "string", "date"),
            ("void", "date", "date", "date"),
            ("array<int>", "array<bigint>", "array<bigint>", "array<bigint>"),
            ("struct<a:int>", "struct<A:double>", "none-checked", ""),
        ] {
            if lenient != "none-checked" {
                assert_eq!(meet(wider, a, b, false), lenient, "{a} {b}");
                assert_eq!(meet(wider, a, b, true), ansi, "{a} {b}");
            }
        }
    }

    #[test]
    fn decimal_results() {
        let result = |op, a, b| type_name(&decimal_result(op, a, b));
        assert_eq!(result(Operator::Plus, (10, 2), (10, 2)), "decimal(11,2)");
        assert_eq!(result(Operator::Multiply, (10, 2), (10, 2)), "decimal(21,4)");
        assert_eq!(result(Operator::Divide, (10, 2), (10, 2)), "decimal(23,13)");
        assert_eq!(result(Operator::Multiply, (38, 10), (38, 10)), "decimal(38,6)");
    }
}
