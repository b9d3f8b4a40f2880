//! `LATERAL`, and generators with several columns; what is expected is what Spark 4.2 gives.

use super::subqueries::{check, condition_of};

#[tokio::test]
async fn subqueries_see_what_stands_before_them() {
    check(&[
        ("SELECT * FROM a, LATERAL (SELECT m FROM b WHERE b.id = a.id) ORDER BY n, m", "id,k,n,m / 3,x,3,2 / 3,x,3,3 / 1,x,10,1"),
        ("SELECT * FROM a, LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ORDER BY n, m", "id,k,n,m / 3,x,3,2 / 3,x,3,3 / 1,x,10,1"),
        ("SELECT a.id, t.q FROM a, LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t(q) ORDER BY n, q", "id,q / 3,2 / 3,3 / 1,1"),
        ("SELECT a.id, t.m FROM a JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ORDER BY n, m", "id,m / 3,2 / 3,3 / 1,1"),
        ("SELECT a.id, t.m FROM a JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ON t.m > 1 ORDER BY n, m", "id,m / 3,2 / 3,3"),
        ("SELECT a.id, t.m FROM a LEFT JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ON true ORDER BY n, m", "id,m / 2, / 3,2 / 3,3 / , / 1,1"),
        ("SELECT a.id, t.m FROM a LEFT JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ON t.m > 1 ORDER BY n, m", "id,m / 2, / 3,2 / 3,3 / , / 1,"),
        ("SELECT a.id, t.m FROM a LEFT JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ORDER BY n, m", "id,m / 2, / 3,2 / 3,3 / , / 1,1"),
        ("SELECT a.id, t.m FROM a CROSS JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ORDER BY n, m", "id,m / 3,2 / 3,3 / 1,1"),
        ("SELECT a.id, t.m FROM a LEFT JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id ORDER BY m DESC LIMIT 1) AS t ORDER BY n, m", "id,m / 2, / 3,3 / , / 1,1"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT count(*) AS c, sum(m) AS s FROM b WHERE b.id <= a.id) AS t ORDER BY n", "id,c,s / 2,1,1 / 3,3,6 / ,0, / 1,1,1"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT b.k, count(*) AS c FROM b WHERE b.id <= a.id GROUP BY b.k) AS t ORDER BY n, t.k", "id,k,c / 2,x,1 / 3,x,2 / 3,y,1 / 1,x,1"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT a.n + 1 AS p) AS t ORDER BY n", "id,p / 2, / 3,4 / ,5 / 1,11"),
        ("SELECT a.id, p, q FROM a, LATERAL (SELECT a.n + 1 AS p), LATERAL (SELECT p * 2 AS q) ORDER BY n", "id,p,q / 2,, / 3,4,8 / ,5,10 / 1,11,22"),
        ("SELECT a.id, p, q FROM a JOIN LATERAL (SELECT a.n + 1 AS p) JOIN LATERAL (SELECT p * 2 AS q) ORDER BY n", "id,p,q / 2,, / 3,4,8 / ,5,10 / 1,11,22"),
        ("SELECT a.id, t.m FROM a, LATERAL (SELECT m FROM b WHERE b.id = a.id UNION ALL SELECT a.n) AS t ORDER BY n, m", "id,m / 2, / 3,2 / 3,3 / 3,3 / ,4 / 1,1 / 1,10"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT m, row_number() OVER (ORDER BY m DESC) AS r FROM b WHERE b.id = a.id) AS t ORDER BY n, m", "id,m,r / 3,2,2 / 3,3,1 / 1,1,1"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT DISTINCT k FROM b WHERE b.id <= a.id) AS t ORDER BY n, t.k", "id,k / 2,x / 3,x / 3,y / 1,x"),
        ("SELECT a.id, t.* FROM a, LATERAL (SELECT b.m, c.id AS cid FROM b LEFT JOIN (SELECT 1 AS id) c ON b.id = c.id AND a.id = 1 WHERE b.id = a.id) AS t ORDER BY n, m", "id,m,cid / 3,2, / 3,3, / 1,1,1"),
        ("SELECT a.id, b.m, t.z FROM a JOIN b ON a.id = b.id, LATERAL (SELECT a.n + b.m AS z) AS t ORDER BY 3", "id,m,z / 3,2,5 / 3,3,6 / 1,1,11"),
        ("SELECT a.id, t.m FROM a, LATERAL (SELECT m FROM b) AS t WHERE a.n = 10 ORDER BY m", "id,m / 1,1 / 1,2 / 1,3 / 1,4"),
    ])
    .await;
}

#[tokio::test]
async fn generators_are_relations() {
    check(&[
        ("SELECT l.id, t.x FROM l, LATERAL explode(arr) AS t(x) ORDER BY 1, 2", "id,x / 1,1 / 1,2 / 4,7"),
        ("SELECT l.id, x FROM l, LATERAL explode_outer(arr) AS t(x) ORDER BY 1, 2", "id,x / 1,1 / 1,2 / 2, / 3, / 4,7"),
        (
            "SELECT * FROM l, LATERAL posexplode(arr) ORDER BY 1, 3",
            "id,arr,pos,col / 1,[1, 2],0,1 / 1,[1, 2],1,2 / 4,[7],0,7",
        ),
        (
            "SELECT * FROM l, LATERAL posexplode(arr) AS t(p, c) ORDER BY 1, 3",
            "id,arr,p,c / 1,[1, 2],0,1 / 1,[1, 2],1,2 / 4,[7],0,7",
        ),
        ("SELECT l.id, x FROM l JOIN LATERAL explode(l.arr) AS t(x) ORDER BY 1, 2", "id,x / 1,1 / 1,2 / 4,7"),
        (
            "SELECT l.id, x FROM l LEFT JOIN LATERAL explode(l.arr) AS t(x) ON x > 1 ORDER BY 1, 2",
            "id,x / 1,2 / 2, / 3, / 4,7",
        ),
        ("SELECT l.id, x FROM l JOIN LATERAL explode(l.arr) AS t(x) ON x > 1 ORDER BY 1, 2", "id,x / 1,2 / 4,7"),
        (
            "SELECT id, k, v FROM a, LATERAL stack(2, 'n', n, 'id', id) AS t(kk, v) ORDER BY n, kk",
            "id,k,v / 2,y,2 / 2,y, / 3,x,3 / 3,x,3 / ,z, / ,z,4 / 1,x,1 / 1,x,10",
        ),
        ("SELECT * FROM explode(array(1, 2)) AS t(x)", "x / 1 / 2"),
        ("SELECT * FROM explode(array(1, 2))", "col / 1 / 2"),
        ("SELECT * FROM stack(2, 1, 2, 3)", "col0,col1 / 1,2 / 3,"),
        ("SELECT * FROM inline(array(struct(1 AS a, 'b' AS b)))", "a,b / 1,b"),
        (
            "SELECT * FROM range(3), LATERAL explode(sequence(0, CAST(id AS INT))) AS t(x) ORDER BY 1, 2",
            "id,x / 0,0 / 1,0 / 1,1 / 2,0 / 2,1 / 2,2",
        ),
        ("SELECT * FROM LATERAL explode(array(1, 2))", "col / 1 / 2"),
        ("SELECT id, x FROM l, LATERAL (SELECT explode(l.arr) AS x) ORDER BY 1, 2", "id,x / 1,1 / 1,2 / 4,7"),
        (
            "SELECT id, x FROM l, LATERAL (SELECT x FROM explode(l.arr) AS t(x) WHERE x > 1) ORDER BY 1, 2",
            "id,x / 1,2 / 4,7",
        ),
        (
            "SELECT id, (SELECT max(x) FROM explode(l.arr) AS t(x)) AS mx FROM l ORDER BY id",
            "id,mx / 1,2 / 2, / 3, / 4,7",
        ),
    ])
    .await;
}

#[tokio::test]
async fn generators_name_their_columns() {
    check(&[
        ("SELECT j, a, b FROM VALUES ('{\"a\":1,\"b\":\"x\"}'), ('{\"a\":2}'), (NULL) AS v(j) LATERAL VIEW json_tuple(j, 'a', 'b') t AS a, b", "j,a,b / {\"a\":1,\"b\":\"x\"},1,x / {\"a\":2},2, / ,,"),
        ("SELECT json_tuple(j, 'a', 'b') AS (a, b) FROM VALUES ('{\"a\":1,\"b\":\"x\"}'), ('{\"a\":{\"z\":2}}'), (NULL) AS v(j)", "a,b / 1,x / {\"z\":2}, / ,"),
        ("SELECT json_tuple(j, 'a', 'b') FROM VALUES ('{\"a\":1,\"b\":\"x\"}'), ('{\"a\":2}'), (NULL) AS v(j)", "c0,c1 / 1,x / 2, / ,"),
        ("SELECT j, json_tuple(j, 'a') AS a FROM VALUES ('{\"a\":1,\"b\":\"x\"}'), ('nope'), (NULL) AS v(j)", "j,a / {\"a\":1,\"b\":\"x\"},1 / nope, / ,"),
        ("SELECT j, json_tuple(j, 'a') FROM VALUES ('{\"a\":1,\"b\":\"x\"}'), ('[1]'), (NULL) AS v(j)", "j,c0 / {\"a\":1,\"b\":\"x\"},1 / [1], / ,"),
        ("SELECT posexplode(array(5, 6)) AS (p, c)", "p,c / 0,5 / 1,6"),
        ("SELECT stack(2, 1, 'a', 2, 'b') AS (n, s)", "n,s / 1,a / 2,b"),
        ("SELECT 0 AS z, explode(array(1, 2)) AS (x) FROM range(1)", "z,x / 0,1 / 0,2"),
    ])
    .await;
    assert_eq!(
        condition_of("SELECT json_tuple(j, 'a', 'b') AS (a) FROM VALUES ('{}') AS v(j)").await,
        "UDTF_ALIAS_NUMBER_MISMATCH"
    );
    assert_eq!(
        condition_of("SELECT json_tuple(j) FROM VALUES ('{}') AS v(j)").await,
        "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"
    );
}

#[tokio::test]
async fn joins_that_cannot_be_lateral_are_refused() {
    let right = "SELECT a.id FROM a RIGHT JOIN LATERAL (SELECT m FROM b WHERE b.id = a.id) AS t ON true";
    assert_eq!(condition_of(right).await, "INVALID_LATERAL_JOIN_TYPE");
    let unknown = "SELECT * FROM a, LATERAL (SELECT m FROM b WHERE b.id = zz.id)";
    assert_eq!(condition_of(unknown).await, "UNRESOLVED_COLUMN.WITH_SUGGESTION");
}
