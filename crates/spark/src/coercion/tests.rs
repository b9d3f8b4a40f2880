//! Expressions evaluated in a session: SQL text, and the value as text without and with ANSI mode.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::functions::testing::check;

const ZERO: Result<&str, &str> = Err("DIVIDE_BY_ZERO");
const OVERFLOW: Result<&str, &str> = Err("ARITHMETIC_OVERFLOW");
const MALFORMED: Result<&str, &str> = Err("CAST_INVALID_INPUT");

#[tokio::test]
async fn arithmetic() {
    for (sql, lenient, ansi) in [
        ("1 / 2", "0.5", Ok("0.5")),
        ("1 / 0", "NULL", ZERO),
        ("7 % 3", "1", Ok("1")),
        ("7 % 0", "NULL", Err("REMAINDER_BY_ZERO")),
        ("-7 % 3", "-1", Ok("-1")),
        ("CAST(2147483647 AS INT) + CAST(1 AS INT)", "-2147483648", OVERFLOW),
        ("9223372036854775807 + 1", "-9223372036854775808", OVERFLOW),
        ("1.5 * 2", "3.0", Ok("3.0")),
        ("CAST(10 AS DECIMAL(10,2)) / 3", "3.333333", Ok("3.333333")),
        ("CAST(1 AS DECIMAL(10,2)) + 0.005", "1.005", Ok("1.005")),
        ("1.0 / 0", "NULL", ZERO),
    ] {
        check(sql, Ok(lenient), ansi).await;
    }
}

#[tokio::test]
async fn comparisons() {
    for (sql, lenient, ansi) in [
        ("'0.5' > 0", "false", MALFORMED),
        ("'10' > 9", "true", Ok("true")),
        ("'a' > 1", "NULL", MALFORMED),
        ("'2024-01-02' > DATE '2024-01-01'", "true", Ok("true")),
        ("1.0 = '1'", "true", Ok("true")),
        ("1 IN ('1.0', '2')", "false", MALFORMED),
        ("'b' BETWEEN 'a' AND 'c'", "true", Ok("true")),
        ("NULL IS NOT DISTINCT FROM NULL", "true", Ok("true")),
    ] {
        check(sql, Ok(lenient), ansi).await;
    }
}

#[tokio::test]
async fn branches() {
    for (sql, lenient, ansi) in [
        ("CASE WHEN true THEN 1 ELSE 'x' END", "1", Ok("1")),
        ("coalesce(NULL, 1, 2.5)", "1.0", Ok("1.0")),
        ("CASE WHEN false THEN 1 ELSE 2.5 END", "2.5", Ok("2.5")),
        ("nvl(NULL, 'x')", "x", Ok("x")),
        ("nullif(1, 1)", "NULL", Ok("NULL")),
        ("CAST('1.9' AS INT)", "1", MALFORMED),
        ("TRY_CAST('x' AS INT)", "NULL", Ok("NULL")),
        ("CAST(1.5 AS STRING)", "1.5", Ok("1.5")),
    ] {
        check(sql, Ok(lenient), ansi).await;
    }
}

#[tokio::test]
async fn times() {
    for (sql, value) in [
        ("DATE '2024-01-31' + INTERVAL '1' MONTH", "2024-02-29"),
        ("DATE '2024-01-31' - DATE '2024-01-01'", "INTERVAL '30 00:00:00' DAY TO SECOND"),
        ("DATE '2024-01-31' + CAST(1 AS INT)", "2024-02-01"),
        ("CAST('2024-01-01 10:00:00' AS TIMESTAMP) + INTERVAL '1' HOUR", "2024-01-01 11:00:00"),
    ] {
        check(sql, Ok(value), Ok(value)).await;
    }
}
