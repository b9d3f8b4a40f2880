//! A walk through an expression that leaves its subqueries alone.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, VisitMut, VisitorMut};

use crate::error::{Error, Result};

/// Calls `change` for `expr` and all parts of it that are not in a subquery, inner ones first.
///
/// # Errors
/// The first of `change`, which ends the walk.
pub(super) fn outside_subqueries(expr: &mut Expr, change: impl FnMut(&mut Expr) -> Result<()>) -> Result<()> {
    match expr.visit(&mut Outside { change, depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Outside<F> {
    change: F,
    /// How many subqueries deep.
    depth: usize,
}

impl<F: FnMut(&mut Expr) -> Result<()>> VisitorMut for Outside<F> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match (self.change)(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}
