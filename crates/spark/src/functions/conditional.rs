//! Choices between values: `coalesce`, `if`, `nullif`, `greatest`, `decode`.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn;
use datafusion::logical_expr::{Case, Expr, Operator, lit};

use super::form::{Env, Form, form};
use super::udf::ANY;
use crate::coercion::{binary_op, resolve};
use crate::error::{Error, Result};
use crate::types::sql_type_name;

pub(super) const FORMS: &[Form] = &[
    form(&["coalesce", "nvl", "ifnull"], (1, ANY), |args, env| Ok(expr_fn::coalesce(env.common(args)?))),
    form(&["nvl2"], (3, 3), |args, env| {
        let [value, some, none] = exactly(args)?;
        choose(value.is_not_null(), some, none, env)
    }),
    form(&["if", "iff"], (3, 3), |args, env| {
        let [when, then, otherwise] = exactly(args)?;
        choose(when, then, otherwise, env)
    }),
    form(&["nullif"], (2, 2), |args, env| {
        let [value, unwanted] = exactly(args)?;
        null_if(value, unwanted, env)
    }),
    form(&["nullifzero"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        null_if(value, lit(0_i32), env)
    }),
    form(&["zeroifnull"], (1, 1), |args, env| {
        let [value] = exactly(args)?;
        Ok(expr_fn::coalesce(env.common(vec![value, lit(0_i32)])?))
    }),
    form(&["isnull"], (1, 1), |args, _| exactly(args).map(|[value]| value.is_null())),
    form(&["isnotnull"], (1, 1), |args, _| exactly(args).map(|[value]| value.is_not_null())),
    form(&["equal_null"], (2, 2), |args, env| {
        let [left, right] = exactly(args)?;
        binary_op(left, Operator::IsNotDistinctFrom, right, env.schema, env.conf)
    }),
    form(&["greatest"], (2, ANY), |args, env| Ok(expr_fn::greatest(ordered("greatest", args, env)?))),
    form(&["least"], (2, ANY), |args, env| Ok(expr_fn::least(ordered("least", args, env)?))),
    form(&["when"], (2, ANY), when),
    form(&["decode"], (2, ANY), decode),
];

/// The arguments of a form that takes just so many.
pub(super) fn exactly<const N: usize>(args: Vec<Expr>) -> Result<[Expr; N]> {
    <[Expr; N]>::try_from(args).map_err(|args| {
        Error::user(format!("expected {N} arguments, but got {}", args.len()))
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")
    })
}

fn choose(when: Expr, then: Expr, otherwise: Expr, env: Env<'_>) -> Result<Expr> {
    let case = Case::new(None, vec![(Box::new(when), Box::new(then))], Some(Box::new(otherwise)));
    resolve(Expr::Case(case), env.schema, env.conf)
}

fn null_if(value: Expr, unwanted: Expr, env: Env<'_>) -> Result<Expr> {
    let equal = binary_op(value.clone(), Operator::Eq, unwanted, env.schema, env.conf)?;
    let null = ScalarValue::try_from(&env.type_of(&value)?)?;
    choose(equal, lit(null), value, env)
}

fn ordered(name: &str, args: Vec<Expr>, env: Env<'_>) -> Result<Vec<Expr>> {
    let args = env.common(args)?;
    match args.first().map(|arg| env.type_of(arg)).transpose()? {
        Some(data_type @ DataType::Map(..)) => {
            Err(Error::user(format!("`{name}` cannot order {}", sql_type_name(&data_type)))
                .with_condition("DATATYPE_MISMATCH.INVALID_ORDERING_TYPE"))
        }
        _ => Ok(args),
    }
}

fn when(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let (pairs, rest) = args.as_chunks::<2>();
    let branches = pairs.iter().map(|[when, then]| (Box::new(when.clone()), Box::new(then.clone()))).collect();
    let case = Case::new(None, branches, rest.first().cloned().map(Box::new));
    resolve(Expr::Case(case), env.schema, env.conf)
}

/// `decode(bytes, charset)`, or `decode(x, a, value of a, …, otherwise)` where NULL equals NULL.
fn decode(args: Vec<Expr>, env: Env<'_>) -> Result<Expr> {
    let mut args = args.into_iter();
    let Some(value) = args.next() else { return exactly::<1>(Vec::new()).map(|[value]| value) };
    let rest: Vec<_> = args.collect();
    if let [charset] = rest.as_slice() {
        return Ok(super::encoding::DECODE.call(vec![value, charset.clone()]));
    }
    let (pairs, otherwise) = rest.as_chunks::<2>();
    let branch = |[wanted, then]: &[Expr; 2]| {
        let is = Operator::IsNotDistinctFrom;
        let equal = binary_op(value.clone(), is, wanted.clone(), env.schema, env.conf)?;
        Ok((Box::new(equal), Box::new(then.clone())))
    };
    let branches = pairs.iter().map(branch).collect::<Result<_>>()?;
    let case = Case::new(None, branches, otherwise.first().cloned().map(Box::new));
    resolve(Expr::Case(case), env.schema, env.conf)
}

#[cfg(test)]
mod tests {
    use crate::functions::testing::check_all;

    #[tokio::test]
    async fn values() {
        check_all(&[
            ("coalesce(NULL, 1, 2.5)", "1.0"),
            ("nvl(NULL, 'x')", "x"),
            ("ifnull(NULL, 'a')", "a"),
            ("nvl2(NULL, 1, 2)", "2"),
            ("nvl2('x', 1, 2.5)", "1.0"),
            ("if(true, 1, 2.5)", "1.0"),
            ("if(NULL, 1, 2)", "2"),
            ("nullif(1, 1)", "NULL"),
            ("nullif('a', 'b')", "a"),
            ("nullifzero(0)", "NULL"),
            ("zeroifnull(NULL)", "0"),
            ("equal_null(NULL, NULL)", "true"),
            ("greatest(10, 9, 2.5)", "10.0"),
            ("greatest(1, NULL, 2)", "2"),
            ("least('b', 'a', NULL)", "a"),
            ("decode(2, 1, 'a', 2, 'b', 'c')", "b"),
            ("decode(9, 1, 'a', 2, 'b')", "NULL"),
            ("decode(NULL, 1, 'a', NULL, 'b')", "b"),
            ("decode(encode('abc', 'UTF-8'), 'UTF-8')", "abc"),
        ])
        .await;
    }

    #[tokio::test]
    async fn text_and_numbers_meet_as_the_mode_says() {
        crate::functions::testing::check("typeof(coalesce('1', 1))", Ok("string"), Ok("bigint")).await;
    }
}
