//! Which columns an expression sees, and how a name finds its column, without regard to case.

use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use sqlparser::ast::{
    AccessExpr, Expr, Ident, LambdaFunction, LambdaFunctionParameter, LambdaSyntax, OneOrManyWithParens, Value,
};

use super::repeated::shown;
use super::rewrite::call;
use crate::connect::types::is_hidden;
use crate::error::{Error, Result};
use crate::types::{is_variant, struct_fields};

/// A column that can be named.
#[derive(Debug, Clone)]
pub(super) struct ScopeColumn {
    /// The relation's name by parts, or its alias; empty if it has none.
    pub(super) qualifier: Vec<String>,
    pub(super) name: String,
    pub(super) data_type: DataType,
    /// How it is written for DataFusion.
    pub(super) expr: Expr,
    /// Seen only with its qualifier, or not by `*`.
    pub(super) visibility: Visibility,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Visibility {
    Full,
    /// Not part of `*`: file metadata.
    NotInStar,
    /// The other side's column of `USING`.
    Qualified,
}

/// The columns of one `FROM`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) columns: Vec<ScopeColumn>,
}

/// A name in back-quotes, as it is.
pub(super) fn ident(name: &str) -> Ident {
    Ident::with_quote('`', name)
}

pub(super) fn text(value: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(value.to_owned()))
}

impl Scope {
    /// The columns of a relation with `alias` in the rewritten query.
    pub(super) fn relation(schema: &DFSchema, qualifier: &[String], alias: &str, base: bool) -> Self {
        let columns = schema.fields().iter().map(|field| {
            let metadata = base && is_hidden(field);
            ScopeColumn {
                qualifier: qualifier.to_vec(),
                name: shown(field.name()).to_owned(),
                data_type: field.data_type().clone(),
                expr: Expr::CompoundIdentifier(vec![ident(alias), ident(field.name())]),
                visibility: if metadata { Visibility::NotInStar } else { Visibility::Full },
            }
        });
        Self { columns: columns.collect() }
    }

    /// The columns of a schema as DataFusion names them.
    pub(super) fn schema(schema: &DFSchema) -> Self {
        let columns = schema.iter().map(|(qualifier, field)| {
            let qualifier: Vec<String> = qualifier.map(|q| q.to_vec()).unwrap_or_default();
            let mut parts: Vec<Ident> = qualifier.iter().map(|part| ident(part)).collect();
            parts.push(ident(field.name()));
            let expr = match parts.len() {
                1 => Expr::Identifier(parts.remove(0)),
                _ => Expr::CompoundIdentifier(parts),
            };
            let (name, data_type) = (field.name().clone(), field.data_type().clone());
            let visibility = if is_hidden(field) { Visibility::NotInStar } else { Visibility::Full };
            ScopeColumn { qualifier, name, data_type, expr, visibility }
        });
        Self { columns: columns.collect() }
    }

    /// The column (or field of a column) that `parts` name; `None` if there is none.
    pub(super) fn resolve(&self, parts: &[Ident]) -> Result<Option<Expr>> {
        for qualified in (0..parts.len()).rev() {
            let (qualifier, rest) = parts.split_at(qualified);
            let mut found: Vec<&ScopeColumn> =
                self.columns.iter().filter(|column| column.is(qualifier, &rest[0].value)).collect();
            // What `*` leaves out, such as the other side's key of a join by name, is meant by nobody who names the column that it has.
            if found.iter().any(|column| column.visibility == Visibility::Full) {
                found.retain(|column| column.visibility == Visibility::Full);
            }
            match found.as_slice() {
                [] => {}
                [column] => {
                    if let Some(expr) = column.field(&rest[1..])? {
                        return Ok(Some(expr));
                    }
                }
                _ => return Err(ambiguous(parts, &found)),
            }
        }
        Ok(None)
    }

    /// The columns of `*`, or of `qualifier.*`.
    pub(super) fn star<'a>(&'a self, qualifier: &'a [Ident]) -> impl Iterator<Item = &'a ScopeColumn> {
        self.columns.iter().filter(move |column| match qualifier {
            [] => column.visibility == Visibility::Full,
            _ => column.visibility != Visibility::NotInStar && column.has_qualifier(qualifier),
        })
    }
}

impl ScopeColumn {
    pub(super) fn is(&self, qualifier: &[Ident], name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
            && match qualifier {
                [] => self.visibility != Visibility::Qualified,
                _ => self.has_qualifier(qualifier),
            }
    }

    fn has_qualifier(&self, qualifier: &[Ident]) -> bool {
        let strip_live = match qualifier {
            [live, rest @ ..] if !rest.is_empty() && live.value.eq_ignore_ascii_case("live") => rest,
            all => all,
        };
        let ends_with = |parts: &[Ident]| {
            parts.len() <= self.qualifier.len()
                && self.qualifier.iter().rev().zip(parts.iter().rev()).all(|(a, b)| a.eq_ignore_ascii_case(&b.value))
        };
        ends_with(qualifier) || ends_with(strip_live)
    }

    /// The column itself, or the nested field that `path` names in it.
    fn field(&self, path: &[Ident]) -> Result<Option<Expr>> {
        let mut access = Vec::new();
        let mut data_type = self.data_type.clone();
        for (at, part) in path.iter().enumerate() {
            match &data_type {
                // Refused where the access is planned, with the reason.
                variant if is_variant(variant) => {
                    access.push(AccessExpr::Dot(text(&part.value)));
                    break;
                }
                DataType::Struct(fields) => {
                    let Some(field) = fields.iter().find(|field| field.name().eq_ignore_ascii_case(&part.value)) else {
                        return Ok(None);
                    };
                    access.push(AccessExpr::Dot(text(field.name())));
                    data_type = field.data_type().clone();
                }
                DataType::Map(entries, _) => {
                    access.push(AccessExpr::Dot(text(&part.value)));
                    data_type = map_value(entries).cloned().unwrap_or(DataType::Null);
                }
                DataType::List(element) => {
                    let Some(fields) = path_in(element.data_type(), &path[at..]) else { return Ok(None) };
                    return Ok(Some(of_elements(accessed(self.expr.clone(), access), fields)));
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(accessed(self.expr.clone(), access)))
    }
}

fn accessed(root: Expr, access_chain: Vec<AccessExpr>) -> Expr {
    match access_chain.is_empty() {
        true => root,
        false => Expr::CompoundFieldAccess { root: Box::new(root), access_chain },
    }
}

/// How structures within structures are accessed along `path`; `None` if there is no such field.
fn path_in(data_type: &DataType, path: &[Ident]) -> Option<Vec<AccessExpr>> {
    let mut access = Vec::with_capacity(path.len());
    let mut data_type = data_type;
    for part in path {
        let fields = struct_fields(data_type)?;
        let field = fields.iter().find(|field| field.name().eq_ignore_ascii_case(&part.value))?;
        access.push(AccessExpr::Dot(text(field.name())));
        data_type = field.data_type();
    }
    Some(access)
}

/// `array.field`: the field of every element, as an array.
fn of_elements(array: Expr, fields: Vec<AccessExpr>) -> Expr {
    let element = ident("__element");
    let parameter = LambdaFunctionParameter { name: element.clone(), data_type: None };
    let lambda = Expr::Lambda(LambdaFunction {
        params: OneOrManyWithParens::One(parameter),
        body: Box::new(accessed(Expr::Identifier(element), fields)),
        syntax: LambdaSyntax::Arrow,
    });
    call("transform", vec![array, lambda])
}

/// The type of a map's values.
fn map_value(entries: &Field) -> Option<&DataType> {
    match entries.data_type() {
        DataType::Struct(fields) => fields.get(1).map(|field| field.data_type()),
        _ => None,
    }
}

fn joined(parts: &[Ident]) -> String {
    parts.iter().map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
}

fn ambiguous(parts: &[Ident], found: &[&ScopeColumn]) -> Error {
    let all: Vec<String> = found.iter().map(|column| column.full_name()).collect();
    Error::user(format!("column `{}` is ambiguous", joined(parts)))
        .with_condition("AMBIGUOUS_REFERENCE")
        .with_help(format!("It could be {}: add a qualifier.", all.join(" or ")))
}

impl ScopeColumn {
    fn full_name(&self) -> String {
        let parts: Vec<&str> = self.qualifier.iter().map(String::as_str).chain([self.name.as_str()]).collect();
        format!("`{}`", parts.join("."))
    }
}

/// A column of `scopes` that is a structure without the field that follows it in `parts`.
fn missing_field(parts: &[Ident], scopes: &[&Scope]) -> Option<Error> {
    let (at, column) = (0..parts.len().saturating_sub(1)).find_map(|at| {
        let (qualifier, rest) = parts.split_at(at);
        let mut columns = scopes.iter().flat_map(|scope| &scope.columns);
        columns.find(|column| column.is(qualifier, &rest[0].value)).map(|column| (at, column))
    })?;
    let (mut data_type, mut known) = (&column.data_type, at + 1);
    while let (Some(fields), Some(part)) = (struct_fields(data_type), parts.get(known)) {
        let Some(field) = fields.iter().find(|field| field.name().eq_ignore_ascii_case(&part.value)) else {
            let names: Vec<String> = fields.iter().take(5).map(|field| format!("`{}`", field.name())).collect();
            let structure = joined(&parts[..known]);
            return Some(
                Error::user(format!("`{structure}` has no field `{}`", part.value))
                    .with_condition("FIELD_NOT_FOUND")
                    .with_help(format!("Its fields are {}.", names.join(", "))),
            );
        };
        (data_type, known) = (field.data_type(), known + 1);
    }
    None
}

/// The error that `parts` name no column of `scopes`.
pub(super) fn unresolved(parts: &[Ident], scopes: &[&Scope]) -> Error {
    if let Some(error) = missing_field(parts, scopes) {
        return error;
    }
    let wanted = parts.last().map(|part| part.value.to_lowercase()).unwrap_or_default();
    let mut names: Vec<&str> =
        scopes.iter().flat_map(|scope| &scope.columns).map(|column| column.name.as_str()).collect();
    names.sort_by_key(|name| strsim::damerau_levenshtein(&wanted, &name.to_lowercase()));
    names.dedup();
    let error = Error::user(format!("column `{}` cannot be resolved", joined(parts)));
    match names.is_empty() {
        true => error.with_condition("UNRESOLVED_COLUMN.WITHOUT_SUGGESTION"),
        false => {
            let nearest: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
            error
                .with_condition("UNRESOLVED_COLUMN.WITH_SUGGESTION")
                .with_help(format!("Did you mean one of {}?", nearest.join(", ")))
        }
    }
}
