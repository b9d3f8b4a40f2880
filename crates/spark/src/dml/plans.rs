//! The plans of a change: which files it touches, what their rows become, which rows are new.
//!
//! In joins the source is the left input: the one that is kept in memory if the sizes of both are unknown.

use datafusion::common::{Column, DFSchema, JoinType, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::functions_aggregate::expr_fn::{count, max};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit, when};

use super::assignment::regenerated;
use super::{Action, Change, Clause, Source};
use crate::conf::SparkConf;
use crate::edit::{CHANGE, FILE, RowChange};
use crate::error::{Error, Result};

/// The column of [`Change::touched`] with the number of affected rows of the file.
pub(crate) const TOUCHED_ROWS: &str = "__deltaworks_rows";
/// The column of [`Change::touched`] with the most rows of the source that one of them matches.
pub(crate) const MOST: &str = "__deltaworks_most";

/// Tells the rows of the target apart, within one run of a plan.
const ROW: &str = "__deltaworks_row";
/// TRUE in rows of the source, and so NULL where an outer join found none.
const PRESENT: &str = "__deltaworks_present";
/// Whether a row of the source matches.
const MATCHED: &str = "__deltaworks_matched";
/// The clause that is for the row, by number; NULL if none is.
const CLAUSE: &str = "__deltaworks_clause";
/// What the numbers of clauses for rows without a partner in the source begin with.
const BY_SOURCE: i32 = 1 << 16;

impl Change {
    /// The files that hold rows which change or go: [`FILE`], [`TOUCHED_ROWS`], [`MOST`]. A file may come twice. `None` if
    /// no row can change.
    ///
    /// `target` has the columns of the table and [`FILE`].
    pub(crate) fn touched(&self, ctx: &SessionContext, target: &LogicalPlan) -> Result<Option<LogicalPlan>> {
        let mut parts = Vec::new();
        if let (Some(source), false) = (&self.source, self.matched.is_empty()) {
            let source_rows = LogicalPlanBuilder::from(source.plan.clone());
            parts.push(if self.only_deletes_matched() {
                let matched = source_rows.join_on(target.clone(), JoinType::RightSemi, [source.on.clone()])?;
                rows_by_file(matched, file(target)?)?
            } else {
                let pairs = source_rows.join_on(with_row(ctx, target)?, JoinType::Inner, [self.on_and_any(source)])?;
                most_by_file(pairs, file(target)?)?
            });
        }
        if !self.by_source.is_empty() {
            let rows = match &self.source {
                None => LogicalPlanBuilder::from(target.clone()),
                Some(source) => LogicalPlanBuilder::from(source.plan.clone()).join_on(
                    target.clone(),
                    JoinType::RightAnti,
                    [source.on.clone()],
                )?,
            };
            let rows = match any(&self.by_source) {
                Some(condition) => rows.filter(condition)?,
                None => rows,
            };
            parts.push(rows_by_file(rows, file(target)?)?);
        }
        let all = parts.into_iter().try_fold(None, |all: Option<LogicalPlanBuilder>, part| {
            Ok::<_, Error>(Some(match all {
                Some(all) => all.union(part.build()?)?,
                None => part,
            }))
        })?;
        all.map(|all| Ok(all.build()?)).transpose()
    }

    /// The rows of `target`, some files of the table, as they are afterwards: as [`crate::edit::Edit::rows`] are.
    pub(crate) fn rewritten(
        &self,
        ctx: &SessionContext,
        conf: &SparkConf,
        target: &LogicalPlan,
    ) -> Result<LogicalPlan> {
        let mut rows = LogicalPlanBuilder::from(target.clone());
        let (mut present, mut alone) = (lit(false), lit(true));
        if let Some(source) = &self.source {
            let ends_with_all = self.matched.last().is_some_and(|clause| clause.condition.is_none());
            if self.only_deletes_matched() || !(self.by_source.is_empty() || ends_with_all) {
                rows = with_mark(rows, source)?;
                present = Expr::Column(Column::new_unqualified(MATCHED));
                alone = present.clone().is_not_true();
            }
            if !(self.matched.is_empty() || self.only_deletes_matched()) {
                rows = with_partner(rows, source, self.on_and_any(source))?;
                present = Expr::Column(Column::new_unqualified(PRESENT));
                if ends_with_all {
                    alone = present.clone().is_null();
                }
            }
        }
        let clause = chosen([(present.is_true(), &self.matched, 0), (alone, &self.by_source, BY_SOURCE)])?;
        let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        columns.push(clause.alias(CLAUSE));
        let clauses: Vec<_> = numbered(&self.matched, 0).chain(numbered(&self.by_source, BY_SOURCE)).collect();
        let old = self.old(target)?;
        self.changed(ctx, conf, rows.project(columns)?, &clauses, &old)
    }

    /// The rows that come because no row of `target`, the whole table, matches them. `None` if none can come.
    pub(crate) fn inserted(
        &self,
        ctx: &SessionContext,
        conf: &SparkConf,
        target: &LogicalPlan,
    ) -> Result<Option<LogicalPlan>> {
        let Some(source) = self.source.as_ref().filter(|_| !self.not_matched.is_empty()) else { return Ok(None) };
        let mut rows = LogicalPlanBuilder::from(source.plan.clone()).join_on(
            target.clone(),
            JoinType::LeftAnti,
            [source.on.clone()],
        )?;
        if let Some(condition) = any(&self.not_matched) {
            rows = rows.filter(condition)?;
        }
        let mut columns: Vec<Expr> = rows.schema().columns().into_iter().map(Expr::Column).collect();
        columns.push(chosen([(lit(true), &self.not_matched, 0)])?.alias(CLAUSE));
        let nulls = self.schema.fields().iter().map(|field| Ok(lit(ScalarValue::try_from(field.data_type())?)));
        let nulls = nulls.collect::<Result<Vec<_>>>()?;
        let clauses: Vec<_> = numbered(&self.not_matched, 0).collect();
        let clauses: Vec<_> =
            clauses.into_iter().map(|(number, clause, _)| (number, clause, RowChange::Inserted)).collect();
        self.changed(ctx, conf, rows.project(columns)?, &clauses, &nulls).map(Some)
    }

    /// Which pairs of rows a clause is for.
    fn on_and_any(&self, source: &Source) -> Expr {
        match any(&self.matched) {
            Some(condition) => source.on.clone().and(condition),
            None => source.on.clone(),
        }
    }

    /// The columns of the table in `target`, in order.
    fn old(&self, target: &LogicalPlan) -> Result<Vec<Expr>> {
        self.schema.fields().iter().map(|field| named(target.schema(), field.name()).map(Expr::Column)).collect()
    }

    /// Rows with their [`CLAUSE`] as they are after it; `old` are their columns before.
    fn changed(
        &self,
        ctx: &SessionContext,
        conf: &SparkConf,
        rows: LogicalPlanBuilder,
        clauses: &[(i32, &Clause, RowChange)],
        old: &[Expr],
    ) -> Result<LogicalPlan> {
        let clause = || Expr::Column(Column::new_unqualified(CLAUSE));
        let mut columns = Vec::with_capacity(2 * old.len() + 2);
        for (index, field) in self.schema.fields().iter().enumerate() {
            let values = clauses.iter().filter_map(|(number, of, _)| match &of.action {
                Action::Set(values) => Some((*number, values.get(index)?.clone()?)),
                Action::Delete => None,
            });
            columns.push(case(clause(), values, old[index].clone())?.alias(field.name()));
        }
        if self.keeps_old {
            columns.extend(old.iter().enumerate().map(|(index, old)| old.clone().alias(old_name(index))));
        }
        let changes = clauses.iter().map(|(number, _, change)| (*number, lit(change.number())));
        columns.push(case(clause(), changes, lit(RowChange::Copied.number()))?.alias(CHANGE));
        let mut output: Vec<Expr> = columns.iter().map(own_of).collect();
        columns.push(clause());
        let rows = rows.project(columns)?;
        let anew = |column: usize| {
            let numbers = clauses.iter().filter(|(_, of, _)| {
                matches!(&of.action, Action::Set(values) if values.get(column).is_none_or(Option::is_none))
            });
            let numbers: Vec<Expr> = numbers.map(|(number, ..)| lit(*number)).collect();
            (!numbers.is_empty()).then(|| clause().in_list(numbers, false))
        };
        for (index, value) in regenerated(ctx, &self.schema, rows.schema(), conf, anew)? {
            output[index] = value.alias(self.schema.field(index).name());
        }
        Ok(rows.project(output)?.build()?)
    }
}

/// The name of a column as it was before the change.
pub(crate) fn old_name(index: usize) -> String {
    format!("__deltaworks_old_{index}")
}

/// The column that an expression with an alias makes.
fn own_of(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => Expr::Column(Column::new_unqualified(&alias.name)),
        other => other.clone(),
    }
}

/// The clauses with their numbers, and what becomes of the rows that they are for.
fn numbered(clauses: &[Clause], first: i32) -> impl Iterator<Item = (i32, &Clause, RowChange)> {
    let by_source = first == BY_SOURCE;
    (first..).zip(clauses).map(move |(number, clause)| {
        let change = match (&clause.action, by_source) {
            (Action::Delete, false) => RowChange::Deleted,
            (Action::Delete, true) => RowChange::DeletedBySource,
            (Action::Set(_), false) => RowChange::Updated,
            (Action::Set(_), true) => RowChange::UpdatedBySource,
        };
        (number, clause, change)
    })
}

/// Whether a clause is for a row; `None` if one is for every row.
fn any(clauses: &[Clause]) -> Option<Expr> {
    let conditions: Option<Vec<Expr>> = clauses.iter().map(|clause| clause.condition.clone()).collect();
    conditions?.into_iter().reduce(Expr::or)
}

/// The number of the first clause that is for a row, of those whose rows it is among.
fn chosen<const N: usize>(kinds: [(Expr, &Vec<Clause>, i32); N]) -> Result<Expr> {
    let mut cases: Vec<(Expr, Expr)> = Vec::new();
    for (rows, clauses, first) in kinds {
        if clauses.is_empty() {
            continue;
        }
        let mut of_kind: Vec<(Expr, Expr)> = Vec::new();
        let mut otherwise = lit(ScalarValue::Int32(None));
        for (number, clause) in (first..).zip(clauses) {
            match &clause.condition {
                Some(condition) => of_kind.push((condition.clone(), lit(number))),
                None => otherwise = lit(number),
            }
        }
        cases.push((rows, case_of(of_kind, otherwise)?));
    }
    case_of(cases, lit(ScalarValue::Int32(None)))
}

fn case_of(cases: Vec<(Expr, Expr)>, otherwise: Expr) -> Result<Expr> {
    let mut cases = cases.into_iter();
    let Some((condition, value)) = cases.next() else { return Ok(otherwise) };
    let mut builder = when(condition, value);
    for (condition, value) in cases {
        builder = builder.when(condition, value);
    }
    Ok(builder.otherwise(otherwise)?)
}

/// `CASE WHEN clause = number THEN value … ELSE otherwise END`
fn case(clause: Expr, values: impl Iterator<Item = (i32, Expr)>, otherwise: Expr) -> Result<Expr> {
    case_of(values.map(|(number, value)| (clause.clone().eq(lit(number)), value)).collect(), otherwise)
}

/// The column of that name, whatever it is qualified with.
fn named(schema: &DFSchema, name: &str) -> Result<Column> {
    let found = schema.iter().find(|(_, field)| field.name() == name);
    found.map(Column::from).ok_or_else(|| Error::internal(format!("the rows of the target have no column `{name}`")))
}

fn file(target: &LogicalPlan) -> Result<Expr> {
    named(target.schema(), FILE).map(|column| Expr::Column(column).alias(FILE))
}

/// The rows with [`ROW`].
fn with_row(ctx: &SessionContext, target: &LogicalPlan) -> Result<LogicalPlan> {
    let state = ctx.state();
    let function = state.scalar_functions().get("monotonically_increasing_id");
    let func = function.cloned().ok_or_else(|| Error::internal("rows cannot be numbered"))?;
    let mut columns: Vec<Expr> = target.schema().columns().into_iter().map(Expr::Column).collect();
    columns.push(Expr::ScalarFunction(ScalarFunction { func, args: Vec::new() }).alias(ROW));
    Ok(LogicalPlanBuilder::from(target.clone()).project(columns)?.build()?)
}

/// Whether a row of the source matches, as [`MATCHED`].
fn with_mark(rows: LogicalPlanBuilder, source: &Source) -> Result<LogicalPlanBuilder> {
    let columns = rows.schema().columns();
    let marked = rows.join_on(source.plan.clone(), JoinType::LeftMark, [source.on.clone()])?;
    let mark = marked.schema().columns().pop().ok_or_else(|| Error::internal("a mark join without a mark"))?;
    let mut columns: Vec<Expr> = columns.into_iter().map(Expr::Column).collect();
    columns.push(Expr::Column(mark).alias(MATCHED));
    Ok(marked.project(columns)?)
}

/// The row of the source that a clause is for, and [`PRESENT`].
fn with_partner(rows: LogicalPlanBuilder, source: &Source, on: Expr) -> Result<LogicalPlanBuilder> {
    let mut columns: Vec<Expr> = source.plan.schema().columns().into_iter().map(Expr::Column).collect();
    columns.push(lit(true).alias(PRESENT));
    let partners = LogicalPlanBuilder::from(source.plan.clone()).project(columns)?;
    Ok(partners.join_on(rows.build()?, JoinType::Right, [on])?)
}

/// Counts rows by their file, none of which comes twice.
fn rows_by_file(rows: LogicalPlanBuilder, file: Expr) -> Result<LogicalPlanBuilder> {
    let counted = rows.project([file])?.aggregate([own_column(FILE)], [count(lit(1_i64)).alias(TOUCHED_ROWS)])?;
    Ok(counted.project([own_column(FILE), own_column(TOUCHED_ROWS), lit(1_i64).alias(MOST)])?)
}

/// Counts the rows of each file, and how often one of them comes.
fn most_by_file(pairs: LogicalPlanBuilder, file: Expr) -> Result<LogicalPlanBuilder> {
    Ok(pairs
        .project([file, own_column(ROW)])?
        .aggregate([own_column(FILE), own_column(ROW)], [count(lit(1_i64)).alias(MOST)])?
        .aggregate([own_column(FILE)], [count(lit(1_i64)).alias(TOUCHED_ROWS), max(own_column(MOST)).alias("most")])?
        .project([own_column(FILE), own_column(TOUCHED_ROWS), own_column("most").alias(MOST)])?)
}

fn own_column(name: &str) -> Expr {
    Expr::Column(Column::new_unqualified(name))
}
