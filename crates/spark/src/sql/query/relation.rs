//! What a query reads: table factors as requests to the resolver.

use std::ops::ControlFlow;

use chrono::{DateTime, SecondsFormat};
use chrono_tz::Tz;
use sqlparser::ast::{
    self, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, SelectItem, TableFactor, TableVersion,
    Value, Visit, Visitor,
};
use sqlparser::tokenizer::Location;

use super::user_function::parts_of;
use crate::cast::parse::timestamp;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::functions::is_generator;
use crate::relation::{ObjectName, ReadOptions, RelationRequest, TimeTravel, UnresolvedRelation};
use crate::sql::name::parse_name;
use crate::sql::tokens::{Source, WATERMARK, WATERMARK_DELAY, WATERMARK_NAME};
use crate::table_functions::has_known_rows;

/// Formats that may stand before a path: `` json.`/data/x` ``.
const FILE_FORMATS: [&str; 9] = ["delta", "parquet", "json", "csv", "text", "avro", "orc", "xml", "binaryfile"];

/// A base relation of a query.
pub(super) struct Read {
    pub(super) request: RelationRequest,
    /// What a `WATERMARK` clause says.
    pub(super) watermark: Option<Watermark>,
    /// The name's parts, by which columns may be qualified; empty for functions.
    pub(super) name: Vec<String>,
}

/// `WATERMARK event_time [AS name] DELAY OF delay`.
pub(super) struct Watermark {
    pub(super) event_time: Expr,
    pub(super) name: Option<String>,
    pub(super) delay: Expr,
}

/// What `query` reads, in the order of its text; times without a zone are those of `zone`.
///
/// Names of common table expressions are left out, and calls of what `is_function` knows; reads that are malformed are
/// errors.
pub(super) fn reads(
    tree: &impl Visit,
    source: &Source<'_>,
    zone: Tz,
    is_function: &dyn Fn(&ObjectName) -> bool,
) -> Vec<Result<Read>> {
    let mut collector = Collector { source: source.clone(), zone, is_function, ctes: Vec::new(), found: Vec::new() };
    let _ = tree.visit(&mut collector);
    collector.found
}

/// The first thing that a subquery in `items` reads, as people name it.
pub(super) fn first_read(items: &[SelectItem], source: &Source<'_>) -> Option<String> {
    let read = reads(&items.to_vec(), source, Tz::UTC, &|_| false).into_iter().next()?;
    Some(match read.map(|read| read.request.relation) {
        Ok(UnresolvedRelation::Table { name, .. }) => name.to_string(),
        Ok(UnresolvedRelation::Source { paths, .. }) => paths.join(", "),
        Ok(UnresolvedRelation::EventLog { .. }) => "event_log".to_owned(),
        Err(_) => "?".to_owned(),
    })
}

struct Collector<'a> {
    source: Source<'a>,
    zone: Tz,
    is_function: &'a dyn Fn(&ObjectName) -> bool,
    /// Per open query: the names of its common table expressions and where they end.
    ctes: Vec<Vec<(String, Location)>>,
    found: Vec<Result<Read>>,
}

impl Collector<'_> {
    fn is_cte(&self, name: &Ident) -> bool {
        let known = |(cte, end): &(String, _)| cte.eq_ignore_ascii_case(&name.value) && *end < name.span.start;
        self.ctes.iter().flatten().any(known)
    }
}

impl Visitor for Collector<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let known = query.with.iter().flat_map(|with| {
            // With RECURSIVE a table may name itself.
            with.cte_tables.iter().map(|cte| {
                let end = if with.recursive { Location::new(0, 0) } else { cte.closing_paren_token.0.span.start };
                (cte.alias.name.value.clone(), end)
            })
        });
        self.ctes.push(known.collect());
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.ctes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        if let TableFactor::Table { name, args: Some(_), .. } = factor
            && (self.is_function)(&parts_of(name))
        {
            return ControlFlow::Continue(());
        }
        match read_of(factor, &self.source, self.zone).transpose() {
            Some(Ok(read)) => {
                let cte = match factor {
                    TableFactor::Table { name, args: None, .. } if name.0.len() == 1 => name.0[0].as_ident(),
                    _ => None,
                };
                if !cte.is_some_and(|name| self.is_cte(name)) {
                    self.found.push(Ok(read));
                }
            }
            Some(Err(error)) => self.found.push(Err(error)),
            None => {}
        }
        ControlFlow::Continue(())
    }
}

/// The base relation that `factor` is; `None` for joins, subqueries and functions that read nothing.
pub(super) fn read_of(factor: &TableFactor, source: &Source<'_>, zone: Tz) -> Result<Option<Read>> {
    let TableFactor::Table { name, args, version, with_hints, .. } = factor else { return Ok(None) };
    let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
    let [first, ..] = idents.as_slice() else { return Ok(None) };
    let place = source.place(first.span.start);
    // `STREAM t WITH (…)` has become a call by now: what is left are options of a batch read.
    if !with_hints.is_empty() {
        return Err(Error::unsupported("`WITH (…)` options on a table that is not read as a stream").at(place));
    }
    let at = |error: Error| error.at(place.clone());
    let time_travel = version.as_ref().map(|version| time_travel(version, zone)).transpose().map_err(at)?;
    let Some(args) = args else {
        return named(&idents, time_travel, ReadOptions::new(), false, place).map(Some);
    };
    if idents.len() == 1 && first.value.eq_ignore_ascii_case("stream") {
        return stream(&args.args, source, place).map(Some);
    }
    let relation = function(&idents, &args.args).map_err(at)?;
    let streaming = first.value.eq_ignore_ascii_case("cloud_files");
    Ok(relation.map(|relation| Read {
        request: RelationRequest { relation, streaming, location: Some(place.clone()) },
        watermark: None,
        name: Vec::new(),
    }))
}

fn named(
    idents: &[&Ident],
    time_travel: Option<TimeTravel>,
    options: ReadOptions,
    streaming: bool,
    place: SourceLocation,
) -> Result<Read> {
    let name: Vec<String> = idents.iter().map(|ident| ident.value.clone()).collect();
    let relation = match name.as_slice() {
        [format, path]
            if idents[1].quote_style.is_some() && FILE_FORMATS.contains(&format.to_ascii_lowercase().as_str()) =>
        {
            by_path(format, path, time_travel, options).map_err(|error| error.at(place.clone()))?
        }
        _ => UnresolvedRelation::Table { name: ObjectName(name.clone()), options, time_travel },
    };
    Ok(Read { request: RelationRequest { relation, streaming, location: Some(place) }, watermark: None, name })
}

/// `` delta.`/x` VERSION AS OF 3 ``: the state to read is an option of the reader.
fn by_path(
    format: &str,
    path: &str,
    time_travel: Option<TimeTravel>,
    mut options: ReadOptions,
) -> Result<UnresolvedRelation> {
    if time_travel.is_some() && !format.eq_ignore_ascii_case("delta") {
        return Err(Error::user(format!("files of format `{format}` have no versions to go back to"))
            .with_condition("UNSUPPORTED_FEATURE.TIME_TRAVEL")
            .with_help("Only Delta tables can be read as of a version or a time."));
    }
    match time_travel {
        Some(TimeTravel::Version(version)) => options.set("versionAsOf", version.to_string()),
        Some(TimeTravel::Timestamp(at_us)) => {
            let at = DateTime::from_timestamp_micros(at_us)
                .ok_or_else(|| Error::user("the timestamp is out of range of the calendar"))?;
            options.set("timestampAsOf", at.to_rfc3339_opts(SecondsFormat::Micros, true));
        }
        None => {}
    }
    let (format, paths) = (Some(format.to_owned()), vec![path.to_owned()]);
    Ok(UnresolvedRelation::Source { format, paths, schema: None, options })
}

/// `STREAM(t, option => value, …)`
fn stream(args: &[FunctionArg], source: &Source<'_>, place: SourceLocation) -> Result<Read> {
    let wrong = || source.syntax_error("expected a table or a table function in `STREAM`", place.clone());
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner)), rest @ ..] = args else { return Err(wrong()) };
    let (mut event_time, mut name, mut delay) = (None, None, None);
    let mut options = ReadOptions::new();
    for arg in rest {
        match arg {
            FunctionArg::Named { name: part, arg: FunctionArgExpr::Expr(value), .. } if part.value == WATERMARK => {
                event_time = Some(value.clone());
            }
            FunctionArg::Named { name: part, arg: FunctionArgExpr::Expr(value), .. }
                if part.value == WATERMARK_DELAY =>
            {
                delay = Some(value.clone());
            }
            FunctionArg::Named { name: part, arg: FunctionArgExpr::Expr(Expr::Identifier(value)), .. }
                if part.value == WATERMARK_NAME =>
            {
                name = Some(value.value.clone());
            }
            other => set_option(other, &mut options).map_err(|error| error.at(place.clone()))?,
        }
    }
    let mut read = match inner {
        Expr::Identifier(name) => named(&[name], None, options, true, source.place(name.span.start))?,
        Expr::CompoundIdentifier(parts) => {
            named(&parts.iter().collect::<Vec<_>>(), None, options, true, source.place(parts[0].span.start))?
        }
        Expr::Function(call) => {
            let idents: Vec<&Ident> = call.name.0.iter().filter_map(|part| part.as_ident()).collect();
            let FunctionArguments::List(list) = &call.args else { return Err(wrong()) };
            let relation = function(&idents, &list.args).map_err(|error| error.at(place.clone()))?.ok_or_else(wrong)?;
            Read {
                request: RelationRequest { relation, streaming: true, location: Some(place) },
                watermark: None,
                name: Vec::new(),
            }
        }
        _ => return Err(wrong()),
    };
    read.watermark = event_time.zip(delay).map(|(event_time, delay)| Watermark { event_time, name, delay });
    Ok(read)
}

/// The relation a table function reads; `None` if it reads nothing (`range`, `sql_keywords`).
fn function(name: &[&Ident], args: &[FunctionArg]) -> Result<Option<UnresolvedRelation>> {
    let [ident] = name else { return Ok(None) };
    match ident.value.to_ascii_lowercase().as_str() {
        "read_files" => files(args).map(Some),
        "cloud_files" => cloud_files(args).map(Some),
        "read_kafka" | "read_kinesis" | "read_pubsub" | "read_pulsar" => {
            let mut options = ReadOptions::new();
            args.iter().try_for_each(|arg| set_option(arg, &mut options))?;
            let format = ident.value.to_ascii_lowercase().trim_start_matches("read_").to_owned();
            Ok(Some(UnresolvedRelation::Source { format: Some(format), paths: Vec::new(), schema: None, options }))
        }
        "event_log" => event_log(args).map(Some),
        "table_changes" => table_changes(args, false).map(Some),
        "table_changes_by_path" => table_changes(args, true).map(Some),
        "range" => Ok(None),
        name if has_known_rows(name) => Ok(None),
        generator if is_generator(generator) => Ok(None),
        other => Err(Error::unsupported(format!("table function `{other}`"))
            .with_condition("UNRESOLVABLE_TABLE_VALUED_FUNCTION")
            .with_parameter("name", format!("`{other}`"))),
    }
}

fn files(args: &[FunctionArg]) -> Result<UnresolvedRelation> {
    let (paths, mut options) = (positional(args)?, ReadOptions::new());
    let named = args.iter().filter(|arg| !matches!(arg, FunctionArg::Unnamed(_)));
    named.into_iter().try_for_each(|arg| set_option(arg, &mut options))?;
    // A Delta table is no set of files; everything else is the reader's to tell from the option `format`.
    let delta = options.get("format").is_some_and(|format| format.eq_ignore_ascii_case("delta"));
    let format = if delta { "delta" } else { "read_files" };
    Ok(UnresolvedRelation::Source { format: Some(format.to_owned()), paths, schema: None, options })
}

fn cloud_files(args: &[FunctionArg]) -> Result<UnresolvedRelation> {
    let mut options = ReadOptions::new();
    let texts: Vec<String> = args.iter().take(2).map(argument).map(|arg| text(arg?)).collect::<Result<_>>()?;
    let [path, format] = texts.as_slice() else {
        return Err(
            Error::user("`cloud_files` needs a path and a format").with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")
        );
    };
    options.set("cloudFiles.format", format);
    if let Some(map) = args.get(2) {
        for (key, value) in pairs(argument(map)?)? {
            options.set(key, value);
        }
    }
    let paths = vec![path.clone()];
    Ok(UnresolvedRelation::Source { format: Some("cloudFiles".to_owned()), paths, schema: None, options })
}

/// The entries of `map('k', 'v', …)`.
fn pairs(map: &Expr) -> Result<Vec<(String, String)>> {
    let Expr::Function(ast::Function { name, args: FunctionArguments::List(list), .. }) = map else {
        return Err(Error::user("expected options as `map('key', 'value', …)`"));
    };
    if !name.to_string().eq_ignore_ascii_case("map") {
        return Err(Error::user("expected options as `map('key', 'value', …)`"));
    }
    let texts = list.args.iter().map(|arg| text(argument(arg)?)).collect::<Result<Vec<_>>>()?;
    Ok(texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

fn event_log(args: &[FunctionArg]) -> Result<UnresolvedRelation> {
    let [arg] = args else { return Err(Error::user("`event_log` needs a pipeline id or `TABLE(name)`")) };
    let expr = argument(arg)?;
    if let Expr::Function(ast::Function { name, args: FunctionArguments::List(list), .. }) = expr
        && name.to_string().eq_ignore_ascii_case("table")
        && let [table] = list.args.as_slice()
    {
        let parts = match argument(table)? {
            Expr::Identifier(name) => vec![name.value.clone()],
            Expr::CompoundIdentifier(parts) => parts.iter().map(|part| part.value.clone()).collect(),
            _ => return Err(Error::user("expected a table name in `TABLE(…)`")),
        };
        return Ok(UnresolvedRelation::EventLog { pipeline_id: None, table: Some(ObjectName(parts)) });
    }
    Ok(UnresolvedRelation::EventLog { pipeline_id: Some(text(expr)?), table: None })
}

/// `table_changes('t', start[, end])`; a bound is a version, or a time as text.
fn table_changes(args: &[FunctionArg], by_path: bool) -> Result<UnresolvedRelation> {
    let given = positional(args)?;
    let ([table, bounds @ ..], 1..=2) = (given.as_slice(), given.len().saturating_sub(1)) else {
        return Err(Error::user("`table_changes` needs a table, a start and possibly an end")
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION"));
    };
    let mut options = ReadOptions::new();
    options.set("readChangeFeed", "true");
    for (side, bound) in ["starting", "ending"].into_iter().zip(bounds) {
        let is_version = bound.bytes().all(|byte| byte.is_ascii_digit());
        options.set(format!("{side}{}", if is_version { "Version" } else { "Timestamp" }), bound);
    }
    if by_path {
        let (format, paths) = (Some("delta".to_owned()), vec![table.clone()]);
        return Ok(UnresolvedRelation::Source { format, paths, schema: None, options });
    }
    Ok(UnresolvedRelation::Table { name: parse_name(table)?, options, time_travel: None })
}

fn positional(args: &[FunctionArg]) -> Result<Vec<String>> {
    args.iter().filter(|arg| matches!(arg, FunctionArg::Unnamed(_))).map(|arg| text(argument(arg)?)).collect()
}

fn argument(arg: &FunctionArg) -> Result<&Expr> {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => Ok(expr),
        other => Err(Error::unsupported(format!("argument `{other}`"))),
    }
}

fn set_option(arg: &FunctionArg, options: &mut ReadOptions) -> Result<()> {
    match arg {
        FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. } => {
            options.set(name.value.clone(), text(value)?)
        }
        FunctionArg::ExprNamed { name: Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
            options.set(name.value.clone(), text(value)?);
        }
        other => return Err(Error::user(format!("expected an option `key => value`, found `{other}`"))),
    }
    Ok(())
}

/// The text of a constant; strings may be joined by `||`.
fn text(expr: &Expr) -> Result<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            Value::Number(text, _) => Ok(text.clone()),
            Value::Boolean(value) => Ok(value.to_string()),
            other => Err(Error::user(format!("expected a constant, found `{other}`"))),
        },
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => Ok(format!("-{}", text(expr)?)),
        Expr::BinaryOp { left, op: ast::BinaryOperator::StringConcat, right } => Ok(text(left)? + &text(right)?),
        Expr::Nested(inner) => text(inner),
        other => {
            Err(Error::user(format!("expected a constant, found `{other}`")).with_condition("NON_FOLDABLE_ARGUMENT"))
        }
    }
}

/// Whether the time of a `TIMESTAMP AS OF` is written as a constant.
pub(super) fn is_constant(expr: &Expr) -> bool {
    matches!(expr, Expr::TypedString(_)) || text(expr).is_ok()
}

fn time_travel(version: &TableVersion, zone: Tz) -> Result<TimeTravel> {
    match version {
        TableVersion::VersionAsOf(expr) => {
            let text = text(expr)?;
            text.parse().map(TimeTravel::Version).map_err(|_| Error::user(format!("`{text}` is not a table version")))
        }
        TableVersion::TimestampAsOf(expr) | TableVersion::ForSystemTimeAsOf(expr) => {
            let text = match expr {
                Expr::TypedString(typed) => typed.value.clone().into_string().unwrap_or_default(),
                other => text(other)?,
            };
            let at_us = timestamp(&text, zone).ok_or_else(|| {
                Error::user(format!("`{text}` is not a timestamp"))
                    .with_condition("INVALID_TIME_TRAVEL_TIMESTAMP_EXPR.INPUT")
            })?;
            Ok(TimeTravel::Timestamp(at_us))
        }
        other => Err(Error::unsupported(format!("`{other}`"))),
    }
}
