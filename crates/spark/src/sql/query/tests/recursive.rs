//! `WITH RECURSIVE`; what is expected is what Spark 4.2 gives.

use super::subqueries::TABLES;
use super::{failure, run, same_rows};

/// The tables of other queries before those of this one.
fn with_tables(sql: &str) -> String {
    match sql.strip_prefix("WITH RECURSIVE ") {
        Some(rest) => format!("{}, {rest}", TABLES.trim_end().replacen("WITH", "WITH RECURSIVE", 1)),
        None => format!("{TABLES}{sql}"),
    }
}

#[tokio::test]
async fn tables_may_name_themselves() {
    for (sql, expected) in [
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r",
            "n / 1 / 2 / 3 / 4 / 5",
        ),
        (
            "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r ORDER BY n DESC",
            "n / 5 / 4 / 3 / 2 / 1",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 100) SELECT count(*), max(n) FROM r",
            "count(1),max(n) / 100,100",
        ),
        (
            "WITH RECURSIVE r MAX RECURSION LEVEL 200 AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 150) SELECT count(*) FROM r",
            "count(1) / 150",
        ),
        (
            "WITH RECURSIVE r(n, t) AS (SELECT 1, 'a' UNION ALL SELECT n + 1, concat(t, 'b') FROM r WHERE n < 3) SELECT * FROM r",
            "n,t / 1,a / 2,ab / 3,abb",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1L UNION ALL SELECT cast(n + 1 AS INT) FROM r WHERE n < 3) SELECT * FROM r",
            "n / 1 / 2 / 3",
        ),
        (
            "WITH RECURSIVE x AS (SELECT 7 AS n), r AS (SELECT n FROM x UNION ALL SELECT n + 1 FROM r WHERE n < 9) SELECT * FROM r",
            "n / 7 / 8 / 9",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT id FROM c UNION ALL SELECT r.n + b.m FROM r JOIN b ON r.n = b.id) SELECT * FROM r ORDER BY 1",
            "n / 1 / 2 / 3 / 5 / 6",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT id FROM c UNION ALL SELECT r.n + b.m FROM r LEFT JOIN b ON r.n = b.id WHERE n < 5) SELECT * FROM r ORDER BY 1",
            "n /  / 1 / 2 / 3 / 5 / 6",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM (SELECT * FROM r WHERE n < 4)) SELECT * FROM r",
            "n / 1 / 2 / 3 / 4",
        ),
        (
            "WITH RECURSIVE r(n) AS (VALUES (1), (10) UNION ALL SELECT n + 1 FROM r WHERE n % 10 < 3) SELECT * FROM r",
            "n / 1 / 10 / 2 / 11 / 3 / 12 / 13",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT DISTINCT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
            "n / 1 / 2 / 3",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n IN (SELECT m FROM b)) SELECT * FROM r",
            "n / 1 / 2 / 3 / 4 / 5",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT x.n, y.n AS m FROM r x JOIN r y ON x.n = y.n ORDER BY 1",
            "n,m / 1,1 / 2,2 / 3,3",
        ),
    ] {
        match run(&with_tables(sql)).await {
            Ok(found) => assert!(same_rows(sql, &found, expected), "{sql}\n  found    {found}\n  expected {expected}"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

#[tokio::test]
async fn recursion_has_an_end() {
    let numbers = "AS (SELECT 1 UNION ALL SELECT n + 1 FROM r";
    for (sql, condition) in [
        (
            format!("WITH RECURSIVE r(n) {numbers} WHERE n < 101) SELECT count(*) FROM r"),
            "RECURSION_LEVEL_LIMIT_EXCEEDED",
        ),
        (format!("WITH RECURSIVE r(n) {numbers}) SELECT * FROM r"), "RECURSION_LEVEL_LIMIT_EXCEEDED"),
        (format!("WITH RECURSIVE r(n) {numbers}) SELECT * FROM r LIMIT 500"), "RECURSION_LEVEL_LIMIT_EXCEEDED"),
        (
            format!("WITH RECURSIVE r(n) MAX RECURSION LEVEL 3 {numbers} WHERE n < 4) SELECT * FROM r"),
            "RECURSION_LEVEL_LIMIT_EXCEEDED",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT id FROM range(600000) UNION ALL SELECT n FROM r) SELECT count(*) FROM r"
                .to_owned(),
            "RECURSION_ROW_LIMIT_EXCEEDED",
        ),
    ] {
        let error = run(&sql).await.expect_err(&sql);
        assert_eq!(error.condition(), Some(condition), "{sql}");
    }
    let three = format!("WITH RECURSIVE r(n) MAX RECURSION LEVEL 3 {numbers} WHERE n < 3) SELECT * FROM r");
    assert_eq!(run(&three).await.unwrap(), "n / 1 / 2 / 3");
}

#[tokio::test]
async fn what_is_no_recursion_is_refused() {
    for (sql, condition) in [
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
            "UNION_NOT_SUPPORTED_IN_RECURSIVE_CTE",
        ),
        ("WITH RECURSIVE r(n) AS (SELECT n + 1 FROM r UNION ALL SELECT 1) SELECT * FROM r", "INVALID_RECURSIVE_CTE"),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3 LIMIT 1) SELECT * FROM r",
            "INVALID_RECURSIVE_CTE",
        ),
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1L FROM r WHERE n < 3) SELECT * FROM r",
            "INCOMPATIBLE_COLUMN_TYPE",
        ),
        (
            "WITH RECURSIVE r(n, m) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT * FROM r",
            "ASSIGNMENT_ARITY_MISMATCH",
        ),
    ] {
        assert_eq!(failure(sql).await.0, condition, "{sql}");
    }
}
