//! Functions written in SQL: what is kept of one, how a call's arguments meet its parameters, and which of them a
//! session knows.
//!
//! How a call becomes part of a query is the planner's business (`sql::query::user_function`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};

use crate::conf::SparkConf;
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::{ObjectName, RelationRequest, UnresolvedRelation};
use crate::types::quote;

/// The settings that a function keeps: its body means what it meant under them.
const MEANING: [&str; 2] = ["spark.sql.ansi.enabled", "spark.sql.session.timeZone"];

/// A function whose body is SQL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlFunction {
    /// The name in the spelling of its creation.
    pub name: String,
    /// The catalog and schema it is stored in; `None` for one that lives as long as its session.
    pub stored_in: Option<(String, String)>,
    /// The parameters, those with a default last.
    pub parameters: Vec<FunctionParameter>,
    /// What a call gives.
    pub returns: FunctionResult,
    /// The expression or query after `RETURN`.
    pub body: String,
    /// `COMMENT`
    pub comment: Option<String>,
    /// Whether equal arguments give equal results.
    pub deterministic: bool,
    /// Whether the body reads a table.
    pub reads_data: bool,
    /// The catalog and schema in which unqualified names of the body are looked up; `None`: where the call stands.
    pub namespace: Option<(String, String)>,
    /// Temporary views that the body reads, in lower case: their names are not completed.
    pub temporary_views: Vec<String>,
    /// The settings under which the function was created, as far as they decide what its body means.
    pub settings: BTreeMap<String, String>,
    /// When, in milliseconds since 1970.
    pub created_ms: i64,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionParameter {
    /// Its name.
    pub name: String,
    /// Its type, as Spark names it.
    pub data_type: String,
    /// The expression after `DEFAULT`.
    pub default: Option<String>,
    /// `COMMENT`
    pub comment: Option<String>,
}

/// What a function gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FunctionResult {
    /// A value of this type; of that of the body if none is declared.
    Value(Option<String>),
    /// Rows with these columns; with those of the body if none are declared.
    Rows(Option<Vec<ResultColumn>>),
}

/// A column of what a table function gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultColumn {
    /// Its name.
    pub name: String,
    /// Its type, as Spark names it.
    pub data_type: String,
    /// `COMMENT`
    pub comment: Option<String>,
}

impl SqlFunction {
    /// The settings of `conf` that a function keeps.
    pub fn settings_of(conf: &SparkConf) -> BTreeMap<String, String> {
        MEANING.iter().filter_map(|key| Some(((*key).to_owned(), conf.get(key)?))).collect()
    }

    /// The name that columns and messages show: that of a stored function is complete.
    pub fn title(&self) -> String {
        match &self.stored_in {
            Some((catalog, schema)) => format!("{catalog}.{schema}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Where its body stands, for messages.
    pub fn location(&self) -> SourceLocation {
        SourceLocation::new(format!("<function {}>", self.name), 1, 1)
    }

    /// Whether it gives rows.
    pub fn is_table_function(&self) -> bool {
        matches!(self.returns, FunctionResult::Rows(_))
    }

    /// A read of its body with its name completed.
    pub(crate) fn complete_read(&self, mut request: RelationRequest) -> RelationRequest {
        if let UnresolvedRelation::Table { name, .. } = &mut request.relation
            && !self.temporary_views.contains(&name.to_string().to_lowercase())
        {
            *name = self.complete(name);
        }
        request
    }

    /// A name in its body with the catalog and schema that it is looked up in.
    pub(crate) fn complete(&self, name: &ObjectName) -> ObjectName {
        let Some((catalog, schema)) = &self.namespace else { return name.clone() };
        let parts = match name.0.as_slice() {
            [one] => vec![catalog.clone(), schema.clone(), one.clone()],
            // The virtual schema of a pipeline's datasets.
            [live, _] if live.eq_ignore_ascii_case("live") => name.0.clone(),
            [schema, one] => vec![catalog.clone(), schema.clone(), one.clone()],
            complete => complete.to_vec(),
        };
        ObjectName(parts)
    }

    /// Refuses a call under other settings than the body was written for.
    ///
    /// # Errors
    /// `Unsupported`: what casts and operators do is decided for a query as a whole.
    pub(crate) fn check_settings(&self, conf: &SparkConf) -> Result<()> {
        let differs = |(key, value): &(&String, &String)| conf.get(key).as_ref() != Some(*value);
        match self.settings.iter().find(differs) {
            None => Ok(()),
            Some((key, value)) => {
                let now = conf.get(key).unwrap_or_default();
                Err(Error::unsupported(format!(
                    "function `{}`, created with `{key}` = `{value}`, in a session where that is `{now}`,",
                    self.title()
                ))
                .with_help(format!(
                    "Create the function again where `{key}` is `{now}`, or set it to `{value}` for the call."
                )))
            }
        }
    }

    /// The arguments of a call in the order of the parameters; `None` where a default stands in.
    ///
    /// # Errors
    /// `WRONG_NUM_ARGS`, `REQUIRED_PARAMETER_NOT_FOUND`, `UNRECOGNIZED_PARAMETER_NAME`, `UNEXPECTED_POSITIONAL_ARGUMENT`,
    /// `DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT` (`User`).
    pub(crate) fn bind<A>(&self, arguments: Vec<(Option<String>, A)>) -> Result<Vec<Option<A>>> {
        let name = self.title();
        let mut bound: Vec<Option<A>> = self.parameters.iter().map(|_| None).collect();
        let mut named: Vec<usize> = Vec::new();
        let (all, mut last_name) = (arguments.len(), None);
        for (at, (key, argument)) in arguments.into_iter().enumerate() {
            let Some(key) = key else {
                if let Some(before) = last_name {
                    return Err(Error::user(format!("a positional argument of `{name}` follows `{before}`"))
                        .with_condition("UNEXPECTED_POSITIONAL_ARGUMENT")
                        .with_help("Put the arguments without a name first."));
                }
                match bound.get_mut(at) {
                    Some(place) => *place = Some(argument),
                    None => return Err(self.wrong_number(all)),
                }
                continue;
            };
            let Some(at) = self.parameters.iter().position(|parameter| parameter.name.eq_ignore_ascii_case(&key))
            else {
                return Err(Error::user(format!("`{name}` has no parameter `{key}`"))
                    .with_condition("UNRECOGNIZED_PARAMETER_NAME"));
            };
            if bound.get(at).is_some_and(Option::is_some) {
                let how =
                    if named.contains(&at) { "DOUBLE_NAMED_ARGUMENT_REFERENCE" } else { "BOTH_POSITIONAL_AND_NAMED" };
                return Err(Error::user(format!("parameter `{key}` of `{name}` is given twice"))
                    .with_condition(format!("DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.{how}")));
            }
            bound[at] = Some(argument);
            named.push(at);
            last_name = Some(key);
        }
        let missing =
            |(parameter, value): &(&FunctionParameter, &Option<A>)| parameter.default.is_none() && value.is_none();
        match self.parameters.iter().zip(&bound).find(missing) {
            None => Ok(bound),
            Some(_) if named.is_empty() => Err(self.wrong_number(all)),
            Some((parameter, _)) => Err(Error::user(format!("`{name}` needs a value for `{}`", parameter.name))
                .with_condition("REQUIRED_PARAMETER_NOT_FOUND")),
        }
    }

    fn wrong_number(&self, given: usize) -> Error {
        let takes = self.parameters.len();
        Error::user(format!("`{}` takes {takes} arguments, got {given}", self.title()))
            .with_condition("WRONG_NUM_ARGS.WITHOUT_SUGGESTION")
    }
}

/// The functions in SQL that the queries of a session can call without asking the catalog.
#[derive(Debug, Clone, Default)]
pub struct SqlFunctions(HashMap<Vec<String>, Arc<SqlFunction>>);

impl SqlFunctions {
    /// Those of a session.
    pub(crate) fn of(session: &SessionState) -> Self {
        session.config().get_extension::<Self>().as_deref().cloned().unwrap_or_default()
    }

    /// A session that knows these functions, and is like `ctx` otherwise.
    pub fn in_session(self, ctx: &SessionContext) -> SessionContext {
        if self.0.is_empty() {
            return ctx.clone();
        }
        let mut state = ctx.state();
        state.config_mut().set_extension(Arc::new(self));
        SessionContext::new_with_state(state)
    }

    /// Makes a function known by `name`.
    pub fn insert(&mut self, name: &ObjectName, function: Arc<SqlFunction>) {
        self.0.insert(key(name), function);
    }

    /// Forgets the function of that name; whether there was one.
    pub fn remove(&mut self, name: &ObjectName) -> bool {
        self.0.remove(&key(name)).is_some()
    }

    /// The function of that name.
    pub fn get(&self, name: &ObjectName) -> Option<&Arc<SqlFunction>> {
        self.0.get(&key(name))
    }

    /// All of them, in order of their names.
    pub fn all(&self) -> Vec<&Arc<SqlFunction>> {
        let mut all: Vec<_> = self.0.values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// What a name that a call is written with stands for here, within the body of `within` if it stands in one.
    pub(crate) fn meant_by(&self, name: &ObjectName, within: Option<&SqlFunction>) -> ObjectName {
        match within {
            Some(within) if self.get(name).is_none_or(|function| function.stored_in.is_some()) => within.complete(name),
            _ => name.clone(),
        }
    }
}

fn key(name: &ObjectName) -> Vec<String> {
    name.0.iter().map(|part| part.to_lowercase()).collect()
}

/// The error that a routine of that name is there already.
pub(crate) fn already_exists(name: &ObjectName) -> Error {
    Error::user(format!("function `{name}` already exists"))
        .with_condition("ROUTINE_ALREADY_EXISTS")
        .with_parameter("routineName", quoted(name))
        .with_help("Use CREATE OR REPLACE FUNCTION, or drop it first.")
}

/// The error that there is no routine of that name to be dropped or described.
pub(crate) fn not_found(name: &ObjectName) -> Error {
    Error::user(format!("function `{name}` cannot be found"))
        .with_condition("ROUTINE_NOT_FOUND")
        .with_parameter("routineName", quoted(name))
}

fn quoted(name: &ObjectName) -> String {
    name.0.iter().map(|part| quote(part)).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn function() -> SqlFunction {
        let parameter = |name: &str, default: Option<&str>| FunctionParameter {
            name: name.to_owned(),
            data_type: "int".to_owned(),
            default: default.map(str::to_owned),
            comment: None,
        };
        SqlFunction {
            name: "f".to_owned(),
            stored_in: None,
            parameters: vec![parameter("a", None), parameter("b", Some("1"))],
            returns: FunctionResult::Value(None),
            body: "a + b".to_owned(),
            comment: None,
            deterministic: true,
            reads_data: false,
            namespace: Some(("c".to_owned(), "s".to_owned())),
            temporary_views: vec!["v".to_owned()],
            settings: BTreeMap::from([("spark.sql.ansi.enabled".to_owned(), "true".to_owned())]),
            created_ms: 0,
        }
    }

    fn bound(arguments: &[(Option<&str>, i32)]) -> Result<Vec<Option<i32>>, String> {
        let arguments = arguments.iter().map(|(name, value)| (name.map(str::to_owned), *value)).collect();
        function().bind(arguments).map_err(|error| error.condition().unwrap().to_owned())
    }

    #[test]
    fn arguments_find_their_parameters_by_position_and_by_name() {
        assert_eq!(bound(&[(None, 1)]).unwrap(), [Some(1), None]);
        assert_eq!(bound(&[(None, 1), (None, 2)]).unwrap(), [Some(1), Some(2)]);
        assert_eq!(bound(&[(Some("B"), 2), (Some("a"), 1)]).unwrap(), [Some(1), Some(2)]);
    }

    #[test]
    fn calls_that_fit_no_parameters_are_told_apart() {
        let refused = [
            (vec![], "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"),
            (vec![(None, 1), (None, 2), (None, 3)], "WRONG_NUM_ARGS.WITHOUT_SUGGESTION"),
            (vec![(Some("b"), 1)], "REQUIRED_PARAMETER_NOT_FOUND"),
            (vec![(Some("x"), 1)], "UNRECOGNIZED_PARAMETER_NAME"),
            (vec![(Some("a"), 1), (None, 1)], "UNEXPECTED_POSITIONAL_ARGUMENT"),
            (vec![(None, 1), (Some("a"), 1)], "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.BOTH_POSITIONAL_AND_NAMED"),
            (
                vec![(Some("a"), 1), (Some("a"), 1)],
                "DUPLICATE_ROUTINE_PARAMETER_ASSIGNMENT.DOUBLE_NAMED_ARGUMENT_REFERENCE",
            ),
        ];
        for (arguments, condition) in refused {
            assert_eq!(bound(&arguments).unwrap_err(), condition, "{arguments:?}");
        }
    }

    #[test]
    fn names_in_a_body_are_looked_up_where_it_was_written() {
        let name = |text: &str| ObjectName(text.split('.').map(str::to_owned).collect());
        assert_eq!(function().complete(&name("t")), name("c.s.t"));
        assert_eq!(function().complete(&name("x.t")), name("c.x.t"));
        let read = |text: &str| RelationRequest {
            relation: UnresolvedRelation::Table { name: name(text), options: Default::default(), time_travel: None },
            streaming: false,
            location: None,
        };
        assert_eq!(function().complete_read(read("t")), read("c.s.t"));
        assert_eq!(function().complete_read(read("V")), read("V"), "a temporary view");
    }

    #[test]
    fn a_body_is_not_read_under_other_settings() {
        let mut conf = SparkConf::pipeline_defaults();
        assert!(function().check_settings(&conf).is_err());
        conf.ansi = true;
        assert!(function().check_settings(&conf).is_ok());
    }
}
