"""Edge values of every type, as SQL."""

INT = "INT", ["NULL", "0", "1", "-1", "7", "2147483647", "-2147483648"]
BIGINT = "BIGINT", ["NULL", "0", "3", "-12345678901", "9223372036854775807", "-9223372036854775808"]
SMALL = "INT", ["NULL", "0", "1", "2", "-2", "5"]
DOUBLE = (
    "DOUBLE",
    ["NULL", "0.0", "-0.0", "1.5", "-2.5", "'NaN'", "'Infinity'", "'-Infinity'", "1e300", "1e-10", "100.0"],
)
FLOAT = "FLOAT", ["NULL", "0.0", "1.1", "-3.4e38", "'NaN'"]
DECIMAL = "DECIMAL(10,2)", ["NULL", "0", "1.25", "-1.25", "99999999.99", "0.05"]
WIDE = "DECIMAL(38,10)", ["NULL", "1", "-9999999999999999999999999999.9999999999", "0.0000000001"]
BOOLEAN = "BOOLEAN", ["NULL", "true", "false"]
STRING = (
    "STRING",
    ["NULL", "''", "'a'", "'Spark SQL'", "'  padded '", "'äöü ß İ'", "'😀 smile'", "'a,b,,c'", "'ABC'", "'A_%b'"],
)
WORD = "STRING", ["NULL", "''", "'a'", "'b'", "'S'", "'😀'"]
NUMERIC = (
    "STRING",
    [
        "NULL",
        "''",
        "'1'",
        "'-7'",
        "'1.5'",
        "' 12 '",
        "'1e3'",
        "'abc'",
        "'NaN'",
        "'2147483648'",
        "'+4'",
        "'0x1F'",
        "'1_000'",
    ],
)
DATE = "DATE", ["NULL", "'2024-02-29'", "'1970-01-01'", "'1582-10-15'", "'0001-01-01'", "'9999-12-31'", "'2023-12-31'"]
TIMESTAMP = (
    "TIMESTAMP",
    [
        "NULL",
        "'2024-03-10 03:30:00'",
        "'2024-11-03 01:30:00'",
        "'1970-01-01 00:00:00'",
        "'1900-01-01 12:00:00.5'",
        "'2024-02-29 23:59:59.999999'",
        "'2023-01-01 00:00:00'",
    ],
)
NTZ = "TIMESTAMP_NTZ", ["NULL", "'2024-03-10 02:30:00'", "'1969-12-31 23:59:59.000001'", "'2024-02-29 12:00:00'"]
DATE_TEXT = (
    "STRING",
    [
        "NULL",
        "''",
        "'2024-02-29'",
        "'2023-02-29'",
        "'2024-3-5'",
        "'2024-03-05 01:02:03'",
        "'2024-03-05T01:02:03.123Z'",
        "'2024-03-05 01:02:03+09:00'",
        "'2024'",
        "'05/03/2024'",
        "'garbage'",
        "'12:30'",
    ],
)
BINARY = "BINARY", ["NULL", "X''", "X'00FF'", "X'537061726B'"]
INTS = "ARRAY<INT>", ["NULL", "array()", "array(1)", "array(3, 1, 2)", "array(1, NULL, 1)", "array(NULL)"]
STRINGS = "ARRAY<STRING>", ["NULL", "array()", "array('b', 'a')", "array('x', NULL, '')"]
NESTED = "ARRAY<ARRAY<INT>>", ["NULL", "array(array(1, 2), array(3))", "array(array(1), NULL)", "array(array())"]
MAP = "MAP<STRING, INT>", ["NULL", "map()", "map('a', 1)", "map('b', 2, 'a', NULL)"]
STRUCT = "STRUCT<a: INT, b: STRING>", ["NULL", "named_struct('a', 1, 'b', 'x')", "named_struct('a', NULL, 'b', NULL)"]
JSON = (
    "STRING",
    [
        "NULL",
        "''",
        "'{}'",
        '\'{"a": 1, "b": "x"}\'',
        '\'{"a": {"c": [1, 2, {"d": null}]}}\'',
        "'[1, 2]'",
        "'not json'",
        '\'{"a": 1.50, "b": true}\'',
        "'null'",
    ],
)
VARIANT = (
    "STRING",
    [
        "NULL",
        "'null'",
        "'true'",
        "'1'",
        "'-300'",
        "'1.50'",
        "'-0.0'",
        "'1e3'",
        "'12345678901234567890'",
        "'1234567890123456789012345678901234567890'",
        "'\"x\"'",
        "'\" 12 \"'",
        "'\"2024-03-05\"'",
        "'\"2024-03-05T01:02:03.5Z\"'",
        "'[]'",
        "'[1, \"a\", null, 2.50]'",
        "'[[1], [2, 3]]'",
        "'{}'",
        '\'{"b": "é\\\\n", "a": 1.0}\'',
        '\'{"a": {"c": [1, 2, {"d": null}]}}\'',
        "'{\"a\": [true]} rest'",
    ],
)
DAY_TIME = "INTERVAL DAY TO SECOND", ["NULL", "INTERVAL '1 02:03:04.5' DAY TO SECOND", "INTERVAL '-3' DAY"]
YEAR_MONTH = "INTERVAL YEAR TO MONTH", ["NULL", "INTERVAL '1-2' YEAR TO MONTH", "INTERVAL '-5' MONTH"]
URL = "STRING", ["NULL", "''", "'https://user:pw@host.com:80/p/a?x=1&y=a%20b#frag'", "'not a url'", "'http://h?x'"]

POOLS = {
    "i": INT, "l": BIGINT, "k": SMALL, "d": DOUBLE, "f": FLOAT, "n": DECIMAL, "w": WIDE, "b": BOOLEAN, "s": STRING,
    "c": WORD, "v": NUMERIC, "D": DATE, "t": TIMESTAMP, "z": NTZ, "q": DATE_TEXT, "x": BINARY, "I": INTS, "S": STRINGS,
    "N": NESTED, "m": MAP, "r": STRUCT, "j": JSON, "V": VARIANT, "u": URL, "y": DAY_TIME, "Y": YEAR_MONTH,
}  # fmt: skip
