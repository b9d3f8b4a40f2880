//! A generator as an item of a select list in text: `stack(2, 'a', a, 'b', b) AS (k, v)`.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, SelectItem, Value, visit_expressions_mut,
};

use crate::diagnostic::SourceLocation;
use crate::error::Result;
use crate::sql::tokens::Source;

const GENERATORS: [&str; 5] = ["explode", "posexplode", "inline", "stack", "json_tuple"];

/// A call of a generator by the texts of its arguments, and the names of its columns.
pub(crate) struct GeneratorCall {
    pub(crate) function: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) names: Vec<String>,
}

/// The generator that `text` calls, if it is such an item.
///
/// # Errors
/// `PARSE_SYNTAX_ERROR` (`User`) if `text` is no item at all.
pub(crate) fn generator_call(text: &str, location: &SourceLocation) -> Result<Option<GeneratorCall>> {
    let source = Source::new(text, location);
    let items = source.parser()?.parse_projection().map_err(|error| source.error(&error))?;
    let names = |aliases: Vec<Ident>| aliases.into_iter().map(|alias| alias.value).collect();
    let (expr, names) = match <[SelectItem; 1]>::try_from(items) {
        Ok([SelectItem::UnnamedExpr(expr)]) => (expr, Vec::new()),
        Ok([SelectItem::ExprWithAlias { expr, alias }]) => (expr, names(vec![alias])),
        Ok([SelectItem::ExprWithAliases { expr, aliases }]) => (expr, names(aliases)),
        _ => return Ok(None),
    };
    let Expr::Function(function) = expr else { return Ok(None) };
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(arguments) = function.args else { return Ok(None) };
    if !GENERATORS.contains(&name.strip_suffix("_outer").unwrap_or(&name)) {
        return Ok(None);
    }
    let arguments = arguments.args.into_iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(text_of(expr)),
        _ => None,
    });
    Ok(arguments.collect::<Option<_>>().map(|arguments| GeneratorCall { function: name, arguments, names }))
}

/// The text of an expression, such that it is read as the same again.
fn text_of(mut expr: Expr) -> String {
    let _ = visit_expressions_mut(&mut expr, |part| {
        if let Expr::Value(value) = part
            && let Value::SingleQuotedString(text) = &mut value.value
        {
            *text = text.replace('\\', "\\\\");
        }
        ControlFlow::<()>::Continue(())
    });
    expr.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_taken_apart() {
        let call = |text: &str| generator_call(text, &SourceLocation::new("<expr>", 1, 1)).unwrap();
        let stack = call(r"STACK(2, 'it''s', a + 1, 'b\\n', `b c`) AS (k, v)").unwrap();
        assert_eq!(stack.function, "stack");
        assert_eq!(stack.arguments, ["2", "'it''s'", "a + 1", r"'b\\n'", "`b c`"]);
        assert_eq!(stack.names, ["k", "v"]);
        assert_eq!(call("explode_outer(m) e").unwrap().names, ["e"]);
        assert!(call("explode(m) + 1").is_none());
        assert!(call("sum(x) AS s").is_none());
    }
}
