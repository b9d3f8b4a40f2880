//! Functions written in SQL, as statements of a session make, drop, describe and list them.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use chrono::DateTime;
use datafusion::common::DFSchema;
use datafusion::logical_expr::LogicalPlan;

use super::command::{fits, text_rows};
use super::tables::schema_not_found;
use super::{Session, relation_of};
use crate::connect::host::Purpose;
use crate::connect::plan::plan_relation_with;
use crate::connect::proto::{self, relation::RelType};
use crate::error::{Error, Result};
use crate::functions::{builtin_names, is_spark_builtin};
use crate::relation::ObjectName;
use crate::sql::query::{body_names, refuse_complex_body};
use crate::sql::statement::{CreateFunction, FunctionScope};
use crate::sql::{SqlQuery, calls};
use crate::sql_function::{
    FunctionParameter, FunctionResult, ResultColumn, SqlFunction, SqlFunctions, already_exists, not_found,
};
use crate::types::{sql_type_name, type_name};

impl Session {
    /// The function in SQL that a name means: a temporary one, or one that is stored.
    pub(super) async fn sql_function(&self, name: &ObjectName) -> Result<Option<Arc<SqlFunction>>> {
        if let Some(function) = self.sql_functions.lock().get(name) {
            return Ok(Some(Arc::clone(function)));
        }
        match self.host.catalog() {
            Some(catalog) => catalog.function(&self.complete(name)?).await,
            None => Ok(None),
        }
    }

    /// Whether the client has given a function, in SQL or in Python, that name.
    fn is_temporary_function(&self, name: &ObjectName) -> bool {
        let python = matches!(name.0.as_slice(), [one] if self.functions.lock().contains_key(&one.to_lowercase()));
        let rows = matches!(name.0.as_slice(), [one] if self.table_functions.lock().get(one).is_some());
        python || rows || self.sql_functions.lock().get(name).is_some()
    }

    /// Refuses a stored view that calls what only this session knows.
    ///
    /// # Errors
    /// `INVALID_TEMP_OBJ_REFERENCE` (`User`)
    pub(super) fn refuse_temporary_functions(&self, view: &ObjectName, query: &SqlQuery) -> Result<()> {
        let temporary = |name: &&ObjectName| {
            !matches!(name.0.as_slice(), [one] if is_spark_builtin(one)) && self.is_temporary_function(name)
        };
        match calls(query).iter().find(temporary) {
            None => Ok(()),
            Some(name) => {
                Err(Error::user(format!("view `{view}` is stored, and calls the temporary function `{name}`"))
                    .with_condition("INVALID_TEMP_OBJ_REFERENCE")
                    .with_help("Create a temporary view, or a function that is stored."))
            }
        }
    }

    /// `CREATE FUNCTION`
    pub(super) async fn create_function(&self, create: CreateFunction) -> Result<()> {
        let place = create.location.clone();
        self.make_function(create).await.map_err(|error| error.at(place))
    }

    async fn make_function(&self, create: CreateFunction) -> Result<()> {
        let current = self.host.catalog().map(|catalog| catalog.current());
        let stored_as = if create.temporary { None } else { Some(self.complete(&create.name)?) };
        let exists = match &stored_as {
            None => self.is_temporary_function(&create.name),
            Some(name) => {
                if !self.schema_exists(&name.catalog, &name.schema).await? {
                    return Err(schema_not_found(&name.catalog, &name.schema));
                }
                self.catalog()?.function(name).await?.is_some()
            }
        };
        match (exists, create.replace) {
            (true, false) if create.if_not_exists => return Ok(()),
            (true, false) => {
                let shown = stored_as.map_or(create.name, |name| ObjectName(vec![name.schema, name.table]));
                return Err(already_exists(&shown));
            }
            _ => {}
        }
        let function = SqlFunction {
            name: create.name.0.last().cloned().unwrap_or_default(),
            stored_in: stored_as.as_ref().map(|name| (name.catalog.clone(), name.schema.clone())),
            parameters: create.parameters,
            returns: create.returns,
            body: create.body,
            comment: create.comment,
            deterministic: create.deterministic.unwrap_or(true),
            reads_data: create.reads_data.unwrap_or_default(),
            namespace: current,
            temporary_views: Vec::new(),
            settings: SqlFunction::settings_of(&self.host.conf()),
            created_ms: self.host.catalog().map_or(0, |catalog| catalog.now_ms()),
        };
        let function = self.checked(function, create.reads_data, create.deterministic, exists).await?;
        match stored_as {
            Some(name) => self.catalog()?.create_function(&name, &function).await,
            None => {
                self.functions.lock().remove(&function.name.to_lowercase());
                self.table_functions.lock().remove(&function.name);
                let name = ObjectName(vec![function.name.clone()]);
                self.sql_functions.lock().insert(&name, Arc::new(function));
                Ok(())
            }
        }
    }

    /// The function with what its body tells: the type of the result, whether it reads data, what it reads of the session's.
    ///
    /// # Errors
    /// Those of the body, which is planned once with NULL for every parameter.
    async fn checked(
        &self,
        mut function: SqlFunction,
        reads_data: Option<bool>,
        deterministic: Option<bool>,
        replaces: bool,
    ) -> Result<SqlFunction> {
        let context = self.host.context();
        refuse_complex_body(&context, &function)?;
        let names = body_names(&context, &function)?;
        let temporary = names.reads.iter().filter(|name| self.temporary_view(name).is_some());
        function.temporary_views = temporary.map(|name| name.to_string().to_lowercase()).collect();
        if function.stored_in.is_some() {
            let called = names.calls.iter().find(|name| self.is_temporary_function(name));
            let used = function.temporary_views.first().map(|view| ("VIEW", view.clone()));
            if let Some((kind, name)) = used.or_else(|| called.map(|name| ("FUNCTION", name.to_string()))) {
                return Err(Error::user(format!(
                    "function `{}` is stored, and refers to the temporary {} `{name}`",
                    function.name,
                    kind.to_lowercase()
                ))
                .with_condition("INVALID_TEMP_OBJ_REFERENCE")
                .with_help("Create a temporary function, or refer to what is stored."));
            }
        }
        for default in function.parameters.iter().filter_map(|parameter| parameter.default.as_deref()) {
            crate::sql::plan_expression(&context, default, &DFSchema::empty(), &function.location())?;
        }
        let path = self.used_by(&function, &names.calls, replaces).await?;
        let reads = !names.reads.is_empty() || path.iter().any(|used| used.reads_data);
        if reads && reads_data == Some(false) {
            return Err(Error::user(format!("function `{}` reads data: it does not only contain SQL", function.name))
                .with_condition("INVALID_SQL_FUNCTION_DATA_ACCESS")
                .with_help("Use READS SQL DATA."));
        }
        function.reads_data = reads || reads_data == Some(true);
        function.deterministic = deterministic.unwrap_or(!names.volatile && path.iter().all(|used| used.deterministic));
        let plan = self.probe(&function).await.map_err(|error| match error.condition() {
            Some("UNRESOLVED_ROUTINE") => error.with_condition("ROUTINE_NOT_FOUND"),
            _ => error,
        })?;
        let fields = plan.schema().fields();
        match (&mut function.returns, fields.first()) {
            (FunctionResult::Value(returns @ None), Some(field)) => *returns = Some(type_name(field.data_type())),
            (FunctionResult::Rows(columns @ None), _) => {
                let column = |field: &Arc<arrow::datatypes::Field>| ResultColumn {
                    name: field.name().clone(),
                    data_type: type_name(field.data_type()),
                    comment: None,
                };
                *columns = Some(fields.iter().map(column).collect());
            }
            _ => {}
        }
        Ok(function)
    }

    /// The functions that are called by the body, and by the bodies of those.
    ///
    /// # Errors
    /// `CYCLIC_FUNCTION_REFERENCE` (`User`) if one of them calls the function that is replaced.
    async fn used_by(
        &self,
        function: &SqlFunction,
        calls: &[ObjectName],
        replaces: bool,
    ) -> Result<Vec<Arc<SqlFunction>>> {
        let itself = |name: &ObjectName| {
            let complete = function.complete(name);
            match &function.stored_in {
                None => matches!(name.0.as_slice(), [one] if one.eq_ignore_ascii_case(&function.name)),
                Some((catalog, schema)) => {
                    let own = [catalog, schema, &function.name];
                    complete.0.len() == own.len() && complete.0.iter().zip(own).all(|(a, b)| a.eq_ignore_ascii_case(b))
                }
            }
        };
        let context = self.host.context();
        let mut used: Vec<Arc<SqlFunction>> = Vec::new();
        let mut waiting: Vec<(ObjectName, String)> =
            calls.iter().map(|name| (name.clone(), function.name.clone())).collect();
        while let Some((name, path)) = waiting.pop() {
            if matches!(name.0.as_slice(), [one] if is_spark_builtin(one)) {
                continue;
            }
            let path = format!("{path} -> {name}");
            if itself(&name) && replaces {
                return Err(Error::user(format!("the function would call itself: {path}"))
                    .with_condition("CYCLIC_FUNCTION_REFERENCE"));
            }
            let found = if itself(&name) { None } else { self.sql_function(&name).await? };
            let Some(found) = found.filter(|found| !used.contains(found)) else { continue };
            for inner in body_names(&context, &found)?.calls {
                let inner =
                    if self.sql_functions.lock().get(&inner).is_some() { inner } else { found.complete(&inner) };
                waiting.push((inner, path.clone()));
            }
            used.push(found);
        }
        Ok(used)
    }

    /// The plan of a call with NULL for every argument.
    async fn probe(&self, function: &SqlFunction) -> Result<LogicalPlan> {
        let nulls = vec!["NULL"; function.parameters.len()].join(", ");
        // Under a name of its own: a function of the same name that is there already is another one.
        let name = "__new_function";
        let query = match function.is_table_function() {
            true => format!("SELECT * FROM {name}({nulls})"),
            false => format!("SELECT {name}({nulls})"),
        };
        let mut functions = self.sql_functions.lock().clone();
        functions.insert(&ObjectName(vec![name.to_owned()]), Arc::new(function.clone()));
        let relation = relation_of(RelType::Sql(proto::Sql { query, ..proto::Sql::default() }));
        let relation = self.with_views_of(relation, &function.body);
        let context = functions.in_session(&self.python_context());
        let resolver = self.host.resolver(Purpose::Analyze, None);
        let plan = plan_relation_with(&context, &relation, resolver.as_ref(), &self.artifacts).await?;
        let state = context.state();
        Ok(state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?)
    }

    /// `DROP FUNCTION`
    pub(super) async fn drop_function(&self, name: &ObjectName, temporary: bool, if_exists: bool) -> Result<()> {
        if temporary {
            let [one] = name.0.as_slice() else { return Err(not_found(name)) };
            let dropped = self.sql_functions.lock().remove(name)
                | self.functions.lock().remove(&one.to_lowercase()).is_some()
                | self.table_functions.lock().remove(one);
            return match dropped || if_exists {
                true => Ok(()),
                false if is_spark_builtin(one) => Err(forbidden(name)),
                false => Err(not_found(name)),
            };
        }
        if matches!(name.0.as_slice(), [one] if is_spark_builtin(one)) {
            return Err(forbidden(name));
        }
        if self.is_temporary_function(name) {
            return Err(Error::user(format!("`{name}` is a temporary function"))
                .with_condition("_LEGACY_ERROR_TEMP_1017")
                .with_help("Use DROP TEMPORARY FUNCTION."));
        }
        let complete = self.complete(name)?;
        if !self.schema_exists(&complete.catalog, &complete.schema).await? {
            return match if_exists {
                true => Ok(()),
                false => Err(schema_not_found(&complete.catalog, &complete.schema)),
            };
        }
        match self.catalog()?.drop_function(&complete).await? {
            true => Ok(()),
            false if if_exists => Ok(()),
            false => Err(not_found(&ObjectName(vec![complete.schema, complete.table]))),
        }
    }

    /// `SHOW FUNCTIONS`
    pub(super) async fn show_functions(
        &self,
        scope: FunctionScope,
        schema: Option<&ObjectName>,
        pattern: Option<&str>,
    ) -> Result<RecordBatch> {
        let mut names: Vec<String> = Vec::new();
        if scope != FunctionScope::User {
            let state = self.host.context().state();
            let known = |name: &&str| fits(name, pattern) && crate::functions::is_supported(name, &state);
            names.extend(builtin_names().filter(known).map(str::to_owned));
        }
        if scope != FunctionScope::System {
            let own =
                self.sql_functions.lock().all().into_iter().map(|function| function.name.clone()).collect::<Vec<_>>();
            let mut python: Vec<String> = self.functions.lock().keys().cloned().collect();
            python.extend(self.table_functions.lock().names());
            names.extend(own.into_iter().chain(python).filter(|name| fits(name, pattern)));
            if self.host.catalog().is_some() {
                let (catalog, schema) = match schema {
                    Some(name) => self.complete_schema(name)?,
                    None => self.catalog()?.current(),
                };
                if !self.schema_exists(&catalog, &schema).await? {
                    return Err(schema_not_found(&catalog, &schema));
                }
                let stored = self.catalog()?.functions(&catalog, &schema).await?;
                names.extend(stored.iter().filter(|function| fits(&function.name, pattern)).map(|f| f.title()));
            }
        }
        names.sort();
        names.dedup();
        text_rows(&["function"], &names.into_iter().map(|name| vec![Some(name)]).collect::<Vec<_>>())
    }

    /// `DESCRIBE FUNCTION`
    pub(super) async fn describe_function(&self, name: &ObjectName, extended: bool) -> Result<RecordBatch> {
        let lines = match name.0.as_slice() {
            [one] if is_spark_builtin(one) && crate::functions::is_supported(one, &self.host.context().state()) => {
                vec![format!("Function: {}", one.to_lowercase()), "Usage: N/A.".to_owned()]
            }
            _ => match self.sql_function(name).await? {
                Some(function) => described(&function, extended)?,
                None if self.is_temporary_function(name) => {
                    vec![format!("Function: {name}"), "Usage: N/A.".to_owned()]
                }
                None => {
                    return Err(Error::user(format!("cannot resolve the function `{name}`"))
                        .with_condition("UNRESOLVED_ROUTINE")
                        .with_parameter("routineName", name.to_string()));
                }
            },
        };
        text_rows(&["function_desc"], &lines.into_iter().map(|line| vec![Some(line)]).collect::<Vec<_>>())
    }
}

/// The error that a function of Spark is not to be dropped.
fn forbidden(name: &ObjectName) -> Error {
    Error::user(format!("`{name}` is a function of Spark: it cannot be dropped")).with_condition("FORBIDDEN_OPERATION")
}

/// The lines of `DESCRIBE FUNCTION`: labels in a column, what they label in the next.
fn described(function: &SqlFunction, extended: bool) -> Result<Vec<String>> {
    let mut rows: Vec<(&str, Vec<String>)> = vec![("Function:", vec![function.title()])];
    rows.push(("Type:", vec![if function.is_table_function() { "TABLE" } else { "SCALAR" }.to_owned()]));
    let parameter = |parameter: &FunctionParameter| {
        let default = parameter.default.iter().map(|text| format!("DEFAULT {text}"));
        let comment = parameter.comment.iter().map(|text| format!("'{text}'"));
        let more: Vec<String> = if extended { default.chain(comment).collect() } else { Vec::new() };
        Ok([vec![parameter.name.clone(), sql_name(&parameter.data_type)?], more].concat())
    };
    let inputs = function.parameters.iter().map(parameter).collect::<Result<Vec<_>>>()?;
    rows.push(("Input:", if inputs.is_empty() { vec!["()".to_owned()] } else { aligned(&inputs) }));
    let returns = match &function.returns {
        FunctionResult::Value(data_type) => vec![sql_name(data_type.as_deref().unwrap_or("void"))?],
        FunctionResult::Rows(columns) => {
            let column = |column: &ResultColumn| {
                let comment = column.comment.iter().filter(|_| extended).map(|text| format!("'{text}'"));
                Ok([vec![column.name.clone(), sql_name(&column.data_type)?], comment.collect()].concat())
            };
            aligned(&columns.iter().flatten().map(column).collect::<Result<Vec<_>>>()?)
        }
    };
    rows.push(("Returns:", returns));
    if extended {
        rows.extend(function.comment.iter().map(|text| ("Comment:", vec![text.clone()])));
        rows.push(("Deterministic:", vec![function.deterministic.to_string()]));
        let access = if function.reads_data { "READS SQL DATA" } else { "CONTAINS SQL" };
        rows.push(("Data Access:", vec![access.to_owned()]));
        rows.push(("Configs:", function.settings.iter().map(|(key, value)| format!("{key}={value}")).collect()));
        let created = DateTime::from_timestamp_millis(function.created_ms).unwrap_or_default();
        rows.push(("Create Time:", vec![created.format("%a %b %d %H:%M:%S UTC %Y").to_string()]));
        rows.push(("Body:", vec![function.body.clone()]));
    }
    let width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let lines = rows.into_iter().flat_map(|(label, values)| {
        let labels = std::iter::once(label).chain(std::iter::repeat(""));
        values.into_iter().zip(labels).map(move |(value, label)| format!("{label:width$} {value}")).collect::<Vec<_>>()
    });
    Ok(lines.collect())
}

fn sql_name(data_type: &str) -> Result<String> {
    Ok(sql_type_name(&crate::types::parse_data_type(data_type)?))
}

/// Cells of a table as lines, its columns as wide as their widest cell.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or_default())
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join(" ")
    };
    rows.iter().map(line).collect()
}

/// Functions by name, as a session keeps them.
pub(super) type OwnFunctions = parking_lot::Mutex<SqlFunctions>;
