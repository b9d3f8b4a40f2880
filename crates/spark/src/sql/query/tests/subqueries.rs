//! Subqueries in expressions; what is expected is what Spark 4.2 gives.

use super::{run, same_rows};

pub(super) const TABLES: &str = "WITH
    a AS (SELECT * FROM VALUES (1, 'x', 10), (2, 'y', NULL), (3, 'x', 3), (NULL, 'z', 4) AS v(id, k, n)),
    b AS (SELECT * FROM VALUES (1, 'x', 1), (3, 'x', 2), (3, 'y', 3), (NULL, 'w', 4) AS v(id, k, m)),
    c AS (SELECT * FROM VALUES (1, 5), (3, 6) AS v(id, q)),
    l AS (SELECT * FROM VALUES (1, array(1, 2)), (2, array()), (3, NULL), (4, array(7)) AS v(id, arr))
";

/// Runs queries over the tables; a query without rows gives no names either.
pub(super) async fn check(cases: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        match run(&format!("{TABLES}{sql}")).await {
            Ok(found) if same_rows(sql, &found, expected) => {}
            Ok(found) => wrong.push(format!("{sql}\n  found    {found}\n  expected {expected}")),
            Err(error) => wrong.push(format!("{sql}\n  {error}\n  expected {expected}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

pub(super) async fn condition_of(sql: &str) -> String {
    let error = run(&format!("{TABLES}{sql}")).await.expect_err(sql);
    error.condition().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn existence_in_a_select_list() {
    check(&[
        ("SELECT id, EXISTS (SELECT 1 FROM b WHERE b.id = a.id) AS has FROM a ORDER BY n", "id,has / 2,false / 3,true / ,false / 1,true"),
        ("SELECT id, EXISTS (SELECT 1 FROM b WHERE b.id = a.id) FROM a ORDER BY n", "id,exists(id) / 2,false / 3,true / ,false / 1,true"),
        ("SELECT id, NOT EXISTS (SELECT 1 FROM b WHERE b.id = a.id) FROM a ORDER BY n", "id,(NOT exists(id)) / 2,true / 3,false / ,true / 1,false"),
        ("SELECT id, EXISTS (SELECT 1 FROM b WHERE b.k = a.k UNION ALL SELECT 1 FROM c WHERE c.id = a.id) AS e FROM a ORDER BY n", "id,e / 2,true / 3,true / ,false / 1,true"),
        ("SELECT id, EXISTS (SELECT max(m) FROM b WHERE b.id = a.id) AS e FROM a ORDER BY n", "id,e / 2,true / 3,true / ,true / 1,true"),
        ("SELECT id, EXISTS (SELECT 1 FROM b WHERE b.id = a.id LIMIT 0) AS e FROM a ORDER BY n", "id,e / 2,false / 3,false / ,false / 1,false"),
        ("SELECT id, EXISTS (SELECT 1 FROM b WHERE 1 = 0) AS e, EXISTS (SELECT * FROM b) AS f FROM a ORDER BY n", "id,e,f / 2,false,true / 3,false,true / ,false,true / 1,false,true"),
        ("SELECT EXISTS (SELECT 1 FROM b)", "exists() / true"),
        ("SELECT id, exists (SELECT 1 FROM b WHERE b.id = a.id) AND k = 'x' AS e FROM a ORDER BY n", "id,e / 2,false / 3,true / ,false / 1,true"),
    ])
    .await;
}

#[tokio::test]
async fn in_and_not_in_are_true_or_false() {
    check(&[
        ("SELECT id, id IN (SELECT id FROM b) FROM a ORDER BY n", "id,(id IN (listquery())) / 2,false / 3,true / ,false / 1,true"),
        ("SELECT id, id IN (SELECT id FROM c) r FROM a ORDER BY n", "id,r / 2,false / 3,true / ,false / 1,true"),
        ("SELECT id, id NOT IN (SELECT id FROM c) FROM a ORDER BY n", "id,(NOT (id IN (listquery()))) / 2,true / 3,false / ,false / 1,false"),
        ("SELECT id, id NOT IN (SELECT id FROM b) r FROM a ORDER BY n", "id,r / 2,false / 3,false / ,false / 1,false"),
        ("SELECT id, id IN (SELECT id FROM c WHERE id > 100) r FROM a ORDER BY n", "id,r / 2,false / 3,false / ,false / 1,false"),
        ("SELECT id, id NOT IN (SELECT id FROM b WHERE b.k = a.k) r FROM a ORDER BY n", "id,r / 2,true / 3,false / ,true / 1,false"),
        ("SELECT id, id IN (SELECT id FROM b WHERE b.k <> a.k) r FROM a ORDER BY n", "id,r / 2,false / 3,true / ,false / 1,false"),
        ("SELECT id, CASE WHEN EXISTS (SELECT 1 FROM b WHERE b.id = a.id AND b.m > a.n) THEN 'late' WHEN id IN (SELECT id FROM c) THEN 'c' ELSE 'none' END AS f FROM a ORDER BY n", "id,f / 2,none / 3,c / ,none / 1,c"),
        ("SELECT id FROM a WHERE NOT (id IN (SELECT id FROM b)) OR k = 'nope'", ""),
        ("SELECT id FROM a WHERE id NOT IN (SELECT id FROM b WHERE b.k = a.k) ORDER BY n", "id / 2 / "),
        ("SELECT id FROM a WHERE (id, k) IN (SELECT id, k FROM b) ORDER BY n", "id / 3 / 1"),
        ("SELECT id, (id, k) IN (SELECT id, k FROM b) r FROM a ORDER BY n", "id,r / 2,false / 3,true / ,false / 1,true"),
        ("SELECT id, (id, k) NOT IN (SELECT id, k FROM b) r FROM a ORDER BY n", "id,r / 2,true / 3,false / ,true / 1,false"),
        ("SELECT id, k IN (SELECT max(k) FROM b WHERE b.id = a.id) AS e FROM a ORDER BY n", "id,e / 2,false / 3,false / ,false / 1,true"),
        ("SELECT id, '3' IN (SELECT id FROM b) AS e FROM a ORDER BY n", "id,e / 2,true / 3,true / ,true / 1,true"),
        ("SELECT 3 IN (SELECT id FROM b) AS x", "x / true"),
    ])
    .await;
}

#[tokio::test]
async fn existence_elsewhere() {
    check(&[
        ("SELECT sum(CASE WHEN EXISTS (SELECT 1 FROM b WHERE b.id = a.id) THEN 1 ELSE 0 END) AS s, count_if(id IN (SELECT id FROM c)) AS t FROM a", "s,t / 2,2"),
        ("SELECT k, count(*) AS c FROM a GROUP BY k HAVING EXISTS (SELECT 1 FROM b WHERE b.k = a.k) ORDER BY k", "k,c / x,2 / y,1"),
        ("SELECT k, EXISTS (SELECT 1 FROM b WHERE b.k = a.k) AS e, count(*) c FROM a GROUP BY k ORDER BY k", "k,e,c / x,true,2 / y,true,1 / z,false,1"),
        ("SELECT k, count(*) AS c FROM a GROUP BY k HAVING count(*) IN (SELECT q - 4 FROM c) ORDER BY k", "k,c / x,2 / y,1 / z,1"),
        ("SELECT k, count(*) AS c FROM a GROUP BY k HAVING count(*) > (SELECT min(m) FROM b WHERE b.k = a.k) ORDER BY k", "k,c / x,2"),
        ("SELECT EXISTS (SELECT 1 FROM b WHERE b.id = a.id) AS e, count(*) AS c FROM a GROUP BY EXISTS (SELECT 1 FROM b WHERE b.id = a.id) ORDER BY 1", "e,c / false,2 / true,2"),
        ("SELECT EXISTS (SELECT 1 FROM b WHERE b.id = a.id) AS e, count(*) AS c FROM a GROUP BY 1 ORDER BY 1", "e,c / false,2 / true,2"),
        ("SELECT a.id, b.m FROM a JOIN b ON a.id = b.id AND EXISTS (SELECT 1 FROM c WHERE c.id = a.id AND c.q = 6) ORDER BY 2", "id,m / 3,2 / 3,3"),
        ("SELECT a.id, b.m FROM a LEFT JOIN b ON a.id = b.id AND b.id IN (SELECT id FROM c WHERE q = 6) ORDER BY a.n, 2", "id,m / 2, / 3,2 / 3,3 / , / 1,"),
        ("SELECT a.id, b.m FROM a LEFT JOIN b ON a.id = b.id AND EXISTS (SELECT 1 FROM c WHERE c.id = b.id AND c.q = 6) ORDER BY a.n, 2", "id,m / 2, / 3,2 / 3,3 / , / 1,"),
        ("SELECT a.id, b.m FROM a LEFT JOIN b ON a.id = b.id AND EXISTS (SELECT 1 FROM c WHERE c.id = a.id AND c.q = 6) ORDER BY a.n, 2", "id,m / 2, / 3,2 / 3,3 / , / 1,"),
        ("SELECT id, row_number() OVER (PARTITION BY (SELECT max(q) FROM c WHERE c.id = a.id) ORDER BY n) r FROM a ORDER BY n", "id,r / 2,1 / 3,1 / ,2 / 1,1"),
    ])
    .await;
}

#[tokio::test]
async fn values_are_looked_up() {
    check(&[
        ("SELECT id, (SELECT count(*) FROM b WHERE b.id <= a.id) AS c FROM a ORDER BY n", "id,c / 2,1 / 3,3 / ,0 / 1,1"),
        ("SELECT id, (SELECT sum(m) FROM b WHERE b.id <= a.id AND b.k = a.k) AS c FROM a ORDER BY n", "id,c / 2, / 3,3 / , / 1,1"),
        ("SELECT id, (SELECT m FROM b WHERE b.id = a.id ORDER BY m DESC LIMIT 1) AS c FROM a ORDER BY n", "id,c / 2, / 3,3 / , / 1,1"),
        ("SELECT sum((SELECT max(q) FROM c WHERE c.id = a.id)) AS c FROM a", "c / 11"),
        ("SELECT id, (SELECT count(*) FROM b WHERE b.id = a.id HAVING count(*) > 1) AS c FROM a ORDER BY n", "id,c / 2, / 3,2 / , / 1,"),
        ("SELECT id, coalesce((SELECT first(m) FROM b WHERE b.id = a.id), 0) AS c FROM a ORDER BY n", "id,c / 2,0 / 3,2 / ,0 / 1,1"),
        ("SELECT id, (SELECT count(DISTINCT b.k) FROM b JOIN c ON b.id = c.id WHERE c.q > a.n) AS c FROM a ORDER BY n", "id,c / 2,0 / 3,2 / ,2 / 1,0"),
    ])
    .await;
}

#[tokio::test]
async fn columns_are_named_as_spark_names_them() {
    check(&[
        (
            "SELECT EXISTS (SELECT 1 FROM b WHERE b.m > a.n AND a.id = b.id AND a.id > 0) FROM a",
            "exists(n, id, id) / false / false / false / false",
        ),
        (
            "SELECT (SELECT max(m) FROM b WHERE b.m > n AND a.id = b.id AND a.id > 0) FROM a",
            "scalarsubquery(n, id, id) /  /  /  / ",
        ),
        (
            "SELECT n NOT IN (SELECT m FROM b WHERE a.k = b.k) FROM a",
            "(NOT (n IN (listquery(k)))) / true / false / true / true",
        ),
        (
            "SELECT (id, k) IN (SELECT id, k FROM b) FROM a",
            "(named_struct('id', id, 'k', k) IN (listquery())) / true / false / true / false",
        ),
        (
            "SELECT (SELECT max(m) FROM b), (SELECT max(m) AS z FROM b) FROM a",
            "scalarsubquery(),scalarsubquery() / 4,4 / 4,4 / 4,4 / 4,4",
        ),
        (
            "SELECT CASE WHEN EXISTS (SELECT 1 FROM b WHERE b.id = a.id) THEN 1 END FROM a",
            "CASE WHEN exists(id) THEN 1 END / 1 /  / 1 / ",
        ),
        (
            "SELECT sum(CASE WHEN EXISTS (SELECT 1 FROM b WHERE b.id = a.id) THEN 1 END) FROM a",
            "sum(CASE WHEN exists(id) THEN 1 END) / 2",
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_spark_refuses_is_refused() {
    for (sql, condition) in [
        (
            "SELECT a.id FROM a LEFT JOIN b ON a.id = b.id AND EXISTS (SELECT 1 FROM c WHERE c.id = a.id AND c.q > b.m)",
            "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_CORRELATED_EXPRESSION_IN_JOIN_CONDITION",
        ),
        (
            "SELECT id FROM a ORDER BY EXISTS (SELECT 1 FROM b WHERE b.id = a.id)",
            "UNSUPPORTED_SUBQUERY_EXPRESSION_CATEGORY.UNSUPPORTED_IN_EXISTS_SUBQUERY",
        ),
        ("SELECT id, (SELECT m FROM b WHERE b.id = a.id) AS c FROM a", "SCALAR_SUBQUERY_TOO_MANY_ROWS"),
    ] {
        assert_eq!(condition_of(sql).await, condition, "{sql}");
    }
}
