//! The expected values are what Apache Avro and Spark's own classes for it make of the same schemas.

use crate::functions::testing::{check, check_all, check_spark};

/// A call with constants as SQL has them.
fn read(hex: &str, schema: &str, options: &str) -> String {
    format!("from_avro(X'{hex}', '{schema}', '{options}')")
}

/// Bytes, the schema they were written by, options, and the type and the value that they are.
const VALUES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "02020278",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null}]}"#,
        r#"{}"#,
        "STRUCT<a: INT NOT NULL, b: STRING>",
        r#"{"a":1,"b":"x"}"#,
    ),
    (
        "060204050002026b000000000000f83f00",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":{"type":"array","items":"long"}},{"name":"m","type":{"type":"map","values":"double"}}]}"#,
        r#"{}"#,
        "STRUCT<a: ARRAY<BIGINT> NOT NULL, m: MAP<STRING, DOUBLE> NOT NULL>",
        r#"{"a":[1,2,-3],"m":{"k":1.5}}"#,
    ),
    (
        "02616263",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}},{"name":"f","type":{"type":"fixed","name":"F","size":3}}]}"#,
        r#"{}"#,
        "STRUCT<e: STRING NOT NULL, f: BINARY NOT NULL>",
        r#"{"e":"B","f":"YWJj"}"#,
    ),
    (
        "f0a802f6a1abfef9628089818283898506f6a1abfef962",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"d","type":{"type":"int","logicalType":"date"}},{"name":"t","type":{"type":"long","logicalType":"timestamp-millis"}},{"name":"u","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"l","type":{"type":"long","logicalType":"local-timestamp-millis"}}]}"#,
        r#"{}"#,
        "STRUCT<d: DATE NOT NULL, t: TIMESTAMP NOT NULL, u: TIMESTAMP NOT NULL, l: TIMESTAMP_NTZ NOT NULL>",
        r#"{"d":"2022-01-08","t":"2023-11-14T22:13:20.123Z","u":"2023-11-14T22:13:20.123Z","l":"2023-11-14T22:13:20.123"}"#,
    ),
    (
        "0404d2fffffffb2e",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"x","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},{"name":"y","type":{"type":"fixed","name":"F","size":5,"logicalType":"decimal","precision":10,"scale":2}}]}"#,
        r#"{}"#,
        "STRUCT<x: DECIMAL(10,2) NOT NULL, y: DECIMAL(10,2) NOT NULL>",
        r#"{"x":12.34,"y":-12.34}"#,
    ),
    (
        "040276",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"s","type":{"type":"record","name":"q","fields":[{"name":"z","type":["null","int","string"]}]}}]}"#,
        r#"{}"#,
        "STRUCT<s: STRUCT<z: STRUCT<member0: INT, member1: STRING>> NOT NULL>",
        r#"{"s":{"z":{"member1":"v"}}}"#,
    ),
    (
        "0402020000",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"n","type":"null"},{"name":"a","type":{"type":"array","items":["null","int"]}}]}"#,
        r#"{}"#,
        "STRUCT<n: VOID, a: ARRAY<INT> NOT NULL>",
        r#"{"a":[1,null]}"#,
    ),
    (
        "020278",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"int"},{"name":"b","type":"string"}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"b\",\"type\":\"string\"},{\"name\":\"c\",\"type\":\"int\",\"default\":42},{\"name\":\"a\",\"type\":\"long\"}]}"}"#,
        "STRUCT<b: STRING NOT NULL, c: INT NOT NULL, a: BIGINT NOT NULL>",
        r#"{"b":"x","c":42,"a":1}"#,
    ),
    (
        "02",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"int"}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"z\",\"aliases\":[\"a\"],\"type\":\"double\"},{\"name\":\"l\",\"type\":{\"type\":\"array\",\"items\":\"int\"},\"default\":[1,2]},{\"name\":\"u\",\"type\":[\"null\",\"string\"],\"default\":null}]}"}"#,
        "STRUCT<z: DOUBLE NOT NULL, l: ARRAY<INT> NOT NULL, u: STRING>",
        r#"{"z":1.0,"l":[1,2]}"#,
    ),
    (
        "0278",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"string"}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"a\",\"type\":[\"null\",\"string\"]}]}"}"#,
        "STRUCT<a: STRING>",
        r#"{"a":"x"}"#,
    ),
    (
        "020278",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null","string"]}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"a\",\"type\":\"string\"}]}"}"#,
        "STRUCT<a: STRING NOT NULL>",
        r#"{"a":"x"}"#,
    ),
    (
        "0a",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"int"}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"a\",\"type\":[\"null\",\"long\",\"string\"]}]}"}"#,
        "STRUCT<a: STRUCT<member0: BIGINT, member1: STRING>>",
        r#"{"a":{"member0":5}}"#,
    ),
    (
        "02",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"e","type":{"type":"enum","name":"E","symbols":["A","B"]}}]}"#,
        r#"{"avroSchema":"{\"type\":\"record\",\"name\":\"r\",\"namespace\":\"n\",\"fields\":[{\"name\":\"e\",\"type\":{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\",\"X\"],\"default\":\"X\"}}]}"}"#,
        "STRUCT<e: STRING NOT NULL>",
        r#"{"e":"X"}"#,
    ),
    (
        "020278",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["int","string","bytes"]}]}"#,
        r#"{"enableStableIdentifiersForUnionType":"true"}"#,
        "STRUCT<a: STRUCT<member_int: INT, member_string: STRING, member_bytes: BINARY> NOT NULL>",
        r#"{"a":{"member_string":"x"}}"#,
    ),
    (
        "0402",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null","int",{"type":"record","name":"Q","fields":[{"name":"k","type":"int"}]}]}]}"#,
        r#"{"enableStableIdentifiersForUnionType":"true","stableIdentifierPrefixForUnionType":""}"#,
        "STRUCT<a: STRUCT<int: INT, Q: STRUCT<k: INT NOT NULL>>>",
        r#"{"a":{"Q":{"k":1}}}"#,
    ),
    (
        "020204020600",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"v","type":"int"},{"name":"next","type":["null","r"]}]}"#,
        r#"{"recursiveFieldMaxDepth":"2"}"#,
        "STRUCT<v: INT NOT NULL, next: STRUCT<v: INT NOT NULL>>",
        r#"{"v":1,"next":{"v":2}}"#,
    ),
    (
        "0202040000",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"v","type":"int"},{"name":"kids","type":{"type":"array","items":"r"}}]}"#,
        r#"{"recursiveFieldMaxDepth":"2"}"#,
        "STRUCT<v: INT NOT NULL, kids: ARRAY<STRUCT<v: INT NOT NULL>> NOT NULL>",
        r#"{"v":1,"kids":[{"v":2}]}"#,
    ),
    (
        "0202040000",
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"v","type":"int"},{"name":"kids","type":{"type":"array","items":"r"}}]}"#,
        r#"{"recursiveFieldMaxDepth":"1"}"#,
        "STRUCT<v: INT NOT NULL>",
        r#"{"v":1}"#,
    ),
];

#[tokio::test]
async fn values_are_read() {
    for (hex, schema, options, data_type, value) in VALUES {
        let call = read(hex, schema, options);
        check_all(&[
            (&format!("to_json({call})"), value),
            (&format!("schema_of_avro('{schema}', '{options}')"), data_type),
        ])
        .await;
    }
    check_all(&[
        (&read("09", "\"int\"", "{}"), "-5"),
        (&read("a8e8c8e99707", "long", "{}"), "123456789012"),
        (&read("00001040", "\"float\"", "{}"), "2.25"),
        (&read("020e", "[\"null\", \"int\"]", "{}"), "7"),
        (&read("00", "[\"null\", \"int\"]", "{}"), "NULL"),
        (&read("000e", "[\"int\", \"long\"]", "{}"), "7"),
        (&read("020278", "[\"int\", \"string\"]", "{}"), "{null, x}"),
    ])
    .await;
}

/// Values, their schema if one is given, and the bytes.
const BYTES: &[(&str, &str, &str)] = &[
    (r#"1"#, r#""#, "02"),
    (r#"'x'"#, r#""#, "0278"),
    (r#"1.5D"#, r#""#, "000000000000f83f"),
    (r#"1.25BD"#, r#""#, "007d"),
    (r#"X'0102'"#, r#""#, "040102"),
    (r#"DATE'2022-01-08'"#, r#"{"type":"int","logicalType":"date"}"#, "f0a802"),
    (
        r#"TIMESTAMP'2023-11-14 22:13:20.123456'"#,
        r#"{"type":"long","logicalType":"timestamp-micros"}"#,
        "8089818283898506",
    ),
    (
        r#"TIMESTAMP_NTZ'2023-11-14 22:13:20.123456'"#,
        r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
        "8089818283898506",
    ),
    (r#"named_struct('a', 1, 'b', 'x')"#, r#""#, "020278"),
    (r#"named_struct('a', CAST(NULL AS INT), 'b', 1L)"#, r#""#, "0202"),
    (r#"array(1, 2)"#, r#""#, "04020400"),
    (r#"map('k', 1)"#, r#""#, "02026b0200"),
    (r#"named_struct('s', named_struct('d', 1.25BD, 'f', 2.5F, 't', true))"#, r#""#, "007d0000204001"),
    (r#"array(1, NULL)"#, r#""#, "0400020200"),
    (r#"-1.25BD"#, r#""#, "ff83"),
    (
        r#"named_struct('b','x','A',1)"#,
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null","int"]},{"name":"b","type":"string"}]}"#,
        "02020278",
    ),
    (
        r#"named_struct('a',1)"#,
        r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"]}]}"#,
        "0200",
    ),
    (r#"TIMESTAMP'2023-11-14 22:13:20.123456'"#, r#""long""#, "f6a1abfef962"),
    (r#"TIMESTAMP'2023-11-14 22:13:20.123456'"#, r#"{"type":"long","logicalType":"timestamp-millis"}"#, "f6a1abfef962"),
    (r#"1.25BD"#, r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":2}"#, "027d"),
    (r#"-1.28BD"#, r#"{"type":"bytes","logicalType":"decimal","precision":3,"scale":2}"#, "0280"),
    (r#"'B'"#, r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, "02"),
    (r#"'B'"#, r#"["null",{"type":"enum","name":"E","symbols":["A","B"]}]"#, "0202"),
    (r#"X'616263'"#, r#"{"type":"fixed","name":"F","size":3}"#, "616263"),
    (r#"2.5D"#, r#"["null","float","double"]"#, "040000000000000440"),
];

#[tokio::test]
async fn values_are_written() {
    for (value, schema, hex) in BYTES {
        let schema = if schema.is_empty() { String::new() } else { format!(", '{schema}'") };
        check_spark(&[(&format!("lower(hex(to_avro({value}{schema})))"), hex)]).await;
    }
    check_spark(&[("to_avro(CAST(NULL AS INT))", "NULL"), ("from_avro(CAST(NULL AS BINARY), 'int')", "NULL")]).await;
}

#[tokio::test]
async fn malformed_values_fail_or_are_null() {
    let record = r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}"#;
    let permissive = r#"{"mode": "PERMISSIVE"}"#;
    check_all(&[
        (&read("0202", record, permissive), "{null, null}"),
        (&read("80", "\"long\"", permissive), "NULL"),
        (&read("ffffffffffffffffffff01", "\"long\"", permissive), "NULL"),
        (&read("09", "\"string\"", permissive), "NULL"),
        (&read("08", "[\"null\", \"int\"]", permissive), "NULL"),
        // More items than there are bytes for.
        (&read("feffffffffffffffff01", r#"{"type": "array", "items": "null"}"#, permissive), "NULL"),
        (&read("04", r#"{"type": "enum", "name": "E", "symbols": ["A"]}"#, permissive), "NULL"),
        (
            &read("0404d2", r#"{"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 0}"#, permissive),
            "NULL",
        ),
    ])
    .await;
    for (sql, condition) in [
        (read("0202", record, "{}"), "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"),
        (read("02", "\"int\"", r#"{"mode": "DROPMALFORMED"}"#), "PARSE_MODE_UNSUPPORTED"),
        ("from_avro('x', 'int')".to_owned(), "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
        (read("02", r#"{"type": "int", "logicalType": "time-millis"}"#, "{}"), "UNSUPPORTED_TIME_TYPE"),
    ] {
        check(&sql, Err(condition), Err(condition)).await;
    }
}

#[tokio::test]
async fn what_cannot_be_done_says_so() {
    for (sql, says) in [
        ("from_avro(X'02', 'topic-value', 'http://registry:8081')", "registry of schemas"),
        ("from_avro(X'02', 'nothing')", "the type `nothing` is not defined"),
        (r#"from_avro(X'02', '"int"', '{"confluent.schema.registry.address": "x"}')"#, "not supported"),
        (
            r#"from_avro(X'02', '{"type": "record", "name": "r", "fields": [{"name": "a", "type": ["null", "r"]}]}')"#,
            "is within itself",
        ),
        (r#"to_avro(1, '"string"')"#, "cannot be written as Avro `string`"),
        (r#"to_avro('C', '{"type": "enum", "name": "E", "symbols": ["A", "B"]}')"#, "none of the symbols"),
    ] {
        let error = crate::functions::testing::evaluate(sql, false, "UTC").await.unwrap_err();
        assert!(error.to_string().contains(says), "{sql}: {error}");
    }
}
