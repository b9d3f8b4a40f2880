use crate::functions::testing::{check, check_all};

#[tokio::test]
async fn elements_are_read() {
    check_all(&[
        ("from_xml('<p><a>1</a><b>0.8</b></p>', 'a INT, b DOUBLE')", "{1, 0.8}"),
        ("from_xml('<p id=\"7\">hello<a>1</a></p>', '_id INT, _VALUE STRING, a INT')", "{7, hello, 1}"),
        ("from_xml('<p><a>1</a><a>2</a><a/></p>', 'a ARRAY<INT>')", "{[1, 2, null]}"),
        ("from_xml('<p><a k=\"9\"><i>1</i></a></p>', 'a MAP<STRING, INT>')", "{{_k -> 9, i -> 1}}"),
        ("from_xml('<p><a x=\"1\">2</a></p>', 'a STRUCT<_x: INT, _VALUE: INT>')", "{{1, 2}}"),
        ("from_xml('<p><a/></p>', 'a STRUCT<x: INT>')", "{{null}}"),
        ("from_xml('<p><a><i>1</i><j x=\"2\">z</j></a></p>', 'a STRING')", "{<i>1</i><j x=\"2\">z</j>}"),
        ("from_xml('<p><a>&lt;x&gt; &#65;</a><b><![CDATA[<raw>]]></b></p>', 'a STRING, b STRING')", "{<x> A, <raw>}"),
        ("from_xml('<p><A>2</A></p>', 'a INT')", "{2}"),
        ("from_xml('<p><z>1</z><a>2</a></p>', 'xs_any STRING, a INT')", "{1, 2}"),
        ("from_xml('<p><b>1,000.25</b></p>', 'b DECIMAL(10, 2)')", "{1000.25}"),
        ("from_xml('<p><a>NA</a><b>1</b></p>', 'a INT, b INT', map('nullValue', 'NA'))", "{null, 1}"),
        ("from_xml('<p><d>01.02.2024</d></p>', 'd DATE', map('dateFormat', 'dd.MM.yyyy'))", "{2024-02-01}"),
        ("from_xml(NULL, 'a INT')", "NULL"),
    ])
    .await;
}

#[tokio::test]
async fn what_does_not_fit_is_corrupt() {
    check_all(&[
        ("from_xml('<p><a>x</a><b>2</b></p>', 'a INT, b INT')", "{null, null}"),
        ("from_xml('<p><a>1</a><b>x</b><c>3</c></p>', 'a INT, b INT, c INT')", "{1, null, null}"),
        ("from_xml('<p><a>x</a></p>', 'a INT, _corrupt_record STRING')", "{null, <p><a>x</a></p>}"),
        ("from_xml('<p><a>1</a>', 'a INT')", "{null}"),
        ("from_xml('<p><a>1</a></p> <rest', 'a INT')", "{1}"),
        ("from_xml(repeat('<a>', 100000), 'a INT')", "{null}"),
    ])
    .await;
    for (sql, condition) in [
        ("from_xml('x', 'a INT', map('mode', 'FAILFAST'))", "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"),
        ("from_xml('x', 'a INT', map('mode', 'DROPMALFORMED'))", "PARSE_MODE_UNSUPPORTED"),
        ("from_xml('x', 'INT')", "DATATYPE_MISMATCH.INVALID_XML_SCHEMA"),
        ("from_xml(1, 'a INT')", "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
        ("schema_of_xml('<p>', map('mode', 'FAILFAST'))", "MALFORMED_RECORD_IN_PARSING.WITHOUT_SUGGESTION"),
        ("to_xml(1)", "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"),
    ] {
        check(sql, Err(condition), Err(condition)).await;
    }
}

#[tokio::test]
async fn structures_are_written() {
    check_all(&[
        ("to_xml(named_struct('a', 1, 'b', 2))", "<ROW>\n    <a>1</a>\n    <b>2</b>\n</ROW>"),
        ("to_xml(named_struct('a', NULL, 'b', array(1, 2)))", "<ROW>\n    <b>1</b>\n    <b>2</b>\n</ROW>"),
        ("to_xml(named_struct('_id', 7, '_VALUE', 'v'), map('rowTag', 'r'))", "<r id=\"7\">v</r>"),
        ("to_xml(named_struct('a', '<&>'), map('indent', ''))", "<ROW><a>&lt;&amp;></a></ROW>\n"),
        ("to_xml(named_struct('a', ''), map('indent', ''))", "<ROW><a></a></ROW>\n"),
        ("to_xml(named_struct('a', NULL), map('nullValue', '-', 'indent', ''))", "<ROW><a>-</a></ROW>\n"),
        ("to_xml(named_struct('a', array(array(1))), map('indent', ''))", "<ROW><a><item>1</item></a></ROW>\n"),
        (
            "to_xml(named_struct('d', DATE '2024-01-02'), map('dateFormat', 'dd.MM.yyyy', 'indent', ''))",
            "<ROW><d>02.01.2024</d></ROW>\n",
        ),
        ("to_xml(NULL)", "NULL"),
    ])
    .await;
}

#[tokio::test]
async fn types_are_inferred() {
    check_all(&[
        (
            "schema_of_xml('<p><b>1.5</b><a>1</a><c>x</c><d/></p>')",
            "STRUCT<a: BIGINT, b: DOUBLE, c: STRING, d: STRING>",
        ),
        ("schema_of_xml('<p><a k=\"2\">1</a><a>3</a></p>')", "STRUCT<a: ARRAY<STRUCT<_VALUE: BIGINT, _k: BIGINT>>>"),
        ("schema_of_xml('<p><a k=\"2\">1</a></p>', map('excludeAttribute', 'true'))", "STRUCT<a: BIGINT>"),
        ("schema_of_xml('<p><a>2024-01-01</a><a>2024-01-01T00:00:00Z</a></p>')", "STRUCT<a: ARRAY<TIMESTAMP>>"),
        ("schema_of_xml('<p><a>1</a><a><b>1</b></a></p>')", "STRUCT<a: ARRAY<STRING>>"),
        ("schema_of_xml('<p>')", "STRUCT<_corrupt_record: STRING>"),
        ("schema_of_xml('<p></p>')", "STRUCT<>"),
    ])
    .await;
}
