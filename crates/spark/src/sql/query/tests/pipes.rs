//! The pipe operator; what is expected is what Spark 4.2 gives.

use super::subqueries::{check, condition_of};

#[tokio::test]
async fn pipes() {
    check(&[
        ("FROM a |> WHERE n > 3 |> ORDER BY n", "id,k,n / ,z,4 / 1,x,10"),
        ("FROM a |> SELECT id, n + 1 AS p |> ORDER BY p", "id,p / 2, / 3,4 / ,5 / 1,11"),
        ("FROM a |> SELECT id, n + 1 |> ORDER BY id", "id,(n + 1) / ,5 / 1,11 / 2, / 3,4"),
        ("TABLE a |> WHERE id > 1 |> SELECT k", "k / y / x"),
        ("SELECT id, n FROM a |> WHERE n > 3 |> ORDER BY n DESC", "id,n / 1,10 / ,4"),
        ("FROM a |> EXTEND n * 2 |> ORDER BY n", "id,k,n,(n * 2) / 2,y,, / 3,x,3,6 / ,z,4,8 / 1,x,10,20"),
        (
            "FROM a |> EXTEND n * 2 AS d, d + 1 AS e |> ORDER BY n",
            "id,k,n,d,e / 2,y,,, / 3,x,3,6,7 / ,z,4,8,9 / 1,x,10,20,21",
        ),
        ("FROM a |> EXTEND 1 AS n |> ORDER BY id", "id,k,n,n / ,z,4,1 / 1,x,10,1 / 2,y,,1 / 3,x,3,1"),
        ("FROM a |> SET n = n + 1, id = n |> ORDER BY n", "id,k,n / ,y, / 4,x,4 / 5,z,5 / 11,x,11"),
        ("FROM a |> DROP n, k |> ORDER BY id", "id /  / 1 / 2 / 3"),
        ("FROM a |> WHERE a.n > 3 |> SELECT a.id ORDER BY a.id", "id /  / 1"),
        ("FROM a |> AS t |> JOIN b ON t.id = b.id |> SELECT t.id, b.m |> ORDER BY m", "id,m / 1,1 / 3,2 / 3,3"),
        ("FROM a |> JOIN b ON a.id = b.id |> SELECT a.id, b.m |> ORDER BY m", "id,m / 1,1 / 3,2 / 3,3"),
        ("FROM a |> JOIN b USING (id) |> ORDER BY m", "id,k,n,k,m / 1,x,10,x,1 / 3,x,3,x,2 / 3,x,3,y,3"),
        ("FROM a |> LEFT JOIN c ON a.id = c.id |> SELECT a.id, q |> ORDER BY q, id", "id,q / , / 2, / 1,5 / 3,6"),
        ("FROM a |> LEFT OUTER JOIN c USING (id) |> SELECT id, q |> ORDER BY q, id", "id,q / , / 2, / 1,5 / 3,6"),
        ("FROM a |> CROSS JOIN c |> AGGREGATE count(*)", "count(1) / 8"),
        ("FROM a |> LEFT SEMI JOIN c USING (id) |> ORDER BY id", "id,k,n / 1,x,10 / 3,x,3"),
        ("FROM a |> LEFT ANTI JOIN c USING (id) |> ORDER BY id", "id,k,n / ,z,4 / 2,y,"),
        ("FROM a |> SEMI JOIN c USING (id) |> ORDER BY id", "id,k,n / 1,x,10 / 3,x,3"),
        ("FROM a |> NATURAL JOIN c |> ORDER BY id", "id,k,n,q / 1,x,10,5 / 3,x,3,6"),
        (
            "FROM a |> JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t |> ORDER BY m",
            "id,k,n,m / 1,x,10,1 / 3,x,3,2 / 3,x,3,3",
        ),
        ("FROM a |> AGGREGATE sum(n) AS s, count(*) AS c", "s,c / 17,4"),
        ("FROM a |> AGGREGATE sum(n) AS s, count(*) AS c GROUP BY k |> ORDER BY k", "k,s,c / x,13,2 / y,,1 / z,4,1"),
        ("FROM a |> AGGREGATE sum(n) GROUP BY k |> ORDER BY k", "k,sum(n) / x,13 / y, / z,4"),
        (
            "FROM a |> AGGREGATE count(*) AS c GROUP BY upper(k) AS u, id > 1 AS g |> ORDER BY u, g",
            "u,g,c / X,false,1 / X,true,1 / Y,true,1 / Z,,1",
        ),
        ("FROM a |> AGGREGATE count(*) AS c GROUP BY upper(k) |> ORDER BY 1", "upper(k),c / X,2 / Y,1 / Z,1"),
        ("FROM a |> AGGREGATE GROUP BY k |> ORDER BY k", "k / x / y / z"),
        ("FROM a |> AGGREGATE sum(n) + 1 AS s GROUP BY k |> WHERE s > 4 |> ORDER BY k", "k,s / x,14 / z,5"),
        ("FROM a |> SELECT k, row_number() OVER (ORDER BY n) AS r |> WHERE r = 2", "k,r / x,2"),
        ("FROM a |> EXTEND sum(n) OVER () AS s |> SELECT s |> LIMIT 1", "s / 17"),
        ("FROM a |> ORDER BY n |> OFFSET 3", "id,k,n / 1,x,10"),
        ("FROM a |> ORDER BY n |> LIMIT 2 |> OFFSET 1", "id,k,n / 3,x,3"),
        ("FROM a |> SELECT id |> UNION SELECT id FROM c |> ORDER BY id", "id /  / 1 / 2 / 3"),
        ("FROM a |> SELECT id |> UNION ALL (SELECT id FROM c) |> ORDER BY id", "id /  / 1 / 1 / 2 / 3 / 3"),
        ("FROM a |> SELECT id |> EXCEPT ALL SELECT id FROM c |> ORDER BY id", "id /  / 2"),
        ("FROM a |> SELECT id |> MINUS SELECT id FROM c |> ORDER BY id", "id /  / 2"),
        ("FROM a |> SELECT id |> INTERSECT SELECT id FROM c |> ORDER BY id", "id / 1 / 3"),
        ("FROM a |> SELECT id |> INTERSECT ALL SELECT id FROM c |> ORDER BY id", "id / 1 / 3"),
        ("FROM a |> SELECT k, n |> PIVOT (sum(n) FOR k IN ('x', 'y'))", "x,y / 13,"),
        (
            "FROM a |> SELECT id, n |> UNPIVOT (v FOR nm IN (id, n)) |> ORDER BY v",
            "nm,v / id,1 / id,2 / id,3 / n,3 / n,4 / n,10",
        ),
        (
            "FROM a |> SELECT id, n |> UNPIVOT INCLUDE NULLS (v FOR nm IN (id AS i, n)) |> ORDER BY v, nm",
            "nm,v / i, / n, / i,1 / i,2 / i,3 / n,3 / n,4 / n,10",
        ),
        ("FROM a |> TABLESAMPLE (100 PERCENT) |> AGGREGATE count(*) AS c", "c / 4"),
        ("FROM a |> TABLESAMPLE (2 ROWS) |> AGGREGATE count(*) AS c", "c / 2"),
        ("SELECT * FROM (FROM a |> WHERE n > 3 |> SELECT id, n) t WHERE id = 1", "id,n / 1,10"),
        ("SELECT * FROM (WITH t AS (FROM a |> WHERE n > 3) FROM t |> AGGREGATE count(*) AS c)", "c / 2"),
        ("FROM a |> WHERE EXISTS (SELECT 1 FROM b WHERE b.id = a.id) |> ORDER BY id", "id,k,n / 1,x,10 / 3,x,3"),
        ("FROM a |> WHERE id IN (FROM b |> SELECT id) |> ORDER BY id", "id,k,n / 1,x,10 / 3,x,3"),
        ("SELECT (FROM b |> AGGREGATE max(m)) AS x", "x / 4"),
        ("(SELECT id FROM a) |> WHERE id > 1 |> ORDER BY id", "id / 2 / 3"),
        ("VALUES (1), (2) AS t(x) |> WHERE x > 1", "x / 2"),
        ("FROM VALUES (1), (2) t(x) |> WHERE x > 1 |> SELECT x", "x / 2"),
        ("SELECT 1 AS x UNION ALL SELECT 2 |> WHERE x > 1", "x / 2"),
        ("FROM range(5) |> WHERE id > 3", "id / 4"),
        ("FROM a |> SELECT DISTINCT k |> ORDER BY k", "k / x / y / z"),
        ("FROM a |> SELECT * EXCEPT (n) |> ORDER BY id", "id,k / ,z / 1,x / 2,y / 3,x"),
        ("FROM a |> SELECT explode(array(1, 2)) AS e, id |> WHERE id = 1", "e,id / 1,1 / 2,1"),
    ])
    .await;
}

#[tokio::test]
async fn what_is_no_pipe_operator_is_refused() {
    for step in ["DISTINCT", "RENAME n AS nn", "AGGREGATE sum(n) GROUP BY 2"] {
        let error = super::run(&format!("SELECT 1 AS n |> {step}")).await.expect_err(step);
        assert!(error.to_string().contains("pipe operator"), "{error}");
        assert!(error.location().is_some());
    }
    assert_eq!(condition_of("FROM a |> DROP zz").await, "UNRESOLVED_COLUMN.WITH_SUGGESTION");
    assert_eq!(condition_of("FROM a |> SET z = 1").await, "UNRESOLVED_COLUMN.WITH_SUGGESTION");
    assert_eq!(condition_of("FROM a |> EXTEND 1 AS n |> SELECT n").await, "AMBIGUOUS_REFERENCE");
}
