//! Types that meet, NULL and NaN where constructs are combined.

use super::rows;

const VALUES: &str =
    "(VALUES (true, 1, 5L, 1.5D), (false, 2, 7L, double('NaN')), (false, NULL, 9L, 2.5D)) t(b, n, l, d)";

/// An operand that is a CASE has the type all its branches meet at, not that of the first.
#[tokio::test]
async fn branches_of_an_operand_meet() {
    for (expression, expected) in [
        ("CASE WHEN b THEN n ELSE 0.5D END * l", "5.0 / 3.5 / 4.5"),
        ("coalesce(CASE WHEN b THEN n ELSE 0.5D END, 1) * l", "5.0 / 3.5 / 4.5"),
        ("sum(CASE WHEN b THEN 0 ELSE 1.5D END) OVER (ORDER BY l) * 2L", "0.0 / 3.0 / 6.0"),
        ("CASE WHEN b THEN n ELSE 's' END = '1'", "true / false / false"),
        ("CAST(CASE WHEN b THEN n ELSE 0.5D END AS STRING)", "1.0 / 0.5 / 0.5"),
    ] {
        let got = rows(&format!("SELECT {expression} AS x FROM {VALUES} ORDER BY l")).await;
        assert_eq!(got, format!("x / {expected}"), "{expression}");
    }
}

/// So has a column of a UNION, and the key of a join.
#[tokio::test]
async fn branches_of_columns_meet() {
    let case = format!("SELECT CASE WHEN b THEN n ELSE 0.5D END AS x FROM {VALUES}");
    assert_eq!(rows(&format!("{case} UNION ALL SELECT 7L ORDER BY x")).await, "x / 0.5 / 0.5 / 1.0 / 7.0");
    assert_eq!(
        rows(&format!("SELECT o.k FROM ({case}) c JOIN (VALUES (0.5BD, 'h')) o(x, k) ON c.x = o.x")).await,
        "k / h / h"
    );
    assert_eq!(
        rows(&format!("SELECT CASE WHEN b THEN n ELSE 0.5D END AS x, count(*) AS c FROM {VALUES} GROUP BY CASE WHEN b THEN n ELSE 0.5D END ORDER BY x")).await,
        "x,c / 0.5,2 / 1.0,1"
    );
}

/// As in UNION: values of two types are compared in the one at which they meet.
#[tokio::test]
async fn sides_of_set_operations_meet() {
    assert_eq!(rows("SELECT a FROM VALUES ('5'), ('05') t(a) INTERSECT SELECT 5").await, "a / 5");
    assert_eq!(rows("SELECT a FROM VALUES ('5'), ('05') t(a) EXCEPT SELECT 5").await, "a / 05");
    assert_eq!(rows("SELECT 5 AS a EXCEPT SELECT '05'").await, "a / 5");
    assert_eq!(
        rows("SELECT typeof(a) AS t, a FROM (SELECT 2 AS a INTERSECT SELECT 2L UNION SELECT 3) ORDER BY a").await,
        "t,a / bigint,2 / bigint,3"
    );
    assert_eq!(rows("SELECT n FROM VALUES (1), (1), (NULL), (2) t(n) MINUS SELECT 2 ORDER BY n").await, "n /  / 1");
}

/// Of values that may be NULL nobody knows that another is not among them.
#[tokio::test]
async fn constants_that_are_not_in_a_subquery() {
    let known = "(SELECT customerId FROM people)";
    let unknown = "(SELECT amount FROM people)";
    assert_eq!(rows(&format!("SELECT 1 AS x WHERE 0 NOT IN {known}")).await, "x / 1");
    assert_eq!(rows(&format!("SELECT 1 AS x WHERE 0 NOT IN {unknown}")).await, "");
    assert_eq!(rows(&format!("SELECT 1 AS x WHERE CAST(NULL AS INT) NOT IN {known}")).await, "");
    assert_eq!(rows(&format!("SELECT 1 AS x WHERE 2 IN {known}")).await, "x / 1");
}

/// Wherever it stands among the rows of a group.
#[tokio::test]
async fn nan_is_the_greatest_number() {
    let floats = "(VALUES ('a', double('NaN')), ('a', 5D), ('b', 1D), ('b', double('NaN')), ('c', NULL)) t(g, d)";
    for (kind, most, least) in [("double", "NaN", "5.0"), ("float", "NaN", "5.0")] {
        let query = format!(
            "SELECT g, max({kind}(d)) AS most, min({kind}(d)) AS least, max(d) FILTER (WHERE d < 3) AS few FROM {floats} GROUP BY g ORDER BY g"
        );
        assert_eq!(rows(&query).await, format!("g,most,least,few / a,{most},{least}, / b,NaN,1.0,1.0 / c,,,"));
    }
}

#[tokio::test]
async fn there_is_no_total_of_no_rows() {
    for groups in ["ROLLUP(b)", "CUBE(b)", "GROUPING SETS ((b), ())"] {
        let query = |filter: &str| {
            format!("SELECT b, count(*) AS c, sum(n) AS s FROM {VALUES} WHERE {filter} GROUP BY {groups} ORDER BY b, c")
        };
        assert_eq!(rows(&query("l < 0")).await, "", "{groups}");
        assert_eq!(rows(&query("l < 8")).await, "b,c,s / ,2,3 / false,1,2 / true,1,1", "{groups}");
    }
    assert_eq!(rows(&format!("SELECT count(*) AS c FROM {VALUES} WHERE l < 0")).await, "c / 0");
    assert_eq!(
        rows(&format!(
            "SELECT b, grouping(b) AS g, count(*) AS c FROM {VALUES} GROUP BY ROLLUP(b) HAVING count(*) > 1 ORDER BY c"
        ))
        .await,
        "b,g,c / false,0,2 / ,1,3"
    );
}

#[tokio::test]
async fn functions_of_lambdas_may_be_negated() {
    assert_eq!(
        rows("SELECT NOT exists(array(1, 2), x -> x > 1) AND true AS a, NOT exists(array(1), x -> x > 1) AS b").await,
        "a,b / false,true"
    );
    assert_eq!(rows("SELECT 1 AS x WHERE NOT EXISTS (SELECT 1 FROM people WHERE customerId > 9)").await, "x / 1");
}

/// A lambda reads its own variables and the columns of its row, whatever projections lie below it.
#[tokio::test]
async fn lambdas_above_other_projections() {
    assert_eq!(
        rows("SELECT transform(tags, x -> x + 1) AS up, n FROM (SELECT *, transform(tags, z -> z * customerId) AS n FROM people) WHERE customerId = 1").await,
        "up,n / [2, 3],[1, 2]"
    );
    assert_eq!(
        rows("SELECT am, exists(tags, y -> y > 1) AS e FROM (SELECT tags, customerId, transform(tags, amount -> amount + customerId) AS am FROM people WHERE amount > 1) ORDER BY am").await,
        "am,e / , / [2, 3],true"
    );
}

#[tokio::test]
async fn distinct_rows_are_counted_by_their_columns() {
    let values = "(VALUES (1, 'a'), (1, 'a'), (2, NULL), (2, 'b')) t(n, s)";
    assert_eq!(rows(&format!("SELECT count(DISTINCT *) AS d, count(*) AS c FROM {values}")).await, "d,c / 2,4");
}

#[tokio::test]
async fn elements_and_fields_of_qualified_names() {
    let row = "(SELECT array(1, 2) AS arr, map('k', 5) AS m, named_struct('l', array(7, 8)) AS s, \
               array(named_struct('k', 1, 'v', 'x'), named_struct('k', 2, 'v', 'y')) AS pairs) p";
    for (expression, expected) in [
        ("p.arr[0]", "arr[0] / 1"),
        ("p.m['k']", "m[k] / 5"),
        ("p.s.l[1]", "s.l[1] / 8"),
        ("p.pairs[0].v", "pairs[0].v / x"),
        ("pairs.k[1]", "pairs.k[1] / 2"),
        ("filter(pairs, e -> e.k > 1).V AS v", "v / [y]"),
        ("transform(pairs, e -> e.k + p.arr[1]) AS t", "t / [3, 4]"),
    ] {
        assert_eq!(rows(&format!("SELECT {expression} FROM {row}")).await, expected, "{expression}");
    }
}

#[tokio::test]
async fn tuples_among_tuples() {
    let pairs = "(VALUES (1, 'x'), (2, 'y'), (3, 'x')) t(id, k)";
    let query = format!("SELECT id FROM {pairs} WHERE (id, k) IN ((1, 'x'), (3L, 'y'), (2, 'y')) ORDER BY id");
    assert_eq!(rows(&query).await, "id / 1 / 2");
}

#[tokio::test]
async fn grouping_sets_of_positions() {
    let rows_of = "(VALUES ('a', 1), ('a', 2), ('b', 4)) t(k, n)";
    assert_eq!(
        rows(&format!("SELECT k, n % 2 AS odd, sum(n) AS s FROM {rows_of} GROUP BY ROLLUP(1, 2) ORDER BY k, odd"))
            .await,
        "k,odd,s / ,,7 / a,,3 / a,0,2 / a,1,1 / b,,4 / b,0,4"
    );
}

/// As in Spark, also within an expression a name in ORDER BY is the output's before it is the input's.
#[tokio::test]
async fn order_by_sees_the_output_first() {
    let rows_of = "(VALUES ('b', 3, named_struct('z', 1)), ('a', 1, named_struct('z', 3)), ('C', 2, named_struct('z', 2))) t(k, n, s)";
    for (query, expected) in [
        (format!("SELECT upper(k) AS k FROM {rows_of} ORDER BY concat(k, 'x')"), "k / A / B / C"),
        (format!("SELECT n AS m, -n AS n FROM {rows_of} ORDER BY n * 2"), "m,n / 3,-3 / 2,-2 / 1,-1"),
        (format!("SELECT DISTINCT -n AS n FROM {rows_of} ORDER BY n + 1"), "n / -3 / -2 / -1"),
        (
            format!("SELECT -n AS n, count(*) AS c FROM {rows_of} GROUP BY t.n ORDER BY n * 2"),
            "n,c / -3,1 / -2,1 / -1,1",
        ),
        (format!("SELECT k, -sum(n) AS n FROM {rows_of} GROUP BY k ORDER BY n * 2 DESC"), "k,n / a,-1 / C,-2 / b,-3"),
        (format!("SELECT s.z AS s FROM {rows_of} ORDER BY s.z DESC"), "s / 3 / 2 / 1"),
        (format!("SELECT k, sum(n) AS n FROM {rows_of} GROUP BY k ORDER BY sum(n)"), "k,n / a,1 / C,2 / b,3"),
    ] {
        assert_eq!(rows(&query).await, expected, "{query}");
    }
}
