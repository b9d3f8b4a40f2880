#![allow(clippy::unwrap_used)]
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use chrono_tz::Tz;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::types::{array, map, parse_data_type};

fn column<'t>(texts: impl IntoIterator<Item = &'t str>) -> ArrayRef {
    texts.into_iter().map(|text| Some(parse(text).unwrap())).collect::<VariantColumn>().finish()
}

fn shown(text: &str) -> String {
    to_json(&column([text]), Tz::UTC).unwrap().value(0).to_owned()
}

fn extracted(text: &str, to: &DataType, lenient: bool) -> Result<ArrayRef> {
    let column = column([text]);
    to_array(&values(&column).unwrap(), to, lenient, Tz::UTC)
}

#[test]
fn numbers_keep_their_digits() {
    let numbers = [
        ("1.10", "1.1", "DECIMAL(2,1)"),
        ("100.00", "100", "DECIMAL(3,0)"),
        ("0.000001", "0.000001", "DECIMAL(6,6)"),
        ("-0.50", "-0.5", "DECIMAL(1,1)"),
        ("123456789012345678901234567890", "123456789012345678901234567890", "DECIMAL(30,0)"),
        ("1234567890123456789012345678901234567890", "1.2345678901234568E39", "DOUBLE"),
        ("1e3", "1000.0", "DOUBLE"),
        ("-9223372036854775808", "-9223372036854775808", "BIGINT"),
        ("9223372036854775808", "9223372036854775808", "DECIMAL(19,0)"),
        ("-0", "0", "BIGINT"),
    ];
    for (text, written, shape) in numbers {
        assert_eq!(shown(text), written);
        let column = column([text]);
        let found = values(&column).unwrap();
        assert_eq!(Shape::of(found[0].as_ref().unwrap()).to_string(), shape, "{text}");
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for text in
        ["", "  ", "{a:1}", "{'a':1}", "[1,]", "01", "1.", ".5", "+1", "1x", "NaN", "nul", "\"a", "{\"a\":1", "--1"]
    {
        assert_eq!(parse(text), Err(Malformed::Syntax), "{text}");
    }
    assert_eq!(parse(r#"{"a":{"b":1,"b":2}}"#), Err(Malformed::DuplicateKey("b".to_owned())));
    assert_eq!(parse(&"[".repeat(100_000)), Err(Malformed::Syntax));
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(shown(&nested(128)), nested(128));
    assert_eq!(parse(&nested(200)), Err(Malformed::Syntax));
    // What follows the value is not looked at.
    assert_eq!(shown(r#" {"a":1} x"#), r#"{"a":1}"#);
    assert_eq!(shown("true x"), "true");
}

#[test]
fn names_may_be_empty() {
    let text = r#"{"":{"":[{"a":{"":null}}],"b":1},"a":2}"#;
    assert_eq!(shown(text), text);
    let column = column([text]);
    let inner = Path::parse("$['']", "variant_get").unwrap().follow(values(&column).unwrap()[0].as_ref().unwrap());
    let inner = [Some(Encoded::of(&inner.unwrap()).unwrap())].into_iter().collect::<VariantColumn>().finish();
    assert_eq!(to_json(&inner, Tz::UTC).unwrap().value(0), r#"{"":[{"a":{"":null}}],"b":1}"#);
}

#[test]
fn paths_lead_to_values() {
    let column = column([r#"{"a b":[1,{"c.d":"x"}],"A":null}"#]);
    let found = values(&column).unwrap();
    let follow = |path: &str| {
        let path = Path::parse(path, "variant_get").unwrap();
        path.follow(found[0].as_ref().unwrap()).map(|found| json_text(&found, Tz::UTC))
    };
    assert_eq!(follow("$['a b'][1][\"c.d\"]").unwrap(), r#""x""#);
    assert_eq!(follow("$.a b[0]").unwrap(), "1");
    assert_eq!(follow("$.A").unwrap(), "null");
    assert_eq!(follow("$.a"), None);
    assert_eq!(follow("$['a b'][2]"), None);
    assert_eq!(follow("$[0]"), None);
    for wrong in ["", "a", "$.", "$[", "$[x]", "$[-1]", "$['a]", "$.a[", "$a"] {
        let error = Path::parse(wrong, "variant_get").unwrap_err();
        assert_eq!(error.condition(), Some("INVALID_VARIANT_GET_PATH"), "{wrong}");
    }
}

#[test]
fn values_of_many_kinds_become_one_type() {
    let variants = column(["1", "2.75", "\"3\"", "true", "null", "1e1"]);
    let numbers = to_array(&values(&variants).unwrap(), &DataType::Int64, false, Tz::UTC).unwrap();
    let numbers: Vec<_> = numbers.as_primitive::<Int64Type>().iter().collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3), Some(1), None, Some(10)]);
    let texts = to_array(&values(&variants).unwrap(), &DataType::Utf8, false, Tz::UTC).unwrap();
    let texts: Vec<_> = texts.as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("1"), Some("2.75"), Some("3"), Some("true"), None, Some("10.0")]);
}

#[test]
fn values_that_do_not_fit_are_errors_or_null() {
    for (text, to) in
        [("\"x\"", "int"), ("300", "tinyint"), ("[1]", "int"), ("1", "array<int>"), ("[1]", "struct<a:int>")]
    {
        let to = parse_data_type(to).unwrap();
        let error = extracted(text, &to, false).unwrap_err();
        assert_eq!(error.condition(), Some("INVALID_VARIANT_CAST"), "{text}");
        assert!(extracted(text, &to, true).unwrap().is_null(0), "{text}");
    }
    let list = extracted(r#"[1,"x",null]"#, &array(DataType::Int32), true).unwrap();
    let items = list.as_list::<i32>().value(0);
    assert_eq!(items.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None, None]);
}

#[test]
fn only_some_types_go_to_and_fro() {
    assert!(!can_build(&map(DataType::Utf8, DataType::Int32), false));
    assert!(can_build(&map(DataType::Utf8, DataType::Int32), true));
    assert!(!can_build(&map(DataType::Int32, DataType::Int32), true));
    assert!(!can_extract(&map(DataType::Int32, DataType::Int32)));
    assert!(!can_extract(&DataType::Null));
    let decimals: ArrayRef = Arc::new(Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap());
    assert_eq!(to_json(&from_array(&decimals).unwrap(), Tz::UTC).unwrap(), StringArray::from(vec!["1.5"]));
}

#[test]
fn shapes_meet_at_the_type_that_holds_both() {
    let column = column([r#"{"a":1,"b":[1,2.5]}"#, r#"{"a":2.5,"c":{}}"#, r#"{"b":["x"],"a":null}"#]);
    let found = values(&column).unwrap();
    let shapes: Vec<_> = found.iter().flatten().map(Shape::of).collect();
    let merged = shapes.iter().cloned().fold(Shape::default(), Shape::merge);
    assert_eq!(merged.to_string(), "OBJECT<a: DECIMAL(21,1), b: ARRAY<VARIANT>, c: OBJECT<>>");
    let read: Shape = serde_json::from_str(&serde_json::to_string(&merged).unwrap()).unwrap();
    assert_eq!(read, merged);
}

#[test]
fn broken_bytes_are_an_error() {
    let broken = Encoded { metadata: vec![0xff], value: vec![0x02, 0xff] };
    let column = [Some(broken)].into_iter().collect::<VariantColumn>().finish();
    assert_eq!(values(&column).unwrap_err().condition(), Some("MALFORMED_VARIANT"));
}

#[test]
fn deep_bytes_are_an_error() {
    // An array of one value, 100,000 times in one another, and one of two values that are the same bytes.
    let mut deep = vec![0x00];
    for _ in 0..100_000 {
        let length = u32::try_from(deep.len()).unwrap().to_le_bytes();
        deep.splice(0..0, [[0x0f, 1, 0, 0, 0, 0].as_slice(), &length].concat());
    }
    let twice: Vec<u8> = [3, 2, 0, 0, 1].repeat(120);
    for value in [deep, twice] {
        let column = [Some(Encoded { metadata: vec![1, 0, 0], value })].into_iter().collect::<VariantColumn>().finish();
        assert_eq!(values(&column).unwrap_err().condition(), Some("MALFORMED_VARIANT"));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..6).prop_map(|fields| json!(fields)),
        ]
    })
}

proptest! {
    /// Text to variant and back, and a variant within another, lose nothing.
    #[test]
    fn json_survives(value in any_json()) {
        let text = value.to_string();
        let column = column([text.as_str()]);
        let back: Value = serde_json::from_str(to_json(&column, Tz::UTC).unwrap().value(0)).unwrap();
        prop_assert_eq!(&back, &value);
        let again = from_array(&column).unwrap();
        prop_assert_eq!(to_json(&again, Tz::UTC).unwrap(), to_json(&column, Tz::UTC).unwrap());
    }
}
