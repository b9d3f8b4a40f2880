//! Plans a query block by block: what stands in `FROM` first, so that the block's columns are known.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono_tz::Tz;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::planner::ContextProvider;
use datafusion::logical_expr::{Expr as PlanExpr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Union};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::ast::{
    Cte, Expr, OrderBy, OrderByExpr, OrderByKind, Query, Select, SelectItem, SetExpr, SetOperator, SetQuantifier,
    Spanned, Statement, TableFactor, Value, Values,
};
use sqlparser::tokenizer::Location;

use super::block;
use super::lateral::schema_of;
use super::provider::Provider;
use super::recursive::levels_of;
use super::relation::{Read, read_of};
use super::rewrite::{self, Names};
use super::scope::{Scope, ident};
use super::user_function::Frame;
use crate::coercion::types::widest;
use crate::coercion::{analyzed, analyzed_expr, widen_union};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::python::TableFunctions;
use crate::relation::RelationRequest;
use crate::session::conf_of;
use crate::sql::tokens::Source;
use crate::sql_function::SqlFunctions;

/// The common table expressions in scope: internal table name by lower-case name.
pub(super) type Ctes = HashMap<String, String>;

/// One query being planned.
pub(super) struct Planner<'a> {
    pub(super) provider: Provider<'a>,
    pub(super) source: Source<'a>,
    /// What the query reads, resolved.
    pub(super) relations: Vec<(RelationRequest, LogicalPlan)>,
    tables: Cell<usize>,
    aliases: RefCell<HashSet<String>>,
    /// Plans of internal tables.
    plans: RefCell<HashMap<String, LogicalPlan>>,
    /// The functions in SQL that the query may call.
    pub(super) functions: SqlFunctions,
    /// The table functions in Python that it may call.
    pub(super) table_functions: Arc<TableFunctions>,
    /// The calls of functions whose bodies are being read, the innermost last.
    pub(super) frames: RefCell<Vec<Frame>>,
    /// How many queries that see nothing of what is around them are being planned, one in the other.
    pub(super) queries: Cell<usize>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        provider: Provider<'a>,
        source: Source<'a>,
        relations: Vec<(RelationRequest, LogicalPlan)>,
        functions: SqlFunctions,
    ) -> Self {
        let table_functions = TableFunctions::of(provider.state());
        Self {
            table_functions,
            provider,
            source,
            relations,
            tables: Cell::new(0),
            aliases: RefCell::default(),
            plans: RefCell::default(),
            functions,
            frames: RefCell::default(),
            queries: Cell::new(0),
        }
    }

    pub(super) fn place(&self, at: Location) -> SourceLocation {
        match self.frames.borrow().last() {
            Some(frame) => Source::new(&frame.function.body, &frame.function.location()).place(at),
            None => self.source.place(at),
        }
    }

    /// The base relation that `factor` is, with its name as it is looked up.
    pub(super) fn read_of(&self, factor: &TableFactor) -> Result<Option<Read>> {
        let frames = self.frames.borrow();
        let Some(Frame { function, .. }) = frames.last() else {
            return read_of(factor, &self.source, self.time_zone());
        };
        let read = read_of(factor, &Source::new(&function.body, &function.location()), self.time_zone())?;
        Ok(read.map(|read| Read { request: function.complete_read(read.request), ..read }))
    }

    /// The zone of times that name none.
    pub(super) fn time_zone(&self) -> Tz {
        conf_of(self.provider.state()).time_zone
    }

    /// Makes `plan` a table that the rewritten query can name.
    pub(super) fn add(&self, plan: LogicalPlan) -> String {
        self.tables.set(self.tables.get() + 1);
        let name = format!("__relation_{}", self.tables.get());
        self.provider.add(&name, plan.clone());
        self.plans.borrow_mut().insert(name.clone(), plan);
        name
    }

    pub(super) fn plan_of(&self, table: &str) -> Option<LogicalPlan> {
        self.plans.borrow().get(table).cloned()
    }

    /// An alias that is unique in the whole query, so that inner and outer columns cannot be mixed up.
    pub(super) fn alias(&self, wanted: &str) -> String {
        let mut aliases = self.aliases.borrow_mut();
        let mut alias = wanted.to_owned();
        let mut n = 1;
        while !aliases.insert(alias.to_lowercase()) {
            n += 1;
            alias = format!("{wanted}_{n}");
        }
        alias
    }

    pub(super) fn unknown_function(&self, name: &str) -> Error {
        if let Some(refusal) = crate::functions::refusal(name) {
            return refusal;
        }
        let mut names = self.provider.function_names();
        names.sort_by_cached_key(|known| (strsim::damerau_levenshtein(name, known), known.clone()));
        names.dedup();
        let near = |known: &&String| strsim::damerau_levenshtein(name, known) <= (name.len() / 3).max(1);
        let nearest: Vec<String> = names.iter().filter(near).take(3).map(|known| format!("`{known}`")).collect();
        let error = Error::user(format!("function `{name}` is unknown"))
            .with_condition("UNRESOLVED_ROUTINE")
            .with_parameter("routineName", name);
        match nearest.as_slice() {
            [] => error.with_help("Check the name; the functions of Spark SQL can be called."),
            nearest => error.with_help(format!("Did you mean {}?", nearest.join(" or "))),
        }
    }

    pub(super) fn options(&self) -> ParserOptions {
        ParserOptions::from(&self.provider.options().sql_parser)
            .with_enable_ident_normalization(false)
            .with_collect_spans(true)
            .with_parse_float_as_decimal(true)
            .with_map_string_types_to_utf8view(false)
            .with_default_null_ordering(datafusion::sql::planner::NullOrdering::NullsMin)
    }

    /// Plans a whole query.
    pub(super) fn plan_query(&self, query: Query, ctes: &Ctes, outer: &[&Scope]) -> Result<LogicalPlan> {
        self.queries.set(self.queries.get() + 1);
        let plan = self.plan_whole(query, ctes, outer);
        self.queries.set(self.queries.get() - 1);
        plan
    }

    fn plan_whole(&self, mut query: Query, ctes: &Ctes, outer: &[&Scope]) -> Result<LogicalPlan> {
        let place = self.place(query.span().start);
        let is_values = matches!(query.body.as_ref(), SetExpr::Values(_));
        self.rewrite_query(&mut query, ctes, outer)?;
        let planner = SqlToRel::new_with_options(&self.provider, self.options());
        let plan = planner.sql_statement_to_plan(Statement::Query(Box::new(query)));
        let plan = plan.map_err(|error| Error::from(error).at(place.clone()))?;
        let plan = self.with_wide_unions(plan).map_err(|error| error.at(place))?;
        let plan = self.with_final_types(plan);
        if is_values { values(plan) } else { Ok(plan) }
    }

    /// The plan, analysed already if that changes the type of a column: until then a `CASE` has the type of its first
    /// branch, and what is built on the plan would keep to that. What cannot be analysed is refused when it is run.
    fn with_final_types(&self, plan: LogicalPlan) -> LogicalPlan {
        let Ok(analyzed) = analyzed(plan.clone(), &conf_of(self.provider.state())) else { return plan };
        let (before, after) = (plan.schema().fields(), analyzed.schema().fields());
        let same = before.iter().zip(after).all(|(before, after)| before.data_type() == after.data_type());
        if same { plan } else { analyzed }
    }

    /// A plan of DataFusion's planner with the types that Spark gives it.
    pub(super) fn with_final_types_of(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        Ok(self.with_final_types(self.with_wide_unions(plan)?))
    }

    /// As [`Self::with_final_types`], of an expression.
    fn with_final_type(&self, expr: PlanExpr, schema: &DFSchema) -> PlanExpr {
        match analyzed_expr(expr.clone(), schema, &conf_of(self.provider.state())) {
            Ok(analyzed) if analyzed.get_type(schema).ok() != expr.get_type(schema).ok() => analyzed,
            _ => expr,
        }
    }

    /// The plan with columns of unions in the types at which their inputs meet; DataFusion has those of the first.
    fn with_wide_unions(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        if !plan.exists(|node| Ok(matches!(node, LogicalPlan::Union(_))))? {
            return Ok(plan);
        }
        let conf = conf_of(self.provider.state());
        let widened = plan.transform_up(|node| match node {
            LogicalPlan::Union(union) => {
                let inputs = widen_union(union, &conf)?.inputs;
                Ok(Transformed::yes(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?)))
            }
            other => other.recompute_schema().map(Transformed::yes),
        })?;
        Ok(widened.data)
    }

    /// Plans a select whose names are exact already.
    pub(super) fn plan_block(&self, select: Select) -> Result<LogicalPlan> {
        let planner = SqlToRel::new_with_options(&self.provider, self.options());
        Ok(planner.sql_statement_to_plan(Statement::Query(Box::new(block::query(select))))?)
    }

    /// Plans an expression whose names are exact already.
    pub(super) fn plain(&self, expr: Expr, schema: &DFSchema) -> Result<PlanExpr> {
        let planner = SqlToRel::new_with_options(&self.provider, self.options());
        Ok(planner.sql_to_expr(expr, schema, &mut PlannerContext::new())?)
    }

    /// As [`Self::plain`], of an expression that may name columns of the queries around it.
    pub(super) fn plain_within(&self, expr: Expr, schema: &DFSchema, outer: &[&Scope]) -> Result<PlanExpr> {
        let planner = SqlToRel::new_with_options(&self.provider, self.options());
        let mut context = PlannerContext::new();
        if !outer.is_empty() {
            context.append_outer_query_schema(Arc::new(schema_of(outer)?));
        }
        Ok(planner.sql_to_expr(expr, schema, &mut context)?)
    }

    /// Plans an expression over the columns of `plan`.
    pub(super) fn plain_expression(&self, mut expr: Expr, plan: &LogicalPlan) -> Result<PlanExpr> {
        let scope = Scope::schema(plan.schema());
        let (aliases, ctes) = (HashMap::new(), Ctes::new());
        rewrite::expression(self, &mut expr, Names { scopes: &[&scope], aliases: &aliases, ctes: &ctes })?;
        self.plain(expr, plan.schema())
    }

    /// Plans a select list over the columns of `schema`.
    pub(super) fn plan_items(&self, items: Vec<SelectItem>, schema: &DFSchema, named: bool) -> Result<Vec<PlanExpr>> {
        let scope = Scope::schema(schema);
        let planned = self.items(items, &scope)?;
        let mut exprs = Vec::with_capacity(planned.len());
        for (expr, name, has_alias) in planned {
            let expr = self.with_final_type(self.plain(expr, schema)?, schema);
            let is_own = matches!(&expr, PlanExpr::Column(column) if column.name == name);
            exprs.push(if (named || has_alias) && !is_own { expr.alias(name) } else { expr });
        }
        Ok(exprs)
    }

    /// Makes the names of a query exact, in place. Gives its output's names, where they are known.
    pub(super) fn rewrite_query(&self, query: &mut Query, ctes: &Ctes, outer: &[&Scope]) -> Result<Vec<String>> {
        if let Some(operator) = query.pipe_operators.first() {
            return Err(Error::unsupported(format!("pipe operator `|> {operator}`")).at(self.place(query.span().start)));
        }
        let mut ctes = ctes.clone();
        if let Some(with) = query.with.take() {
            for cte in with.cte_tables {
                self.cte(cte, with.recursive, &mut ctes, outer)?;
            }
        }
        let mut order_by = query.order_by.take();
        let names = self.set_expr(&mut query.body, &ctes, outer, order_by.as_mut())?;
        query.order_by = order_by;
        Ok(names)
    }

    fn cte(&self, mut cte: Cte, may_recur: bool, ctes: &mut Ctes, outer: &[&Scope]) -> Result<()> {
        let levels = levels_of(&mut cte);
        let columns: Vec<String> = cte.alias.columns.iter().map(|column| column.name.value.clone()).collect();
        let place = self.place(cte.alias.name.span.start);
        let plan = match may_recur {
            true => self.recursive(&cte, &columns, levels, ctes, outer),
            false => self.plan_query(*cte.query, ctes, outer).and_then(|plan| renamed(plan, &columns)),
        };
        ctes.insert(cte.alias.name.value.to_lowercase(), self.add(plan.map_err(|error| error.at(place))?));
        Ok(())
    }

    fn set_expr(
        &self,
        body: &mut SetExpr,
        ctes: &Ctes,
        outer: &[&Scope],
        order_by: Option<&mut OrderBy>,
    ) -> Result<Vec<String>> {
        match body {
            SetExpr::Select(select) => self.select(select, ctes, outer, order_by),
            SetExpr::Query(query) => {
                let names = self.rewrite_query(query, ctes, outer)?;
                self.order_output(&names, ctes, order_by)?;
                Ok(names)
            }
            SetExpr::SetOperation {
                op: op @ (SetOperator::Except | SetOperator::Intersect | SetOperator::Minus),
                set_quantifier,
                left,
                right,
            } => {
                let place = self.place(left.span().start);
                let all = *set_quantifier == SetQuantifier::All;
                let result = self.compared((*op, all), (left.as_ref(), right.as_ref()), ctes, outer);
                let (of_result, names) = result.map_err(|error| error.at(place))?;
                *body = of_result;
                self.order_output(&names, ctes, order_by)?;
                Ok(names)
            }
            SetExpr::SetOperation { left, right, .. } => {
                let names = self.set_expr(left, ctes, outer, None)?;
                self.set_expr(right, ctes, outer, None)?;
                self.order_output(&names, ctes, order_by)?;
                Ok(names)
            }
            SetExpr::Values(values) => {
                let aliases = HashMap::new();
                for row in &mut values.rows {
                    for expr in row.content.iter_mut() {
                        rewrite::expression(self, expr, Names { scopes: outer, aliases: &aliases, ctes })?;
                    }
                }
                self.meet(values)?;
                Ok(Vec::new())
            }
            other => Err(Error::unsupported(format!("`{other}`")).at(self.place(other.span().start))),
        }
    }

    /// Casts the values of each column to the type they meet at, as those of an array.
    fn meet(&self, values: &mut Values) -> Result<()> {
        let width = values.rows.first().map_or(0, |row| row.content.len());
        let schema = DFSchema::empty();
        let ansi = conf_of(self.provider.state()).ansi;
        for column in 0..width {
            let mut types = Vec::with_capacity(values.rows.len());
            for row in &values.rows {
                // What cannot be planned alone, such as a column of the query around, is left to DataFusion.
                let Some(expr) = row.content.get(column) else { return Ok(()) };
                match self.plain(expr.clone(), &schema).ok().and_then(|expr| expr.get_type(&schema).ok()) {
                    Some(data_type) => types.push(data_type),
                    None => break,
                }
            }
            if types.len() < values.rows.len() {
                continue;
            }
            let Some(common) = widest(&types, ansi).filter(|common| types.iter().any(|t| t != common)) else {
                continue;
            };
            for (row, data_type) in values.rows.iter_mut().zip(&types) {
                if let Some(expr) = row.content.get_mut(column).filter(|_| *data_type != common) {
                    let value = std::mem::replace(expr, Expr::value(Value::Null));
                    *expr = rewrite::implied_cast(value, &common);
                }
            }
        }
        Ok(())
    }

    /// `ORDER BY` of a query that is not a single select sees only the output.
    fn order_output(&self, names: &[String], ctes: &Ctes, order_by: Option<&mut OrderBy>) -> Result<()> {
        let Some(order_by) = order_by else { return Ok(()) };
        let items = sort_items(order_by, names.len());
        let aliases: HashMap<String, Expr> =
            names.iter().map(|name| (name.to_lowercase(), Expr::Identifier(ident(name)))).collect();
        for item in items.iter_mut().filter(|item| !is_ordinal(&item.expr)) {
            rewrite::expression(self, &mut item.expr, Names { scopes: &[], aliases: &aliases, ctes })?;
        }
        Ok(())
    }
}

/// What to sort by; for `ORDER BY ALL`, the positions of all columns of the output.
pub(super) fn sort_items(order_by: &mut OrderBy, columns: usize) -> &mut [OrderByExpr] {
    if let OrderByKind::All(options) = order_by.kind {
        let position = |column: usize| Value::Number(column.to_string(), false).with_empty_span();
        let item = |column| OrderByExpr { expr: Expr::Value(position(column)), options, with_fill: None };
        order_by.kind = OrderByKind::Expressions((1..=columns).map(item).collect());
    }
    match &mut order_by.kind {
        OrderByKind::Expressions(items) => items,
        OrderByKind::All(_) => &mut [],
    }
}

/// Whether an expression is a bare position: `ORDER BY 1`.
pub(super) fn is_ordinal(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(&value.value, Value::Number(digits, false) if digits.parse::<usize>().is_ok()))
}

/// The plan with its columns renamed, if names are given.
pub(super) fn renamed(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    if names.is_empty() {
        return Ok(plan);
    }
    let columns = plan.schema().columns();
    if columns.len() != names.len() {
        return Err(Error::user(format!("{} column aliases for {} columns", names.len(), columns.len()))
            .with_condition("ASSIGNMENT_ARITY_MISMATCH"));
    }
    let exprs: Vec<_> = columns
        .into_iter()
        .zip(names)
        .map(|(column, name)| datafusion::logical_expr::Expr::Column(column).alias(name))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// `VALUES` with Spark's column names.
fn values(plan: LogicalPlan) -> Result<LogicalPlan> {
    let names: Vec<String> = (1..=plan.schema().fields().len()).map(|i| format!("col{i}")).collect();
    renamed(plan, &names)
}

/// `range([start,] end [, step])` gives column `id`.
pub(super) fn range(plan: LogicalPlan) -> Result<LogicalPlan> {
    let name = plan.schema().field(0).name().clone();
    let column = datafusion::logical_expr::ident(name).alias("id");
    Ok(LogicalPlanBuilder::from(plan).project(vec![column])?.build()?)
}
