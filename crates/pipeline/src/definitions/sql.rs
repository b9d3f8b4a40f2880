//! SQL source files: statements to outputs and flows.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::relation::ObjectName;
use deltaworks_spark::sql::statement::{
    AutoCdcClause, ClusterBy, ColumnDefinition, CreateDataset, CreateFlow, CreateFunction, DatasetKind,
    ExpectationDefinition, FlowDetails, FlowSource, OnViolation, PipelineStatement,
};
use deltaworks_spark::sql::{Parameters, SqlQuery, check_body, script, statement, substitute};
use deltaworks_spark::sql_function::SqlFunction;
use deltaworks_spark::types::{
    CHAR_TYPE_KEY, DEFAULT_KEY, IDENTITY_EXPLICIT_KEY, IDENTITY_START_KEY, IDENTITY_STEP_KEY,
};
use deltaworks_spark::{Error, Result};

use super::{
    AutoCdc, Condition, Definitions, Expectation, ExpectationAction, Flow, FlowQuery, Language, Output, OutputKind,
    check_format, notebook,
};
use crate::name::{DatasetName, Namespace};

/// Adds what one SQL file declares to `definitions`; a problem of one statement does not hide the others.
pub fn define(
    text: &str,
    file: &Path,
    namespace: &Namespace,
    configuration: &BTreeMap<String, String>,
    parameters: &Parameters,
    definitions: &mut Definitions,
) {
    let statements = match script::split(text, file) {
        Ok(statements) => statements,
        Err(error) => {
            definitions.note_broken_sql(text, namespace);
            definitions.diagnostics.push(error.to_diagnostic());
            return;
        }
    };
    let mut reader = FileReader {
        namespace: namespace.clone(),
        configuration: configuration.clone(),
        conf: BTreeMap::new(),
        parameters,
        definitions,
    };
    for mut statement in statements {
        statement.text = substitute::substitute(&statement.text, |key| reader.configuration.get(key).cloned());
        if let Err(error) = statement::parse(&statement).and_then(|parsed| reader.add(parsed)) {
            reader.definitions.note_broken_sql(&statement.text, &reader.namespace);
            reader.definitions.diagnostics.push(error.at(statement.location).to_diagnostic());
        }
    }
}

/// What earlier statements of a file mean for later ones.
struct FileReader<'a> {
    namespace: Namespace,
    /// What `${key}` stands for: the pipeline's configuration and the file's own `SET`s.
    configuration: BTreeMap<String, String>,
    /// The file's own `SET`s, in force for the flows after them.
    conf: BTreeMap<String, String>,
    /// What `:name` stands for.
    parameters: &'a Parameters,
    definitions: &'a mut Definitions,
}

impl FileReader<'_> {
    fn add(&mut self, statement: PipelineStatement) -> Result<()> {
        match statement {
            PipelineStatement::CreateDataset(dataset) => self.dataset(*dataset),
            PipelineStatement::CreateFlow(flow) => self.flow(*flow),
            PipelineStatement::ApplyChanges { target, cdc, location } => {
                let target = DatasetName::resolve(&target, &self.namespace)?;
                let query = self.auto_cdc("APPLY CHANGES INTO", *cdc, &target, &location)?;
                self.push_flow(target.clone(), target, query, location);
                Ok(())
            }
            PipelineStatement::CreateFunction(function) => self.function(*function),
            PipelineStatement::Set { key, value, .. } => {
                self.configuration.insert(key.clone(), value.clone());
                self.conf.insert(key, value);
                Ok(())
            }
            PipelineStatement::Show { .. } => Ok(()),
            PipelineStatement::UseCatalog { catalog, .. } => {
                self.namespace.catalog = catalog;
                Ok(())
            }
            PipelineStatement::UseSchema { schema, .. } => self.use_schema(&schema.0),
        }
    }

    /// A function that the pipeline's queries can call, wherever they stand.
    fn function(&mut self, create: CreateFunction) -> Result<()> {
        let name = match create.name.0.as_slice() {
            [name] => name.clone(),
            _ => {
                return Err(Error::unsupported(format!("function `{}` in another schema", create.name))
                    .with_help("Leave the schema out: a function is known in the whole pipeline."));
            }
        };
        let known = ObjectName(vec![name.clone()]);
        if !create.replace && self.definitions.sql_functions.get(&known).is_some() {
            return match create.if_not_exists {
                true => Ok(()),
                false => Err(Error::user(format!("function `{name}` is defined twice"))
                    .with_condition("ROUTINE_ALREADY_EXISTS")
                    .with_help("Use CREATE OR REPLACE FUNCTION, or give one of them another name.")),
            };
        }
        let function = SqlFunction {
            name,
            stored_in: None,
            parameters: create.parameters,
            returns: create.returns,
            body: create.body,
            comment: create.comment,
            deterministic: create.deterministic.unwrap_or(true),
            reads_data: create.reads_data.unwrap_or(true),
            namespace: Some((self.namespace.catalog.clone(), self.namespace.schema.clone())),
            temporary_views: Vec::new(),
            // Its body means what the query that calls it means.
            settings: BTreeMap::new(),
            created_ms: 0,
        };
        check_body(&function)?;
        self.definitions.sql_functions.insert(&known, Arc::new(function));
        Ok(())
    }

    fn use_schema(&mut self, name: &[String]) -> Result<()> {
        match name {
            [schema] => self.namespace.schema.clone_from(schema),
            [catalog, schema] => {
                self.namespace.catalog.clone_from(catalog);
                self.namespace.schema.clone_from(schema);
            }
            _ => return Err(Error::user("USE takes a schema, or a catalog and a schema")),
        }
        Ok(())
    }

    fn dataset(&mut self, dataset: CreateDataset) -> Result<()> {
        let name = DatasetName::resolve(&dataset.name, &self.namespace)?;
        if dataset.row_filter.is_some() {
            // Left out, it would show rows that must not be seen.
            return Err(Error::unsupported("ROW FILTER").at(dataset.location));
        }
        if let Some(provider) = &dataset.provider {
            check_format(provider, "USING").map_err(|error| error.at(dataset.location.clone()))?;
        }
        let kind = match dataset.kind {
            DatasetKind::StreamingTable => OutputKind::StreamingTable,
            DatasetKind::MaterializedView => OutputKind::MaterializedView,
            DatasetKind::LiveTable => OutputKind::Table,
            DatasetKind::TemporaryView => OutputKind::TemporaryView,
            DatasetKind::PersistedView => OutputKind::PersistedView,
        };
        let mut output = Output::new(name.clone(), kind, Language::Sql, dataset.location.clone());
        output.private = dataset.private;
        output.schema = declared_schema(&dataset.columns)?;
        output.column_comments = column_comments(&dataset.columns);
        output.column_locations =
            dataset.columns.iter().map(|column| (column.name.clone(), column.location.clone())).collect();
        output.key_columns = dataset.keys.into_iter().flat_map(|key| key.columns).collect();
        if output.schema.is_none() {
            output.labels = dataset.columns.iter().map(|column| column.name.clone()).collect();
        }
        output.comment = dataset.comment;
        output.partition_columns = dataset.partitioned_by;
        output.clustering_columns = match dataset.cluster_by {
            Some(ClusterBy::Columns(columns)) => columns,
            // AUTO leaves the choice to the platform: none is a valid choice.
            Some(ClusterBy::Auto | ClusterBy::None) | None => Vec::new(),
        };
        output.properties = dataset.properties.into_iter().collect();
        output.path = dataset.path;
        output.expectations = dataset.expectations.into_iter().map(expectation).collect();
        self.definitions.outputs.push(output);
        match dataset.source {
            None => {}
            Some(FlowSource::Query(query)) => {
                let query = self.query(query)?;
                self.push_flow(name.clone(), name, query, dataset.location);
            }
            Some(FlowSource::InsertFlow { once, query }) => {
                let query = self.query(query)?;
                let flow = self.push_flow(name.clone(), name, query, dataset.location);
                flow.once = once;
            }
            Some(FlowSource::AutoCdc(cdc)) => {
                let query = self.auto_cdc("FLOW AUTO CDC", *cdc, &name, &dataset.location)?;
                self.push_flow(name.clone(), name, query, dataset.location);
            }
            Some(FlowSource::Read { format, .. }) => {
                return Err(Error::unsupported(format!("a view `USING {format}` in a pipeline's SQL"))
                    .with_help("Define it in Python: `return spark.read.format(...).options(...).load()`.")
                    .at(dataset.location));
            }
        }
        Ok(())
    }

    fn flow(&mut self, flow: CreateFlow) -> Result<()> {
        let name = DatasetName::resolve(&flow.name, &self.namespace)?;
        let target = DatasetName::resolve(&flow.target, &self.namespace)?;
        let (query, once) = match flow.details {
            FlowDetails::InsertInto { once, query, .. } => (self.query(query)?, once),
            FlowDetails::AutoCdc { once, cdc } => {
                (self.auto_cdc("AUTO CDC INTO", *cdc, &target, &flow.location)?, once)
            }
        };
        let pushed = self.push_flow(name, target, query, flow.location);
        pushed.once = once;
        pushed.comment = flow.comment;
        Ok(())
    }

    /// A query with the values of its parameters.
    fn query(&self, mut query: SqlQuery) -> Result<FlowQuery> {
        self.parameters.bind(&mut query).map_err(|error| {
            error.with_help("Give it a value in the pipeline's settings: `parameters: {name: value}`.")
        })?;
        Ok(FlowQuery::Sql(Box::new(query)))
    }

    /// A target whose flow is refused is not reported as one without flow.
    fn auto_cdc(
        &mut self,
        construct: &str,
        clause: AutoCdcClause,
        target: &DatasetName,
        location: &SourceLocation,
    ) -> Result<FlowQuery> {
        let cdc = AutoCdc::from_sql(construct, clause).map_err(|error| error.at(location.clone()));
        if cdc.is_err() {
            self.definitions.failed.push(target.clone());
        }
        Ok(FlowQuery::AutoCdc(Box::new(cdc?)))
    }

    fn push_flow(
        &mut self,
        name: DatasetName,
        target: DatasetName,
        query: FlowQuery,
        location: SourceLocation,
    ) -> &mut Flow {
        self.definitions.flows.push(Flow {
            name,
            target,
            query,
            once: false,
            comment: None,
            conf: self.conf.clone(),
            namespace: self.namespace.clone(),
            asked: Vec::new(),
            language: Language::Sql,
            location,
        });
        let last = self.definitions.flows.len() - 1;
        &mut self.definitions.flows[last]
    }
}

/// The columns of a list that gives types; `None` if it gives none.
///
/// # Errors
/// If some columns have a type and others not; for what columns cannot have yet.
fn declared_schema(columns: &[ColumnDefinition]) -> Result<Option<SchemaRef>> {
    if columns.iter().all(|column| column.data_type.is_none()) {
        return Ok(None);
    }
    let fields = columns.iter().map(field).collect::<Result<Vec<_>>>()?;
    Ok(Some(Arc::new(Schema::new(fields))))
}

fn field(column: &ColumnDefinition) -> Result<Field> {
    let unsupported =
        |what: &str| Err(Error::unsupported(format!("{what} (column `{}`)", column.name)).at(column.location.clone()));
    if column.mask.is_some() {
        return unsupported("MASK");
    }
    let Some(data_type) = column.data_type.clone() else {
        return Err(Error::user(format!("column `{}` has no type, but other columns have", column.name))
            .with_help("Give every column of the list a type, or none.")
            .at(column.location.clone()));
    };
    let mut metadata = HashMap::new();
    if let Some(comment) = &column.comment {
        metadata.insert(deltaworks_lake::definition::COMMENT_KEY.to_owned(), comment.clone());
    }
    if let Some(expression) = &column.generated {
        metadata.insert(deltaworks_lake::definition::GENERATION_KEY.to_owned(), expression.clone());
    }
    if let Some(default) = &column.default {
        metadata.insert(DEFAULT_KEY.to_owned(), default.clone());
    }
    if let Some(char_type) = &column.char_type {
        metadata.insert(CHAR_TYPE_KEY.to_owned(), char_type.clone());
    }
    if let Some(identity) = &column.identity {
        metadata.insert(IDENTITY_START_KEY.to_owned(), identity.start.to_string());
        metadata.insert(IDENTITY_STEP_KEY.to_owned(), identity.step.to_string());
        metadata.insert(IDENTITY_EXPLICIT_KEY.to_owned(), (!identity.always).to_string());
    }
    Ok(Field::new(&column.name, data_type, column.nullable).with_metadata(metadata))
}

fn column_comments(columns: &[ColumnDefinition]) -> BTreeMap<String, String> {
    columns.iter().filter_map(|column| Some((column.name.clone(), column.comment.clone()?))).collect()
}

fn expectation(clause: ExpectationDefinition) -> Expectation {
    Expectation {
        name: clause.name,
        condition: Condition::Sql(clause.expression_sql),
        action: match clause.on_violation {
            OnViolation::Warn => ExpectationAction::Allow,
            OnViolation::Drop => ExpectationAction::Drop,
            OnViolation::Fail => ExpectationAction::Fail,
        },
        location: clause.location,
    }
}

/// Reads one SQL file, as UTF-8; of a notebook its statements.
///
/// # Errors
/// `User` if the file cannot be read or is not UTF-8.
pub fn read(path: &Path, display_path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| {
        Error::user(format!("source file `{}` cannot be read: {error}", display_path.display())).with_source(error)
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Error::user(format!("source file `{}` is not UTF-8", display_path.display()))
            .at(SourceLocation::file(display_path))
            .with_source(error)
    })?;
    match path.extension() {
        Some(extension) if extension.eq_ignore_ascii_case("ipynb") => notebook::statements(&text, display_path),
        _ => Ok(text),
    }
}
