//! Set operations that keep duplicates, tables as queries, samples, structures in the order of a window; what is expected is
//! what Spark 4.2 gives.

use super::subqueries::{check, condition_of};

#[tokio::test]
async fn set_operations_keep_duplicates() {
    check(&[
        ("SELECT a.id, t.m FROM a, LATERAL (SELECT m FROM b WHERE b.id = a.id UNION ALL SELECT a.n) AS t ORDER BY n, m", "id,m / 2, / 3,2 / 3,3 / 3,3 / ,4 / 1,1 / 1,10"),
        ("TABLE a", "id,k,n / 1,x,10 / 2,y, / 3,x,3 / ,z,4"),
        ("TABLE a ORDER BY n LIMIT 2", "id,k,n / 2,y, / 3,x,3"),
        ("SELECT * FROM VALUES (1), (1), (2), (NULL), (NULL) AS t(x) EXCEPT ALL SELECT * FROM VALUES (1), (NULL), (5) AS u(x)", "x / 1 / 2 / "),
        ("SELECT * FROM VALUES (1), (1), (2), (NULL), (NULL) AS t(x) INTERSECT ALL SELECT * FROM VALUES (1), (1), (1), (NULL), (5) AS u(y) ORDER BY x", "x /  / 1 / 1"),
        ("SELECT * FROM VALUES (1, 'a'), (1, 'a'), (2, 'b') AS t(x, y) MINUS ALL SELECT * FROM VALUES (1L, 'a') AS u(x, y)", "x,y / 1,a / 2,b"),
        ("SELECT x FROM VALUES (1), (1), (2) AS t(x) EXCEPT ALL SELECT 1 UNION ALL SELECT 9 ORDER BY 1", "x / 1 / 2 / 9"),
    ])
    .await;
}

#[tokio::test]
async fn windows_are_ordered_by_structures() {
    check(&[
        ("SELECT id, row_number() OVER (ORDER BY struct(k, n) DESC) AS r, rank() OVER (ORDER BY array(k)) AS q, sum(id) OVER (ORDER BY struct(k)) AS s FROM a ORDER BY id", "id,r,q,s / ,1,4,6 / 1,3,1,4 / 2,2,3,6 / 3,4,1,4"),
    ])
    .await;
}

#[tokio::test]
async fn set_operations_need_columns_that_meet() {
    let one = "SELECT x FROM VALUES (1), (2) AS t(x) EXCEPT ALL";
    assert_eq!(condition_of(&format!("{one} SELECT x, x FROM VALUES (1) AS u(x)")).await, "NUM_COLUMNS_MISMATCH");
    assert_eq!(condition_of(&format!("{one} SELECT array(1)")).await, "INCOMPATIBLE_COLUMN_TYPE");
}

#[tokio::test]
async fn samples() {
    check(&[
        ("SELECT count(*) AS c FROM a TABLESAMPLE (2 ROWS) AS t WHERE t.n IS NOT NULL OR true", "c / 2"),
        ("SELECT * FROM (SELECT * FROM a) TABLESAMPLE (100 PERCENT) AS t ORDER BY n LIMIT 1", "id,k,n / 2,y,"),
        ("SELECT count(*) AS c FROM a TABLESAMPLE (0 PERCENT)", "c / 0"),
        ("SELECT sample.id FROM c sample ORDER BY id", "id / 1 / 3"),
        (
            "SELECT count(*) BETWEEN 300 AND 700 AS c FROM (SELECT id FROM range(1000)) TABLESAMPLE (50 PERCENT) REPEATABLE (5)",
            "c / true",
        ),
        (
            "SELECT count(*) BETWEEN 100 AND 400 AS c FROM (SELECT id FROM range(1000)) TABLESAMPLE (BUCKET 1 OUT OF 4)",
            "c / true",
        ),
    ])
    .await;
    assert_eq!(condition_of("SELECT * FROM a TABLESAMPLE (110 PERCENT)").await, "INVALID_SAMPLE_FRACTION");
}
