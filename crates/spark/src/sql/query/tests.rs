#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlanBuilder;

use super::*;
use crate::conf::SparkConf;
use crate::error::Error;
use crate::relation::UnresolvedRelation;
use crate::session::{SessionOptions, session_context};

mod functions;
mod lateral;
mod pipes;
mod recursive;
mod sets;
mod subqueries;
mod types;
mod windows;

struct Memory(SessionContext);

fn people() -> RecordBatch {
    let address = StructArray::from(vec![(
        Arc::new(Field::new("City", DataType::Utf8, true)),
        Arc::new(StringArray::from(vec![Some("Rome"), Some("Oslo"), None])) as ArrayRef,
    )]);
    let tags = arrow::array::ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
        Some(vec![Some(1), Some(2)]),
        Some(vec![]),
        None,
    ]);
    RecordBatch::try_from_iter_with_nullable(vec![
        ("customerId", Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef, true),
        ("Order ID", Arc::new(StringArray::from(vec!["a", "b", "c"])), true),
        ("amount", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(4.0)])), true),
        ("address", Arc::new(address), true),
        ("tags", Arc::new(tags), true),
        ("js", Arc::new(StringArray::from(vec![r#"{"a":{"b":7}}"#, "{}", "x"])), true),
    ])
    .unwrap()
}

#[async_trait]
impl RelationResolver for Memory {
    async fn resolve(&self, request: &RelationRequest) -> Result<LogicalPlan> {
        let name = match &request.relation {
            UnresolvedRelation::Table { name, .. } => name.0.last().unwrap().to_lowercase(),
            UnresolvedRelation::Source { .. } => "people".to_owned(),
            UnresolvedRelation::EventLog { .. } => "event_log".to_owned(),
        };
        let batch = match name.as_str() {
            "people" => people(),
            "cities" => RecordBatch::try_from_iter(vec![
                ("CustomerID", Arc::new(Int32Array::from(vec![1, 3, 4])) as ArrayRef),
                ("city", Arc::new(StringArray::from(vec!["Rome", "Bern", "Riga"]))),
            ])
            .unwrap(),
            _ => return Err(Error::user(format!("table `{name}` not found")).with_condition("TABLE_OR_VIEW_NOT_FOUND")),
        };
        let table = self.0.read_batch(batch).unwrap().into_unoptimized_plan();
        Ok(LogicalPlanBuilder::from(table).build().unwrap())
    }
}

fn location() -> SourceLocation {
    SourceLocation::new("q.sql", 1, 1)
}

async fn run(sql: &str) -> Result<String> {
    let ctx = context();
    let plan = plan_query(&ctx, &parse_query(sql, &location())?, &Memory(ctx.clone())).await?;
    let batches = ctx.execute_logical_plan(plan).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    Ok(table.lines().filter(|line| line.starts_with('|')).map(cells).collect::<Vec<_>>().join(" / "))
}

/// Whether both texts of [`run`] hold the same rows, in the same order if the query asks for one.
fn same_rows(sql: &str, found: &str, expected: &str) -> bool {
    let asks_for_order = sql.rfind("ORDER BY").is_some_and(|at| {
        let rest = &sql[at..];
        rest.matches(')').count() == rest.matches('(').count()
    });
    if asks_for_order {
        return found == expected;
    }
    let sorted = |text: &str| {
        let mut rows: Vec<_> = text.split(" / ").map(str::to_owned).collect();
        rows[1..].sort_unstable();
        rows
    };
    sorted(found) == sorted(expected)
}

async fn rows(sql: &str) -> String {
    match run(sql).await {
        Ok(rows) => rows,
        Err(error) => panic!("{sql}: {error}"),
    }
}

async fn failure(sql: &str) -> (String, String) {
    let error = run(sql).await.expect_err(sql);
    (error.condition().unwrap_or_default().to_owned(), error.location().unwrap().to_string())
}

#[tokio::test]
async fn names_are_found_in_any_case_and_keep_the_spelling_of_the_query() {
    assert_eq!(
        rows("SELECT CUSTOMERID, `order id`, p.Address.city FROM people p WHERE P.customerid = 1").await,
        "CUSTOMERID,order id,city / 1,a,Rome"
    );
    assert_eq!(
        rows("SELECT main.s.people.amount FROM main.s.people WHERE s.People.customerId = 3").await,
        "amount / 4.0"
    );
    assert_eq!(rows("SELECT address.* FROM LIVE.people LIMIT 1").await, "City / Rome");
    assert_eq!(
        rows("SELECT * EXCEPT (ADDRESS, tags, js, amount) FROM people ORDER BY 1 DESC").await,
        "customerId,Order ID / 3,c / 2,b / 1,a"
    );
}

#[tokio::test]
async fn unnamed_columns_have_sparks_names() {
    assert_eq!(
        rows("SELECT count(*), sum(customerId), upper('x'), (customerId + 1) AS y FROM people GROUP BY ALL ORDER BY y LIMIT 1").await,
        "count(1),sum(customerId),upper(x),y / 1,1,X,2"
    );
    assert_eq!(rows("SELECT customerId + 1 FROM people LIMIT 1").await, "(customerId + 1) / 2");
    for (expression, name) in [
        ("upper(p.`Order ID`)", "upper(Order ID)"),
        ("length(p.address.city)", "length(address.city)"),
        ("int(amount)", "amount"),
        ("string(amount) || 'x'", "concat(amount, x)"),
        ("TRY_CAST(amount AS INT)", "amount"),
        ("js IS NOT TRUE", "(NOT (js <=> true))"),
        ("CASE customerId WHEN 1 THEN 2 END", "CASE WHEN (customerId = 1) THEN 2 END"),
        (
            "transform(tags, t -> t + customerId)",
            "transform(tags, lambdafunction((namedlambdavariable() + customerId), namedlambdavariable()))",
        ),
        ("if(true, 1, 2)", "(IF(true, 1, 2))"),
        ("1e3", "1000.0"),
        ("5L", "5"),
        ("-1.5D", "-1.5"),
        ("customerId <> 2L", "(NOT (customerId = 2))"),
        ("+customerId", "(+ customerId)"),
        (
            "TIMESTAMP'2024-01-01T00:00:00Z' + INTERVAL 1 DAY 2 HOURS",
            "TIMESTAMP '2024-01-01 00:00:00' + INTERVAL '1 02' DAY TO HOUR",
        ),
        (
            "sum(amount) OVER (PARTITION BY p.customerId)",
            "sum(amount) OVER (PARTITION BY customerId ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)",
        ),
        (
            "rank() OVER (ORDER BY amount DESC)",
            "RANK() OVER (ORDER BY amount DESC NULLS LAST ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)",
        ),
        (
            "lag(amount) OVER w",
            "lag(amount, 1, NULL) OVER (ORDER BY customerId ASC NULLS FIRST ROWS BETWEEN -1 FOLLOWING AND -1 FOLLOWING)",
        ),
    ] {
        let ctx = context();
        let sql = format!("SELECT {expression} FROM people p WINDOW w AS (ORDER BY customerId)");
        let query = parse_query(&sql, &location()).expect(&sql);
        let plan = plan_query(&ctx, &query, &Memory(ctx.clone())).await.expect(&sql);
        assert_eq!(plan.schema().field(0).name(), name, "{sql}");
    }
}

#[tokio::test]
async fn sparks_own_forms_are_planned() {
    for (sql, expected) in [
        ("SELECT 'a' 'b', \"c\" 'd'", "ab,cd / ab,cd"),
        (
            "SELECT to_json(struct(* EXCEPT (address, tags, js))) AS j FROM people WHERE customerId = 1",
            r#"j / {"customerId":1,"Order ID":"a","amount":1.5}"#,
        ),
        (
            "SELECT concat_ws('-', c.*) AS c FROM cities c WHERE city LIKE ANY ('R%e', 'B%') ORDER BY 1",
            "c / 1-Rome / 3-Bern",
        ),
        ("SELECT city FROM cities WHERE city NOT LIKE ALL ('Ro%', 'B%')", "city / Riga"),
        ("SELECT city FROM cities WHERE city ILIKE ALL ('r%', '%A')", "city / Riga"),
        ("SELECT count(DISTINCT customerId, amount) AS n, count(customerId, amount) AS m FROM people", "n,m / 2,2"),
        ("SELECT ~5 AS a, -1 >>> 28 AS b, 1 << 2 AS c", "a,b,c / -6,15,4"),
        ("SELECT x FROM VALUES (1), (2) AS a(x) MINUS SELECT 1", "x / 2"),
        ("SELECT minus FROM VALUES (7) AS t(minus)", "minus / 7"),
        ("SELECT stack(2, 1, 'a', 2) AS (n, s)", "n,s / 1,a / 2,"),
        ("SELECT extract(YEAROFWEEK FROM DATE'2024-12-30') AS y", "y / 2025"),
        ("SELECT listagg(city, ',') WITHIN GROUP (ORDER BY city DESC) AS l FROM cities", "l / Rome,Riga,Bern"),
        (
            "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY x DESC) AS p FROM VALUES (1), (2), (3), (4) AS t(x)",
            "p / 3.0",
        ),
        (
            "SELECT a, grouping_id(a, b) AS g FROM VALUES (1, 2) AS t(a, b) GROUP BY ROLLUP (a, b) ORDER BY 2",
            "a,g / 1,0 / 1,1 / ,3",
        ),
        (
            "SELECT string(CAST(INTERVAL '-3' DAY AS INTERVAL DAY TO SECOND)) AS i",
            "i / INTERVAL '-3 00:00:00' DAY TO SECOND",
        ),
        ("SELECT to_timestamp_ntz('2024-03-05 01:02:03+09:00') AS t", "t / 2024-03-05T01:02:03"),
        ("SELECT 'äb' RLIKE '^\\\\w' AS r, array(1, 2)[1] AS a", "r,a / false,2"),
    ] {
        assert_eq!(rows(sql).await, expected, "{sql}");
    }
    for (sql, condition) in [
        ("SELECT product(x) FROM VALUES (1) AS t(x)", "UNRESOLVED_ROUTINE"),
        ("SELECT * EXCLUDE (city) FROM cities", "PARSE_SYNTAX_ERROR"),
        ("SELECT to_json(struct(* EXCEPT (nothing))) FROM cities", "UNRESOLVED_COLUMN.WITH_SUGGESTION"),
        ("SELECT DATE'2024-02-30'", "INVALID_TYPED_LITERAL"),
        ("SELECT sum(sum(x)) FROM VALUES (1) AS t(x)", "NESTED_AGGREGATE_FUNCTION"),
    ] {
        assert_eq!(failure(sql).await.0, condition, "{sql}");
    }
}

#[tokio::test]
async fn numbers_have_sparks_types() {
    assert_eq!(
        rows("SELECT arrow_typeof(1) a, arrow_typeof(1L) b, arrow_typeof(1.50) c, arrow_typeof(1e3) d, arrow_typeof(2S) e, arrow_typeof(-1Y) f").await,
        "a,b,c,d,e,f / Int32,Int64,Decimal128(3, 2),Float64,Int16,Int8"
    );
}

#[tokio::test]
async fn aliases_ordinals_and_grouping() {
    assert_eq!(rows("SELECT customerId * 2 AS d, d + 1 AS e FROM people WHERE customerId = 2").await, "d,e / 4,5");
    assert_eq!(
        rows("SELECT customerId > 1 AS big, count(*) n FROM people GROUP BY big HAVING n > 1").await,
        "big,n / true,2"
    );
    assert_eq!(
        rows("SELECT customerId > 1 AS big, count(*) n FROM people GROUP BY 1 ORDER BY BIG").await,
        "big,n / false,1 / true,2"
    );
    assert_eq!(
        rows("SELECT customerId > 1 AS big, count(*) n FROM people GROUP BY ROLLUP(customerId > 1) ORDER BY n, big")
            .await,
        "big,n / false,1 / true,2 / ,3"
    );
}

#[tokio::test]
async fn joins_with_using_and_semi() {
    assert_eq!(
        rows("SELECT * FROM cities FULL JOIN (SELECT customerid, amount FROM people) p USING (customerId) ORDER BY customerid").await,
        "CustomerID,city,amount / 1,Rome,1.5 / 2,, / 3,Bern,4.0 / 4,Riga,"
    );
    assert_eq!(
        rows("SELECT customerId FROM people LEFT SEMI JOIN cities c ON people.customerId = c.customerid ORDER BY 1")
            .await,
        "customerId / 1 / 3"
    );
    assert_eq!(
        rows("SELECT p.customerId FROM people p LEFT ANTI JOIN cities c ON p.customerId = c.customerid").await,
        "customerId / 2"
    );
    assert_eq!(rows("SELECT city FROM cities NATURAL JOIN people WHERE amount > 2").await, "city / Bern");
}

#[tokio::test]
async fn subqueries_and_common_table_expressions() {
    assert_eq!(rows("WITH people AS (SELECT customerId AS id FROM people), q(x) AS (SELECT id FROM people) SELECT X FROM q WHERE x > 2").await, "X / 3");
    assert_eq!(
        rows("SELECT customerId FROM people p WHERE EXISTS (SELECT 1 FROM cities c WHERE c.customerid = P.CUSTOMERID) ORDER BY 1").await,
        "customerId / 1 / 3"
    );
    assert_eq!(
        rows("SELECT max(customerId) m FROM people WHERE customerId IN (SELECT customerid FROM cities)").await,
        "m / 3"
    );
    assert_eq!(
        rows("SELECT customerId FROM people UNION ALL SELECT customerid FROM cities ORDER BY CUSTOMERID DESC LIMIT 2")
            .await,
        "customerId / 4 / 3"
    );
    assert_eq!(rows("SELECT col1, t.col2 FROM VALUES (1, 'a'), (2, 'b') t WHERE col1 = 2").await, "col1,col2 / 2,b");
    assert_eq!(rows("SELECT id FROM range(1, 3) ORDER BY id").await, "id / 1 / 2");
    assert_eq!(
        rows("SELECT count(*) AS n, min(id) AS least FROM range(-(2 + 3), 365 * 10)").await,
        "n,least / 3655,-5"
    );
}

#[tokio::test]
async fn columns_may_share_a_name() {
    assert_eq!(rows("SELECT 1, 1").await, "1,1 / 1,1");
    assert_eq!(rows("SELECT id, id AS ID, id FROM range(1)").await, "id,ID,id / 0,0,0");
    assert_eq!(
        rows("SELECT -1 AS k, NULL, NULL UNION ALL SELECT 1, 2, 3 ORDER BY k").await,
        "k,NULL,NULL / -1,, / 1,2,3"
    );
    let joined = "SELECT a.*, b.* FROM VALUES (1, 'x') a(id, n) JOIN VALUES (1, 'y') b(id, n) ON a.id = b.id";
    assert_eq!(rows(joined).await, "id,n,id,n / 1,x,1,y");
    assert_eq!(rows(&format!("SELECT * FROM ({joined})")).await, "id,n,id,n / 1,x,1,y");
    assert_eq!(rows(&format!("WITH j AS ({joined}) SELECT count(*) FROM j")).await, "count(1) / 1");
    assert_eq!(rows(&format!("SELECT i, m FROM ({joined}) AS j(i, n, k, m)")).await, "i,m / 1,y");
    assert_eq!(rows("SELECT count(*), count(*) FROM cities").await, "count(1),count(1) / 3,3");
    let error = failure(&format!("WITH j AS ({joined}) SELECT id FROM j")).await;
    assert_eq!(error.0, "AMBIGUOUS_REFERENCE");
}

#[tokio::test]
async fn names_after_except_may_be_qualified() {
    let tables = "FROM (VALUES (1, 'x')) a(id, n) JOIN (VALUES (1, 'y')) b(id, m) ON a.id = b.id";
    assert_eq!(rows(&format!("SELECT * EXCEPT (b.id) {tables}")).await, "id,n,m / 1,x,y");
    assert_eq!(rows(&format!("SELECT * EXCEPT (a.id, `b`.`id`, n) {tables}")).await, "m / y");
    assert_eq!(failure(&format!("SELECT * EXCEPT (c.id) {tables}")).await.0, "UNRESOLVED_COLUMN.WITH_SUGGESTION");
}

#[tokio::test]
async fn field_of_an_array_is_that_of_every_element() {
    let arrays =
        "(SELECT array(named_struct('x', 1, 'y', named_struct('z', 'p')), named_struct('x', 2, 'y', NULL), NULL) AS a)";
    assert_eq!(rows(&format!("SELECT a.x, t.a.y.z FROM {arrays} t")).await, "x,z / [1, 2, ],[p, , ]");
    assert_eq!(rows(&format!("SELECT element_at(a.X, 1) AS first FROM {arrays}")).await, "first / 1");
    assert_eq!(failure(&format!("SELECT a.w FROM {arrays}")).await.0, "UNRESOLVED_COLUMN.WITH_SUGGESTION");
}

#[tokio::test]
async fn pivots() {
    let sales = "(VALUES (1, 'a', 2024, 10), (1, 'b', 2024, NULL), (1, 'a', 2025, 5), (2, 'a', 2024, 1), (2, 'b', 2025, 7)) AS s(id, kind, year, n)";
    assert_eq!(
        rows(&format!("SELECT * FROM {sales} PIVOT (sum(n) FOR kind IN ('a', 'b' AS other, 'c')) ORDER BY id, year"))
            .await,
        "id,year,a,other,c / 1,2024,10,, / 1,2025,5,, / 2,2024,1,, / 2,2025,,7,"
    );
    assert_eq!(
        rows(&format!("SELECT p.id, p.a_most + 1 AS m, `b_count(s.n)` FROM {sales} PIVOT (max(s.n) AS most, count(s.n) FOR s.kind IN ('a', 'b')) AS p WHERE year = 2024 ORDER BY id"))
            .await,
        "id,m,b_count(s.n) / 1,11,0 / 2,2,"
    );
    assert_eq!(
        rows(&format!("SELECT * FROM (SELECT kind, year, n FROM {sales}) PIVOT (sum(n) FOR (kind, year) IN (('a', 2024), ('b', 2025) AS b25))")).await,
        "{a, 2024},b25 / 11,7"
    );
    assert_eq!(
        failure(&format!("SELECT * FROM {sales} PIVOT (sum(n) FOR (kind, year) IN ('a'))")).await.0,
        "PIVOT_VALUE_DATA_TYPE_MISMATCH"
    );
}

#[tokio::test]
async fn unpivots() {
    let quarters = "(VALUES (1, 10, NULL, 'x'), (2, NULL, NULL, 'y')) AS t(id, q1, q2, note)";
    assert_eq!(
        rows(&format!("SELECT * FROM {quarters} UNPIVOT (n FOR quarter IN (q1, t.q2 AS second))")).await,
        "id,note,quarter,n / 1,x,q1,10"
    );
    assert_eq!(
        rows(&format!("SELECT u.* FROM {quarters} UNPIVOT INCLUDE NULLS (n FOR quarter IN (q1, q2 AS `2nd`)) AS u ORDER BY id, quarter")).await,
        "id,note,quarter,n / 1,x,2nd, / 1,x,q1,10 / 2,y,2nd, / 2,y,q1,"
    );
    assert_eq!(
        rows(&format!(
            "SELECT * FROM {quarters} UNPIVOT ((a, b) FOR pair IN ((q1, q2), (q2, q1) AS swapped)) ORDER BY pair"
        ))
        .await,
        "id,note,pair,a,b / 1,x,q1_q2,10, / 1,x,swapped,,10"
    );
    assert_eq!(
        failure(&format!("SELECT * FROM {quarters} UNPIVOT (n FOR x IN ((q1, q2)))")).await.0,
        "UNPIVOT_VALUE_SIZE_MISMATCH"
    );
}

#[tokio::test]
async fn from_may_come_first() {
    assert_eq!(rows("FROM cities SELECT city WHERE customerid = 1").await, "city / Rome");
    assert_eq!(rows("SELECT count(*) AS n FROM (FROM cities)").await, "n / 3");
}

#[tokio::test]
async fn tables_may_stand_in_parentheses() {
    assert_eq!(rows("SELECT city FROM (cities) WHERE customerid = 1").await, "city / Rome");
    let join = "SELECT c.city FROM (people) AS p JOIN ((cities) c) ON p.customerId = c.customerid ORDER BY 1";
    assert_eq!(rows(join).await, "city / Bern / Rome");
}

#[tokio::test]
async fn generators() {
    assert_eq!(
        rows("SELECT customerId, explode(tags) AS tag FROM people ORDER BY tag").await,
        "customerId,tag / 1,1 / 1,2"
    );
    assert_eq!(
        rows("SELECT customerId, t.x, pos FROM people LATERAL VIEW OUTER posexplode(tags) t AS pos, x ORDER BY customerId, x").await,
        "customerId,x,pos / 1,1,0 / 1,2,1 / 2,, / 3,,"
    );
}

#[tokio::test]
async fn operators() {
    assert_eq!(
        rows(r#"SELECT 'it\'s' a, "x" || 'y' b, NULL <=> NULL c, 1 == 1 d, 'abc' RLIKE r'^a\w+' e, ! true f, 2 BETWEEN 1 AND 3 g, 'a' NOT LIKE 'b%' h"#).await,
        "a,b,c,d,e,f,g,h / it's,xy,true,true,true,false,true,true"
    );
    assert_eq!(
        rows(
            "SELECT tags[0] a, tags[5] b, '7'::int + 1 c, CASE WHEN customerId = 1 THEN 'x' END d FROM people LIMIT 1"
        )
        .await,
        "a,b,c,d / 1,,8,x"
    );
}

#[tokio::test]
async fn errors_point_at_the_name() {
    assert_eq!(
        failure("SELECT\n  custmerId FROM people").await,
        ("UNRESOLVED_COLUMN.WITH_SUGGESTION".into(), "q.sql:2:3".into())
    );
    assert_eq!(failure("SELECT uper('x')").await, ("UNRESOLVED_ROUTINE".into(), "q.sql:1:8".into()));
    assert_eq!(
        failure("SELECT 1 FROM people a JOIN people b ON customerId = 1").await,
        ("AMBIGUOUS_REFERENCE".into(), "q.sql:1:41".into())
    );
    let (condition, _) = failure("SELECT avg(amount > 1) FROM people").await;
    assert_eq!(condition, "DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE");
    assert_eq!(failure("SELECT 1 FROM nowhere").await, ("TABLE_OR_VIEW_NOT_FOUND".into(), "q.sql:1:15".into()));
    let help = run("SELECT custmerId FROM people").await.unwrap_err().help().unwrap().to_owned();
    assert!(help.starts_with("Did you mean one of `customerId`"), "{help}");
}

#[tokio::test]
async fn times_to_go_back_to_may_be_computed() {
    let fixed = async |sql: &str| {
        let query = parse_query(sql, &location()).unwrap().query;
        time_travel::with_fixed_times(&context(), &query, &Source::new(sql, &location())).await.map(|q| q.to_string())
    };
    assert_eq!(
        fixed("SELECT 1 FROM a TIMESTAMP AS OF date_add('2026-01-30', 1) JOIN (SELECT * FROM b FOR SYSTEM_TIME AS OF timestamp'2026-01-31 10:00:00' - INTERVAL 1 HOUR) c")
            .await
            .unwrap(),
        "SELECT 1 FROM a TIMESTAMP AS OF '2026-01-31T00:00:00.000000Z' JOIN \
         (SELECT * FROM b TIMESTAMP AS OF '2026-01-31T09:00:00.000000Z') c"
    );
    let constant = "SELECT 1 FROM a TIMESTAMP AS OF '2026-01-31'";
    assert_eq!(fixed(constant).await.unwrap(), constant);
    let condition = async |time: &str| {
        let error = fixed(&format!("SELECT 1 FROM a TIMESTAMP AS OF {time}")).await.unwrap_err();
        (error.condition().unwrap_or_default().to_owned(), error.location().unwrap().to_string())
    };
    let at = "q.sql:1:33".to_owned();
    assert_eq!(condition("upper('x')").await, ("INVALID_TIME_TRAVEL_TIMESTAMP_EXPR.INPUT".into(), at));
    assert_eq!(condition("(SELECT max(x) FROM b)").await.1, "q.sql:1:34");
    assert_eq!(condition("date_add(d, 1)").await.0, "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION");
}

#[test]
fn what_a_query_reads() {
    let sql = "WITH a AS (SELECT * FROM a) SELECT * FROM a JOIN STREAM(LIVE.b) b JOIN STREAM c WITH (skipChangeCommits) \
               JOIN STREAM read_files('/d', format => 'csv', header => true, schemaHints => 'x INT') JOIN cloud_files('/e', 'json', map('cloudFiles.inferColumnTypes', 'true')) \
               JOIN delta.`/f` JOIN g VERSION AS OF 3 JOIN h@v4 JOIN event_log(TABLE(x.y)) JOIN read_files('/i')";
    let query = parse_query(sql, &location()).unwrap();
    let all: Vec<String> =
        relation::reads(&query.query, &Source::new(sql, &location()), chrono_tz::Tz::UTC, &|_| false)
            .into_iter()
            .map(|read| {
                let read = read.unwrap().request;
                let stream = if read.streaming { "stream " } else { "" };
                let text = match read.relation {
                    UnresolvedRelation::Table { name, options, time_travel } => {
                        format!("{name} {:?} {time_travel:?}", options.iter().collect::<Vec<_>>())
                    }
                    UnresolvedRelation::Source { format, paths, options, .. } => {
                        format!("{format:?} {paths:?} {:?}", options.iter().collect::<Vec<_>>())
                    }
                    UnresolvedRelation::EventLog { table, .. } => format!("event log of {}", table.unwrap()),
                };
                format!("{stream}{text}")
            })
            .collect();
    insta::assert_debug_snapshot!(all);
}

#[test]
fn expressions_over_a_schema() {
    let schema = DFSchema::try_from(people().schema().as_ref().clone()).unwrap();
    let ctx = context();
    let expr = plan_expression(&ctx, "CUSTOMERID > 0 AND `order id` IS NOT NULL", &schema, &location()).unwrap();
    assert!(expr.to_string().contains("customerId"), "{expr}");
    let all = plan_expressions(&ctx, "customerid AS id, address.CITY, *", &schema, &location()).unwrap();
    let names: Vec<String> = all.iter().map(|expr| expr.schema_name().to_string()).collect();
    assert_eq!(names, ["id", "CITY", "customerId", "Order ID", "amount", "address", "tags", "js"]);
    let error = plan_expression(&ctx, "a >", &schema, &location()).unwrap_err();
    assert_eq!(error.condition(), Some("PARSE_SYNTAX_ERROR"));
}

fn context() -> SessionContext {
    let options = SessionOptions {
        conf: SparkConf::pipeline_defaults(),
        target_partitions: 2,
        runtime: Arc::default(),
        extension_planners: Vec::new(),
    };
    session_context(options).unwrap()
}
