//! Until when a row of a stream may find a partner in another stream: what the condition of a join says of event times.
//!
//! Of a row of one side, a conjunct such as `payment.at <= order.at + INTERVAL 1 HOUR` tells the latest event time that a partner
//! may have. Once the watermark has passed that, no partner can come any more.

use arrow::datatypes::{DataType, IntervalMonthDayNano, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Between, BinaryExpr, Cast, Expr, ExprSchemable as _, Join, LogicalPlan, Operator};

use crate::event_time::{Shape, event_time};

const DAY_US: i64 = 24 * HOUR_US;
const HOUR_US: i64 = 3_600_000_000;

/// Until when the rows of one side may find partners.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    /// The event time of the other side that is bounded.
    pub partner: Column,
    /// A time of the row, or a window that ends then. A row without it has no partner.
    pub time: Expr,
    /// How much later than `time` a partner may be.
    pub plus_us: i64,
    /// If `time` stands by the row's own event time: that, and how much later than it a partner may be.
    pub of_own: Option<(Column, i64)>,
}

/// The bounds of both sides, as far as the condition has them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bounds {
    pub left: Option<Bound>,
    pub right: Option<Bound>,
}

impl Bounds {
    /// What the condition of `join` says.
    pub(crate) fn of(join: &Join) -> Self {
        let (left, right) = (join.left.as_ref(), join.right.as_ref());
        let mut bounds: [Vec<Bound>; 2] = [Vec::new(), Vec::new()];
        for (lower, upper) in inequalities(join) {
            bounds[0].extend(bound((left, &upper), (right, &lower)));
            bounds[1].extend(bound((right, &upper), (left, &lower)));
        }
        let [left, right] = bounds.map(|mut bounds| {
            // One that knows more is worth more.
            let best = bounds.iter().position(|bound| bound.of_own.is_some()).unwrap_or(0);
            (!bounds.is_empty()).then(|| bounds.swap_remove(best))
        });
        Self { left, right }
    }
}

/// The pairs of which the condition says that the first is not greater than the second.
fn inequalities(join: &Join) -> Vec<(Expr, Expr)> {
    let mut pairs = Vec::new();
    for (left, right) in &join.on {
        pairs.extend([(left.clone(), right.clone()), (right.clone(), left.clone())]);
    }
    for conjunct in join.filter.iter().flat_map(split_conjunction) {
        match conjunct {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let (left, right) = (left.as_ref().clone(), right.as_ref().clone());
                match op {
                    Operator::Lt | Operator::LtEq => pairs.push((left, right)),
                    Operator::Gt | Operator::GtEq => pairs.push((right, left)),
                    Operator::Eq => pairs.extend([(left.clone(), right.clone()), (right, left)]),
                    _ => {}
                }
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                pairs.push((low.as_ref().clone(), expr.as_ref().clone()));
                pairs.push((expr.as_ref().clone(), high.as_ref().clone()));
            }
            _ => {}
        }
    }
    pairs
}

/// What `partner <= own` says of the rows of the side that `own` is of.
fn bound((own_side, own): (&LogicalPlan, &Expr), (partner_side, partner): (&LogicalPlan, &Expr)) -> Option<Bound> {
    let is_of_side = own.column_refs().iter().all(|column| own_side.schema().has_column(column));
    if !is_of_side || own.column_refs().is_empty() {
        return None;
    }
    if let (Expr::Column(column), Expr::Column(of_partner)) = (own, partner) {
        let is_window = |expr: &Expr, side| matches!(event_time(expr, side)?.shape, Shape::Window(_)).then_some(());
        if is_window(own, own_side).and(is_window(partner, partner_side)).is_some() {
            let of_own = Some((column.clone(), 0));
            return Some(Bound { partner: of_partner.clone(), time: own.clone(), plus_us: 0, of_own });
        }
    }
    let shifted = shifted(partner, partner_side)?;
    if !matches!(own.get_type(own_side.schema()).ok()?, DataType::Timestamp(TimeUnit::Microsecond, _)) {
        return None;
    }
    // `time + least <= own` says no more than `time <= own - least`.
    let plus_us = shifted.least_us.checked_neg()?;
    let of_own = self::shifted(own, own_side).and_then(|own| Some((own.column, own.greatest_us.checked_add(plus_us)?)));
    Some(Bound { partner: shifted.column, time: own.clone(), plus_us, of_own })
}

/// An event time with a constant added to it, which may be a day of 23 hours.
struct Shifted {
    column: Column,
    least_us: i64,
    greatest_us: i64,
}

fn shifted(expr: &Expr, side: &LogicalPlan) -> Option<Shifted> {
    match expr {
        Expr::Alias(alias) => shifted(&alias.expr, side),
        Expr::Cast(Cast { expr, field }) => {
            let is_time = |data_type: &DataType| matches!(data_type, DataType::Timestamp(..));
            let same = is_time(&expr.get_type(side.schema()).ok()?) && is_time(field.data_type());
            same.then(|| shifted(expr, side)).flatten()
        }
        Expr::Column(column) => (event_time(expr, side)?.shape == Shape::Instant && side.schema().has_column(column))
            .then(|| Shifted { column: column.clone(), least_us: 0, greatest_us: 0 }),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Plus, right }) => {
            moved(left, right, 1, side).or_else(|| moved(right, left, 1, side))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) => moved(left, right, -1, side),
        Expr::ScalarFunction(ScalarFunction { func, args }) => match (func.name(), args.as_slice()) {
            ("spark_time_add", [time, interval]) => moved(time, interval, 1, side),
            ("spark_time_subtract", [time, interval]) => moved(time, interval, -1, side),
            _ => None,
        },
        _ => None,
    }
}

fn moved(time: &Expr, interval: &Expr, sign: i64, side: &LogicalPlan) -> Option<Shifted> {
    let time = shifted(time, side)?;
    let (least, greatest) = length_us(interval)?;
    let (least, greatest) = if sign < 0 { (greatest.checked_neg()?, least.checked_neg()?) } else { (least, greatest) };
    Some(Shifted {
        least_us: time.least_us.checked_add(least)?,
        greatest_us: time.greatest_us.checked_add(greatest)?,
        column: time.column,
    })
}

/// How long a constant interval is at least and at most: days of the calendar may have 23 or 25 hours.
fn length_us(interval: &Expr) -> Option<(i64, i64)> {
    let literal = match interval {
        Expr::Literal(literal, _) => literal,
        Expr::Alias(alias) => return length_us(&alias.expr),
        Expr::Cast(Cast { expr, .. }) => return length_us(expr),
        _ => return None,
    };
    let of_days = |days: i64, us: i64| {
        let slack = if days == 0 { 0 } else { HOUR_US };
        let exact = days.checked_mul(DAY_US)?.checked_add(us)?;
        Some((exact.checked_sub(slack)?, exact.checked_add(slack)?))
    };
    match literal {
        ScalarValue::DurationMicrosecond(Some(us)) => Some((*us, *us)),
        ScalarValue::IntervalDayTime(Some(value)) => {
            of_days(i64::from(value.days), i64::from(value.milliseconds).checked_mul(1000)?)
        }
        ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano { months: 0, days, nanoseconds })) => {
            of_days(i64::from(*days), nanoseconds / 1000)
        }
        _ => None,
    }
}
