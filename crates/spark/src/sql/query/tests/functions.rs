//! Functions in SQL; what is expected is what Spark 4.2 gives, but for what it refuses to sort by.

use std::sync::Arc;

use super::*;
use crate::sql::StatementText;
use crate::sql::statement::{Command, parse_command};
use crate::sql_function::SqlFunction;

/// A session with the functions that these statements create.
fn session(statements: &[&str]) -> SessionContext {
    let mut functions = SqlFunctions::default();
    for text in statements {
        let statement = StatementText { text: (*text).to_owned(), location: location() };
        let Command::CreateFunction(create) = parse_command(&statement).unwrap() else { panic!("{text}") };
        let function = SqlFunction {
            name: create.name.0.last().unwrap().clone(),
            stored_in: None,
            parameters: create.parameters,
            returns: create.returns,
            body: create.body,
            comment: None,
            deterministic: true,
            reads_data: true,
            namespace: Some(("c".to_owned(), "s".to_owned())),
            temporary_views: Vec::new(),
            settings: Default::default(),
            created_ms: 0,
        };
        functions.insert(&create.name, Arc::new(function));
    }
    functions.in_session(&context())
}

const FUNCTIONS: [&str; 7] = [
    "CREATE FUNCTION add(a INT, b INT DEFAULT 10) RETURNS INT RETURN a + b",
    "CREATE FUNCTION city_of(customerId INT) RETURNS STRING RETURN (SELECT max(city) FROM cities c WHERE c.CustomerID = city_of.customerId)",
    "CREATE FUNCTION up_to(n INT) RETURNS TABLE (id STRING, city STRING) RETURN SELECT CustomerID, city FROM cities WHERE CustomerID <= n",
    "CREATE FUNCTION nested(n INT) RETURNS TABLE RETURN SELECT m FROM (SELECT CustomerID + n AS m FROM cities) AS inside",
    "CREATE FUNCTION same(x DOUBLE) RETURNS BOOLEAN RETURN x = x",
    "CREATE FUNCTION total(x ARRAY<INT>) RETURNS INT RETURN aggregate(x, 0, (tags, e) -> tags + e)",
    "CREATE FUNCTION around(x INT) RETURNS INT RETURN around(x)",
];

async fn answer(sql: &str) -> Result<String> {
    let ctx = session(&FUNCTIONS);
    let plan = plan_query(&ctx, &parse_query(sql, &location())?, &Memory(ctx.clone())).await?;
    let batches = ctx.execute_logical_plan(plan).await?.collect().await?;
    let table = pretty_format_batches(&batches)?.to_string();
    let cells = |line: &str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(",");
    Ok(table.lines().filter(|line| line.starts_with('|')).map(cells).collect::<Vec<_>>().join(" / "))
}

async fn check(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let found = answer(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(same_rows(sql, &found, expected), "{sql}: {found}");
    }
}

async fn refused(sql: &str) -> (String, String) {
    let error = answer(sql).await.expect_err(sql);
    (error.condition().unwrap_or_default().to_owned(), error.message().to_owned())
}

#[tokio::test]
async fn bodies_stand_in_the_place_of_calls() {
    check(&[
        ("SELECT add(1), add(1, 2), add(b => 3, a => 4)", "add(1),add(1, 2),add(4, 3) / 11,3,7"),
        (
            "SELECT add(customerId) AS x FROM people WHERE add(customerId, 1) > 2 ORDER BY add(customerId)",
            "x / 12 / 13",
        ),
        ("SELECT add(add('7', 1.9D))", "add(add(7, 1.9)) / 18"),
        (
            "SELECT add(customerId % 2) AS k, count(*) AS n FROM people GROUP BY add(customerId % 2)",
            "k,n / 11,2 / 10,1",
        ),
        ("SELECT sum(add(customerId)) AS s, add(sum(customerId)) AS t FROM people", "s,t / 36,16"),
        ("SELECT total(tags) AS t FROM (SELECT array(1, 2) AS tags) AS q", "t / 3"),
    ])
    .await;
}

#[tokio::test]
async fn names_of_arguments_are_not_taken_for_those_of_a_body() {
    check(&[
        ("SELECT city_of(customerId) AS c FROM people ORDER BY customerId", "c / Rome /  / Bern"),
        (
            "SELECT c.city, city_of(c.CustomerID) AS x FROM cities c ORDER BY 1",
            "city,x / Bern,Bern / Riga,Riga / Rome,Rome",
        ),
        (
            "SELECT city_of(customerId) AS c, count(*) AS n FROM people GROUP BY city_of(customerId)",
            "c,n / Rome,1 / ,1 / Bern,1",
        ),
    ])
    .await;
}

#[tokio::test]
async fn table_functions_are_relations() {
    check(&[
        ("SELECT * FROM up_to(3)", "id,city / 1,Rome / 3,Bern"),
        ("SELECT up_to.city FROM up_to(n => 1)", "city / Rome"),
        ("SELECT q.a FROM up_to(3) AS q(a, b) WHERE b = 'Bern'", "a / 3"),
        ("SELECT p.customerId, u.id FROM people p, LATERAL up_to(p.customerId) AS u ORDER BY 1, 2", "customerId,id / 1,1 / 2,1 / 3,1 / 3,3"),
        ("SELECT p.customerId AS c, id FROM people p LEFT JOIN LATERAL up_to(p.customerId - 1) ON id > 0 ORDER BY 1, 2", "c,id / 1, / 2,1 / 3,1"),
        ("SELECT * FROM nested(10)", "m / 11 / 13 / 14"),
        ("SELECT * FROM up_to((SELECT max(customerId) FROM people))", "id,city / 1,Rome / 3,Bern"),
    ])
    .await;
}

#[tokio::test]
async fn what_would_mean_something_else_is_refused() {
    let cases = [
        ("SELECT same(rand())", "", "differs each time"),
        ("SELECT p.customerId, m FROM people p, LATERAL nested(p.customerId)", "", "within a subquery in FROM"),
        ("SELECT city_of(max(customerId)) FROM people", "", "with an aggregate as an argument"),
        ("SELECT add(1) OVER ()", "UNSUPPORTED_SQL_UDF_USAGE", ""),
        ("SELECT add(DISTINCT 1)", "INVALID_SQL_SYNTAX.FUNCTION_WITH_UNSUPPORTED_SYNTAX", ""),
        ("SELECT transform(array(1), x -> add(x))", "UNSUPPORTED_FEATURE.LAMBDA_FUNCTION_WITH_SQL_UDF", ""),
        ("SELECT up_to(1)", "NOT_A_SCALAR_FUNCTION", ""),
        ("SELECT * FROM add(1)", "NOT_A_TABLE_FUNCTION", ""),
        ("SELECT * FROM people p, up_to(p.customerId)", "UNRESOLVED_COLUMN.WITHOUT_SUGGESTION", ""),
        ("SELECT around(1)", "CYCLIC_FUNCTION_REFERENCE", ""),
        ("SELECT missing(1)", "UNRESOLVED_ROUTINE", ""),
        ("SELECT * FROM missing(1)", "UNRESOLVABLE_TABLE_VALUED_FUNCTION", ""),
    ];
    for (sql, condition, message) in cases {
        let found = refused(sql).await;
        assert!(found.0 == condition && found.1.contains(message), "{sql}: {found:?}");
    }
}

#[tokio::test]
async fn a_lambda_of_a_body_captures_nothing() {
    let schema = DFSchema::try_from(people().schema().as_ref().clone()).unwrap();
    let ctx = session(&FUNCTIONS);
    let error = plan_expression(&ctx, "total(tags)", &schema, &location()).unwrap_err();
    assert!(error.message().contains("a lambda in its body"), "{error}");
    let error = plan_expression(&ctx, "city_of(customerId)", &schema, &location()).unwrap_err();
    assert!(error.message().contains("in an expression of a DataFrame"), "{error}");
}

#[test]
fn errors_in_statements_have_sparks_conditions() {
    let condition = |text: &str| {
        let statement = StatementText { text: text.to_owned(), location: location() };
        parse_command(&statement).map(drop).map_err(|error| error.condition().unwrap_or_default().to_owned())
    };
    let cases = [
        (
            "CREATE OR REPLACE FUNCTION IF NOT EXISTS f() RETURN 1",
            "INVALID_SQL_SYNTAX.CREATE_ROUTINE_WITH_IF_NOT_EXISTS_AND_REPLACE",
        ),
        (
            "CREATE TEMPORARY FUNCTION IF NOT EXISTS f() RETURN 1",
            "INVALID_SQL_SYNTAX.CREATE_TEMP_FUNC_WITH_IF_NOT_EXISTS",
        ),
        ("CREATE TEMPORARY FUNCTION s.f() RETURN 1", "INVALID_TEMP_OBJ_QUALIFIER"),
        ("CREATE FUNCTION f(a INT, A INT) RETURN 1", "DUPLICATE_ROUTINE_PARAMETER_NAMES"),
        (
            "CREATE FUNCTION f(a INT DEFAULT 1, b INT) RETURN 1",
            "USER_DEFINED_FUNCTIONS.NOT_A_VALID_DEFAULT_PARAMETER_POSITION",
        ),
        (
            "CREATE FUNCTION f(a INT DEFAULT (SELECT 1)) RETURN 1",
            "USER_DEFINED_FUNCTIONS.NOT_A_VALID_DEFAULT_EXPRESSION",
        ),
        ("CREATE FUNCTION f(a INT NOT NULL) RETURN 1", "USER_DEFINED_FUNCTIONS.NOT_NULL_ON_FUNCTION_PARAMETERS"),
        ("CREATE FUNCTION f(a VARCHAR(3)) RETURN 1", "UNSUPPORTED_CHAR_OR_VARCHAR_AS_STRING"),
        ("CREATE FUNCTION f() RETURNS TABLE (a INT, A INT) RETURN SELECT 1, 2", "DUPLICATE_ROUTINE_RETURNS_COLUMNS"),
        ("CREATE FUNCTION f() COMMENT 'a' COMMENT 'b' RETURN 1", "DUPLICATE_CLAUSES"),
        ("CREATE FUNCTION f() RETURNS INT", "PARSE_SYNTAX_ERROR"),
    ];
    for (text, expected) in cases {
        assert_eq!(condition(text), Err(expected.to_owned()), "{text}");
    }
}
