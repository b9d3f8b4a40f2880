//! The bytes are what Google's library for Python makes of the messages in `messages.proto` and `legacy.proto`.

use std::fmt::Write as _;

use crate::functions::testing::{check, check_all, check_spark, evaluate};

fn set() -> String {
    include_bytes!("messages.desc").iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A call with constants as SQL has them.
fn read(hex: &str, message: &str, options: &str) -> String {
    format!("from_protobuf(X'{hex}', '{message}', X'{}', '{options}')", set())
}

fn json(hex: &str, message: &str, options: &str) -> String {
    format!("to_json({})", read(hex, message, options))
}

const ALL: &str = "08ffffffffffffffffff011080808080802018ffffffff0f20ffffffffffffffffff01280930ffffffffff3f3d07000000\
    4108000000000000004df7ffffff51f6ffffffffffffff5d0000c03f6100000000000002c06801720368c3a97a0200ff8001018a01130a02696e\
    120d01feffffffffffffffff01ac029201030a01619201009a01050a016b1005a00100b2010177ba010b0880e2cfaa06108094ef3ac201080\
    85a1080cab5ee01ca01020807d201020001da010b080312070a057468726565";
const VALUES: &str = r#"{"i32":-1,"i64":1099511627776,"u32":-1,"u64":-1,"s32":-5,"s64":-1099511627776,"f32":7,"f64":8,"sf32":-9,"sf64":-10,"f":1.5,"d":-2.25,"b":true,"s":"hé","raw":"AP8=","color":"GREEN","inner":{"text":"in","numbers":[1,-2,300]},"inners":[{"text":"a","numbers":[]},{"numbers":[]}],"counts":{"k":5},"maybe":0,"word":"w","at":"2023-11-14T22:13:20.123Z","took":"INTERVAL '0 00:01:30.5' DAY TO SECOND","wrapped":{"value":7},"colors":["RED","GREEN"],"by_number":{"3":{"text":"three","numbers":[]}}}"#;

#[tokio::test]
async fn messages_are_read() {
    check_all(&[
        (&json(ALL, "deltaworks.test.All", "{}"), VALUES),
        (&json("", "All", "{}"), r#"{"inners":[],"counts":{},"colors":[],"by_number":{}}"#),
        // A number that is no value of the enum, the zero of a member of a oneof, and a wrapper of zero.
        (
            &json("800105a80100ca0100", "All", "{}"),
            r#"{"color":"UNKNOWN_ENUM_VALUE_Color_5","inners":[],"counts":{},"number":0,"wrapped":{},"colors":[],"by_number":{}}"#,
        ),
        // Of a field that comes twice the last value counts, but messages are put together.
        (&json("08010802", "All", "{}"), r#"{"i32":2,"inners":[],"counts":{},"colors":[],"by_number":{}}"#),
        (&json("0a01781001100212020304", "Inner", "{}"), r#"{"text":"x","numbers":[1,2,3,4]}"#),
    ])
    .await;
}

#[tokio::test]
async fn null_is_no_message() {
    check_spark(&[(&format!("from_protobuf(CAST(NULL AS BINARY), 'Inner', X'{}')", set()), "NULL")]).await;
}

#[tokio::test]
async fn options_change_types() {
    check_all(&[
        (&format!("{}['u32']", read("18ffffffff0f", "All", r#"{"upcast.unsigned.ints": "true"}"#)), "4294967295"),
        (
            &format!("{}['u64']", read("20ffffffffffffffffff01", "All", r#"{"upcast.unsigned.ints": "true"}"#)),
            "18446744073709551615",
        ),
        (&format!("{}['color']", read("800105", "All", r#"{"enums.as.ints": "true"}"#)), "5"),
        (&format!("{}['wrapped']", read("ca01020807", "All", r#"{"unwrap.primitive.wrapper.types": "true"}"#)), "7"),
        (&format!("{}['s']", read("", "All", "{}")), "NULL"),
        (&format!("{}['s']", read("", "All", r#"{"emit.default.values": "true"}"#)), ""),
        (&format!("{}['color']", read("", "All", r#"{"emit.default.values": "true"}"#)), "RED"),
        (&format!("{}['maybe']", read("", "All", r#"{"emit.default.values": "true"}"#)), "NULL"),
        (&read("0a016112080a016212030a0163", "Person", r#"{"recursive.fields.max.depth": "1"}"#), "{a}"),
        (&read("0a016112080a016212030a0163", "Person", r#"{"recursive.fields.max.depth": "2"}"#), "{a, {b}}"),
        (&read("080118011802220203042802", "Old", "{}"), "{1, none, [1, 2], [3, 4], HIGH, null}"),
    ])
    .await;
}

#[tokio::test]
async fn malformed_messages_fail_or_are_null() {
    let permissive = r#"{"mode": "PERMISSIVE"}"#;
    check_all(&[
        (&read("0a0578", "Inner", permissive), "{null, null}"),
        // Without a field that must be there, as another type, and with a value that the enum has not.
        (&read("1200", "Old", permissive), "{null, null, null, null, null, null}"),
        (&read("0a00", "Old", permissive), "{null, null, null, null, null, null}"),
        (&read("08012809", "Old", permissive), "{null, null, null, null, null, null}"),
        // Fields that are not known are passed over, groups too.
        (&read("0a0178f20f0161ab1008019d10010000 00ac10".replace(' ', "").as_str(), "Inner", permissive), "{x, []}"),
    ])
    .await;
    for (sql, condition) in [
        (read("0a0578", "Inner", "{}"), "MALFORMED_PROTOBUF_MESSAGE"),
        (read("", "Nothing", "{}"), "PROTOBUF_MESSAGE_NOT_FOUND"),
        (read("", "Person", "{}"), "RECURSIVE_PROTOBUF_SCHEMA"),
        (read("", "Inner", r#"{"mode": "DROPMALFORMED"}"#), "PARSE_MODE_UNSUPPORTED"),
        ("from_protobuf(X'', 'Inner', X'ffff')".to_owned(), "CANNOT_PARSE_PROTOBUF_DESCRIPTOR"),
        ("from_protobuf(X'', 'Inner', '/nowhere.desc')".to_owned(), "PROTOBUF_DESCRIPTOR_FILE_NOT_FOUND"),
        ("from_protobuf(X'', 'com.example.Inner')".to_owned(), "CANNOT_LOAD_PROTOBUF_CLASS"),
        (format!("from_protobuf('x', 'Inner', X'{}')", set()), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
    ] {
        check(&sql, Err(condition), Err(condition)).await;
    }
}

fn write(value: &str, message: &str) -> String {
    format!("lower(hex(to_protobuf({value}, '{message}', X'{}')))", set())
}

#[tokio::test]
async fn messages_are_written() {
    let all = read(ALL, "All", "{}");
    let again = write(&all, "All");
    check_all(&[(&again, ALL)]).await;
    check_spark(&[
        (&write("named_struct('text', 'x', 'numbers', array(1, 2))", "Inner"), "0a017812020102"),
        (
            &write("named_struct('NUMBERS', array(), 'text', '')", "Inner")
                .replace("array()", "CAST(array() AS ARRAY<INT>)"),
            "",
        ),
        (
            &write("named_struct('id', 1, 'loose', array(1, 2), 'tight', array(3, 4), 'level', 'HIGH')", "Old"),
            "080118011802220203042802",
        ),
        (&write("named_struct('id', CAST(NULL AS INT), 'name', '')", "Old"), "08001200"),
        (&write("named_struct('color', 1)", "All"), "800101"),
        (&write("named_struct('wrapped', 7)", "All"), "ca01020807"),
        (
            &write("named_struct('u64', CAST('18446744073709551615' AS DECIMAL(20, 0)))", "All"),
            "20ffffffffffffffffff01",
        ),
        (&write("CAST(NULL AS STRUCT<text: STRING>)", "Inner"), "NULL"),
    ])
    .await;
    for (value, message, condition) in [
        ("named_struct('other', 1)", "Inner", "UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE"),
        ("named_struct('text', 1)", "Inner", "UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE"),
        ("named_struct('name', 'x')", "Old", "UNABLE_TO_CONVERT_TO_PROTOBUF_MESSAGE_TYPE"),
        ("named_struct('color', 'BLUE')", "All", "CANNOT_CONVERT_SQL_VALUE_TO_PROTOBUF_ENUM_TYPE"),
        ("1", "All", "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
    ] {
        let sql = write(value, message);
        check(&sql, Err(condition), Err(condition)).await;
    }
}

#[tokio::test]
async fn a_descriptor_is_read_from_a_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/functions/protobuf/tests/messages.desc");
    let call = format!("from_protobuf(X'0a0178', 'Inner', '{path}')['text']");
    assert_eq!(evaluate(&call, false, "UTC").await.map_err(|error| error.to_string()), Ok("x".to_owned()));
}
