//! `describe`, `summary` and the questions of `DataFrame.stat`: statistics as relations.

use arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue, UnnestOptions};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit, when};

use super::context::Planner;
use super::expression::{Expressions, required};
use super::proto;
use super::scope::{Output, Scope, ScopeColumn, split_identifier};
use super::{faces, literal};
use crate::error::{Error, Result};

/// The statistics of `describe`.
const DESCRIBED: [&str; 5] = ["count", "mean", "stddev", "min", "max"];
/// The statistics of `summary` if none are named.
const SUMMARIZED: [&str; 8] = ["count", "mean", "stddev", "min", "25%", "50%", "75%", "max"];
/// The share of rows a frequent item has at least, if the client names none.
const DEFAULT_SUPPORT: f64 = 0.01;

impl Planner<'_> {
    pub(super) async fn describe(&self, describe: &proto::StatDescribe) -> Result<Scope> {
        let scope = self.input(&describe.input).await?;
        let columns = match describe.cols.as_slice() {
            [] => self.describable(&scope)?,
            names => self.named(&scope, names)?,
        };
        self.statistics(scope, columns, &DESCRIBED)
    }

    pub(super) async fn summary(&self, summary: &proto::StatSummary) -> Result<Scope> {
        let scope = self.input(&summary.input).await?;
        let columns = self.describable(&scope)?;
        let given: Vec<&str> = summary.statistics.iter().map(String::as_str).collect();
        self.statistics(scope, columns, if given.is_empty() { &SUMMARIZED } else { &given })
    }

    /// The columns of numbers and text.
    fn describable(&self, scope: &Scope) -> Result<Vec<ScopeColumn>> {
        let mut columns = Vec::new();
        for column in scope.visible() {
            let data_type = scope.data_type(column)?;
            if data_type.is_numeric() || faces::canonical(&data_type) == DataType::Utf8 {
                columns.push(column.clone());
            }
        }
        Ok(columns)
    }

    fn named(&self, scope: &Scope, names: &[String]) -> Result<Vec<ScopeColumn>> {
        names
            .iter()
            .map(|name| Ok(scope.resolve(&split_identifier(name)?, None, self.conf.case_sensitive)?.0.clone()))
            .collect()
    }

    /// One row per statistic: its name, then the value for each column, as text.
    ///
    /// All are computed in one aggregate; its only row becomes lists, and the lists rows.
    fn statistics(&self, scope: Scope, columns: Vec<ScopeColumn>, statistics: &[&str]) -> Result<Scope> {
        let mut aggregates = Vec::new();
        for column in &columns {
            for statistic in statistics {
                let value = self.statistic(&scope, column, statistic)?;
                aggregates.push(Output::computed(value, self.names.unique(statistic)));
            }
        }
        let row = self.aggregated(scope, Vec::new(), None, aggregates)?;
        let list = |values: Vec<Expr>| faces::scalar_function(self, "make_array", values);
        let names = statistics.iter().map(|statistic| lit(*statistic)).collect();
        let mut outputs = vec![Output::computed(list(names)?, "summary")];
        for (column, values) in columns.iter().zip(row.columns.chunks(statistics.len())) {
            let values = values
                .iter()
                .map(|value| {
                    faces::cast(value.expr(), &DataType::Utf8, faces::CastMode::Legacy, row.schema(), &self.conf)
                })
                .collect::<Result<_>>()?;
            outputs.push(Output::computed(list(values)?, &column.name));
        }
        let lists = row.project(outputs, &self.names)?;
        let all = lists.columns.iter().map(|column| column.column.clone()).collect();
        let plan = LogicalPlanBuilder::from(lists.plan.clone())
            .unnest_columns_with_options(all, UnnestOptions::new())?
            .build()?;
        Ok(lists.with_plan(plan))
    }

    fn statistic(&self, scope: &Scope, column: &ScopeColumn, statistic: &str) -> Result<Expr> {
        let call = |name: &str, args: Vec<Expr>| faces::call(self, name, args, false, scope.schema());
        let number = || self.as_number(scope, column);
        match statistic.to_ascii_lowercase().as_str() {
            "count" => call("count", vec![column.expr()]),
            "count_distinct" => faces::call(self, "count", vec![column.expr()], true, scope.schema()),
            "approx_count_distinct" => call("approx_count_distinct", vec![column.expr()]),
            "mean" => call("avg", vec![number()?]),
            "stddev" => call("stddev", vec![number()?]),
            "min" => call("min", vec![column.expr()]),
            "max" => call("max", vec![column.expr()]),
            other => {
                let percent = other.strip_suffix('%').and_then(|digits| digits.parse::<f64>().ok());
                let rank = percent.map(|percent| percent / 100.0).filter(|rank| (0.0..=1.0).contains(rank));
                let rank = rank.ok_or_else(|| {
                    Error::user(format!("`{statistic}` is not a statistic of `summary`")).with_help(
                        "There are count, mean, stddev, min, max, count_distinct, approx_count_distinct and \
                         percentiles such as `75%`.",
                    )
                })?;
                call("percentile_approx", vec![number()?, lit(rank)])
            }
        }
    }

    /// A column of numbers as it is, any other as doubles, where it can be read as such.
    fn as_number(&self, scope: &Scope, column: &ScopeColumn) -> Result<Expr> {
        if scope.data_type(column)?.is_numeric() {
            return Ok(column.expr());
        }
        faces::cast(column.expr(), &DataType::Float64, faces::CastMode::Try, scope.schema(), &self.conf)
    }

    /// `cov` and `corr`: one row with one number.
    pub(super) async fn pair_statistic(
        &self,
        input: &Option<Box<proto::Relation>>,
        (function, name): (&str, &str),
        columns: [&String; 2],
    ) -> Result<Scope> {
        let scope = self.input(input).await?;
        let columns = self.named(&scope, &columns.map(Clone::clone))?;
        for column in &columns {
            let data_type = scope.data_type(column)?;
            if !data_type.is_numeric() {
                return Err(Error::user(format!(
                    "`{name}` needs numeric columns, `{}` is of type `{}`",
                    column.name,
                    faces::type_name(&data_type)
                ))
                .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
            }
        }
        let args = columns.iter().map(ScopeColumn::expr).collect();
        let value = faces::call(self, function, args, false, scope.schema())?;
        self.aggregated(scope, Vec::new(), None, vec![Output::computed(value, name)])
    }

    pub(super) async fn corr(&self, corr: &proto::StatCorr) -> Result<Scope> {
        if let Some(method) = corr.method.as_deref().filter(|method| !method.eq_ignore_ascii_case("pearson")) {
            return Err(Error::unsupported(format!("correlation by `{method}`")).with_help("Use `pearson`."));
        }
        self.pair_statistic(&corr.input, ("corr", "corr"), [&corr.col1, &corr.col2]).await
    }

    /// How often the values of two columns stand together: a row per value of the first, a column per value
    /// of the second.
    pub(super) async fn crosstab(&self, crosstab: &proto::StatCrosstab) -> Result<Scope> {
        let scope = self.input(&crosstab.input).await?;
        let columns = self.named(&scope, &[crosstab.col1.clone(), crosstab.col2.clone()])?;
        let text = |column: &ScopeColumn| -> Result<Expr> {
            let text =
                faces::cast(column.expr(), &DataType::Utf8, faces::CastMode::Legacy, scope.schema(), &self.conf)?;
            Ok(when(text.clone().is_not_null(), text).otherwise(lit("null"))?)
        };
        let (row, second) = (text(&columns[0])?, text(&columns[1])?);
        let mut counts = Vec::new();
        for value in self.distinct_values(&scope, &second).await? {
            let name = value.try_as_str().flatten().unwrap_or_default().to_owned();
            let matching = when(second.clone().eq(lit(value)), lit(1_i64)).end()?;
            counts.push(Output::computed(faces::call(self, "count", vec![matching], false, scope.schema())?, name));
        }
        let group = Output::computed(row, format!("{}_{}", crosstab.col1, crosstab.col2));
        self.aggregated(scope, vec![group], None, counts)
    }

    /// One row with one array: for each column the array of its quantiles.
    pub(super) async fn approx_quantile(&self, quantile: &proto::StatApproxQuantile) -> Result<Scope> {
        let scope = self.input(&quantile.input).await?;
        let ranks: Vec<ScalarValue> = quantile.probabilities.iter().map(|rank| ScalarValue::from(*rank)).collect();
        let ranks = lit(ScalarValue::List(ScalarValue::new_list_nullable(&ranks, &DataType::Float64)));
        let mut lists = Vec::new();
        for column in self.named(&scope, &quantile.cols)? {
            if !scope.data_type(&column)?.is_numeric() {
                return Err(Error::user(format!("`approxQuantile` needs numeric columns, `{}` is none", column.name))
                    .with_condition("DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE"));
            }
            let value = faces::plain_cast(column.expr(), &DataType::Float64);
            let list = faces::call(self, "percentile_approx", vec![value, ranks.clone()], false, scope.schema())?;
            lists.push(Output::computed(list, self.names.unique(&column.name)));
        }
        let row = self.aggregated(scope, Vec::new(), None, lists)?;
        let empty = lit(ScalarValue::List(ScalarValue::new_list_nullable(&[], &DataType::Float64)));
        let lists = row
            .columns
            .iter()
            .map(|list| Ok(when(list.expr().is_not_null(), list.expr()).otherwise(empty.clone())?))
            .collect::<Result<_>>()?;
        let all = faces::scalar_function(self, "make_array", lists)?;
        row.project(vec![Output::computed(all, "approx_quantile")], &self.names)
    }

    /// For each column an array of the values that at least a share `support` of the rows has.
    pub(super) async fn freq_items(&self, items: &proto::StatFreqItems) -> Result<Scope> {
        let support = items.support.unwrap_or(DEFAULT_SUPPORT);
        if !(1e-4..=1.0).contains(&support) {
            return Err(Error::user(format!("the support must lie between 0.0001 and 1, got {support}")));
        }
        let scope = self.input(&items.input).await?;
        let mut result: Option<Scope> = None;
        for (name, column) in items.cols.iter().zip(self.named(&scope, &items.cols)?) {
            let frequent = self.frequent(&scope, &column, &format!("{name}_freqItems"), support)?;
            result = Some(match result {
                None => frequent,
                Some(others) => {
                    let frequent = frequent.disjoint_from(&others, &self.names)?;
                    let plan =
                        LogicalPlanBuilder::from(others.plan.clone()).cross_join(frequent.plan.clone())?.build()?;
                    let columns = others.columns.into_iter().chain(frequent.columns).collect();
                    Scope { plan, columns }
                }
            });
        }
        result.ok_or_else(|| Error::user("`freqItems` needs at least one column"))
    }

    fn frequent(&self, scope: &Scope, column: &ScopeColumn, name: &str, support: f64) -> Result<Scope> {
        let count = faces::call(self, "count", vec![lit(1_i64)], false, scope.schema())?;
        let (counted, all) = (self.names.unique("count"), self.names.unique("all"));
        let group = Output { passed: None, ..Output::passed(column) };
        let groups =
            self.aggregated(scope.clone(), vec![group], None, vec![Output::computed(count.clone(), &counted)])?;
        let total = self.aggregated(scope.clone(), Vec::new(), None, vec![Output::computed(count, &all)])?;
        let columns = groups.columns.iter().chain(&total.columns).cloned().collect();
        let plan = LogicalPlanBuilder::from(groups.plan).cross_join(total.plan)?.build()?;
        let both = Scope { plan, columns };
        let double = |name: &str| faces::plain_cast(Expr::Column(Column::new_unqualified(name)), &DataType::Float64);
        let often = double(&counted).gt_eq(double(&all) * lit(support));
        let value = both.columns[0].expr();
        let value = when(often, value).end()?;
        let list = faces::call(self, "collect_list", vec![value], false, both.schema())?;
        self.aggregated(both, Vec::new(), None, vec![Output::computed(list, name)])
    }

    /// Of the rows of each stratum the share that is named for it; of others none.
    pub(super) async fn sample_by(&self, sample: &proto::StatSampleBy) -> Result<Scope> {
        let scope = self.input(&sample.input).await?;
        let expressions = Expressions::new(self, &scope);
        let stratum = expressions.plan(required(sample.col.as_ref())?)?.unalias();
        let mut chosen = lit(false);
        let random = self.names.unique("sample");
        let number = Expr::Column(Column::new_unqualified(random.as_str()));
        for fraction in &sample.fractions {
            let value = literal::scalar(required(fraction.stratum.as_ref())?)?;
            let same = expressions.binary(stratum.clone(), datafusion::logical_expr::Operator::Eq, lit(value))?;
            chosen = chosen.or(same.and(number.clone().lt(lit(fraction.fraction))));
        }
        self.sampled(scope, sample.seed, &random, chosen)
    }
}
