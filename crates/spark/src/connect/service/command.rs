//! SQL statements that are no queries: each does its work and gives rows, mostly none.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};

use super::dml::{Replaced as RowsOf, partition_condition};
use super::tables::{Matching, not_found, stored_schema};
use super::{Session, history, relation_of};
use crate::catalog::{NewTable, Replaced, SaveMode, TableEntry};
use crate::connect::host::Purpose;
use crate::connect::proto::analyze_plan_request::explain::ExplainMode;
use crate::connect::proto::{self, relation::RelType};
use crate::connect::{faces, types};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql::StatementText;
use crate::sql::statement::{
    Command, CreateReadView, CreateTable, CreateView, ExplainDetail, Insert, SqlText, parse_command,
};

/// Rows of text columns, and of booleans where a value is one.
pub(super) fn text_rows(names: &[&str], rows: &[Vec<Option<String>>]) -> Result<RecordBatch> {
    let mut fields = Vec::with_capacity(names.len());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(names.len());
    for (i, name) in names.iter().enumerate() {
        let values = rows.iter().map(|row| row.get(i).cloned().flatten());
        if name.starts_with("is") {
            fields.push(Field::new(*name, DataType::Boolean, true));
            columns.push(Arc::new(values.map(|value| value.map(|v| v == "true")).collect::<BooleanArray>()));
        } else {
            fields.push(Field::new(*name, DataType::Utf8, true));
            columns.push(Arc::new(values.collect::<StringArray>()));
        }
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// Whether a name fits a pattern of Spark's: `*` is anything, `|` separates alternatives.
pub(super) fn fits(name: &str, pattern: Option<&str>) -> bool {
    let Some(pattern) = pattern else { return true };
    let name = name.to_lowercase();
    pattern.split('|').any(|alternative| {
        let expression = regex::escape(&alternative.trim().to_lowercase()).replace("\\*", ".*").replace('%', ".*");
        regex::Regex::new(&format!("^{expression}$")).is_ok_and(|regex| regex.is_match(&name))
    })
}

impl Session {
    /// Runs a statement; gives the relation of its rows.
    pub(super) async fn run_command(&self, text: &str) -> Result<proto::Relation> {
        let statement = StatementText { text: text.to_owned(), location: SourceLocation::new("<sql>", 1, 1) };
        let command = parse_command(&statement)?;
        let changes_rows = matches!(command, Command::Delete(_) | Command::Update(_) | Command::Merge(_));
        let rows = match command {
            Command::CreateTable(table) => self.create_table_as(*table).await.map(|()| None)?,
            Command::CreateView(view) => self.create_sql_view(*view).await.map(|()| None)?,
            Command::CreateReadView(view) => self.create_read_view(*view).await.map(|()| None)?,
            Command::Insert(insert) => self.insert_rows(*insert).await.map(|()| None)?,
            Command::Delete(delete) => Some(self.delete_rows(&delete).await?),
            Command::Update(update) => Some(self.update_rows(&update).await?),
            Command::Merge(merge) => Some(self.merge_rows(&merge).await?),
            Command::Optimize(optimize) => Some(self.optimize(&optimize).await?),
            Command::Vacuum(vacuum) => Some(self.vacuum(&vacuum).await?),
            Command::Drop { name, view, if_exists } => {
                self.drop_relation(&name, view, if_exists).await.map(|()| None)?
            }
            Command::CreateFunction(function) => self.create_function(*function).await.map(|()| None)?,
            Command::DropFunction { name, temporary, if_exists } => {
                self.drop_function(&name, temporary, if_exists).await.map(|()| None)?
            }
            Command::CreateSchema { name, if_not_exists } => {
                self.create_schema(&name, if_not_exists).await.map(|()| None)?
            }
            Command::DropSchema { name, if_exists, cascade } => {
                self.drop_schema(&name, if_exists, cascade).await.map(|()| None)?
            }
            Command::Truncate(name) => self.truncate(&name).await.map(|()| None)?,
            Command::Use(name) => {
                let (catalog, schema) = self.complete_schema(&name)?;
                self.use_schema(&catalog, &schema).await.map(|()| None)?
            }
            Command::UseCatalog(catalog) => self.use_catalog(&catalog).await.map(|()| None)?,
            Command::Set { key, value } => Some(self.set(key, value)?),
            Command::Reset(key) => self.reset(key).map(|()| None)?,
            Command::Touch { name, if_exists } => {
                if !if_exists && !self.exists(&name).await? {
                    return Err(not_found(&name));
                }
                None
            }
            other => Some(self.shown_by(other).await?),
        };
        if changes_rows || rows.is_none() {
            // A statement that gives no rows may have changed those of a table.
            self.artifacts.persisted().refresh();
        }
        match rows {
            None => Ok(relation_of(RelType::LocalRelation(proto::LocalRelation {
                data: None,
                schema: Some(r#"{"type":"struct","fields":[]}"#.to_owned()),
            }))),
            Some(rows) => local_relation(&rows),
        }
    }

    /// What the statements that only look give.
    async fn shown_by(&self, command: Command) -> Result<RecordBatch> {
        match command {
            Command::ShowTables { schema, pattern, views } => {
                let (catalog, schema) = match &schema {
                    Some(name) => self.complete_schema(name)?,
                    None => self.catalog()?.current(),
                };
                self.show_tables(&catalog, &schema, pattern.as_deref(), views).await
            }
            Command::ShowSchemas { pattern } => {
                let all = self.catalog()?.schemas(&self.catalog()?.current().0).await?;
                names("namespace", all, pattern.as_deref())
            }
            Command::ShowCatalogs { pattern } => {
                names("catalog", self.catalog()?.catalogs().await?, pattern.as_deref())
            }
            Command::ShowFunctions { scope, schema, pattern } => {
                self.show_functions(scope, schema.as_ref(), pattern.as_deref()).await
            }
            Command::DescribeFunction { name, extended } => self.describe_function(&name, extended).await,
            Command::ShowColumns(name) => {
                let plan = self.table_plan(&name).await?;
                names("col_name", plan.schema().fields().iter().map(|field| field.name().clone()).collect(), None)
            }
            Command::ShowProperties(name) => {
                let entry = self.stored(&name).await?;
                let rows: Vec<_> = entry.properties.into_iter().map(|(k, v)| vec![Some(k), Some(v)]).collect();
                text_rows(&["key", "value"], &rows)
            }
            Command::ShowCreate(name) => {
                let text = create_text(&self.stored(&name).await?);
                text_rows(&["createtab_stmt"], &[vec![Some(text)]])
            }
            Command::Describe(name) => {
                let plan = self.table_plan(&name).await?;
                described(plan.schema().as_arrow())
            }
            Command::DescribeQuery(query) => {
                let relation = relation_of(RelType::Sql(proto::Sql { query: query.text, ..proto::Sql::default() }));
                let plan = self.plan(&relation, Purpose::Analyze, None).await?;
                described(plan.schema().as_arrow())
            }
            Command::DescribeHistory { name, limit } => {
                let commits = self.catalog()?.history(&self.complete(&name)?, limit).await?;
                history::rows(&commits.ok_or_else(|| not_found(&name))?)
            }
            Command::Explain { detail, query } => {
                let mode = match detail {
                    ExplainDetail::Plan => ExplainMode::Simple,
                    ExplainDetail::Extended => ExplainMode::Extended,
                    ExplainDetail::Cost => ExplainMode::Cost,
                };
                let plan = self.query_plan(&query.text).await?;
                text_rows(&["plan"], &[vec![Some(self.explained(&plan, mode).await?)]])
            }
            _ => Err(Error::internal("a command that shows nothing")),
        }
    }

    async fn table_plan(&self, name: &ObjectName) -> Result<LogicalPlan> {
        self.plan(&read(name), Purpose::Analyze, None).await
    }

    async fn show_tables(
        &self,
        catalog: &str,
        schema: &str,
        pattern: Option<&str>,
        views: bool,
    ) -> Result<RecordBatch> {
        let mut rows = Vec::new();
        for entry in self.catalog()?.tables(catalog, schema).await? {
            if (entry.is_view || !views) && fits(&entry.name.table, pattern) {
                rows.push(vec![Some(schema.to_owned()), Some(entry.name.table), Some("false".to_owned())]);
            }
        }
        for name in self.temporary_views().into_iter().filter(|name| fits(name, pattern)) {
            rows.push(vec![Some(String::new()), Some(name), Some("true".to_owned())]);
        }
        let name = if views { "viewName" } else { "tableName" };
        text_rows(&["namespace", name, "isTemporary"], &rows)
    }

    fn set(&self, key: Option<String>, value: Option<String>) -> Result<RecordBatch> {
        let pair = |key: &str, value: Option<String>| vec![Some(key.to_owned()), value];
        let rows = match (key, value) {
            (None, _) => self.host.conf().all.iter().map(|(k, v)| pair(k, Some(v.clone()))).collect(),
            (Some(key), None) => {
                vec![pair(&key, Some(self.setting(&key).unwrap_or_else(|| "<undefined>".to_owned())))]
            }
            (Some(key), Some(value)) => {
                self.host.set_conf(&key, &value)?;
                vec![pair(&key, Some(value))]
            }
        };
        text_rows(&["key", "value"], &rows)
    }

    fn reset(&self, key: Option<String>) -> Result<()> {
        match key {
            Some(key) => self.host.unset_conf(&key),
            None => self.host.conf().all.keys().try_for_each(|key| self.host.unset_conf(key)),
        }
    }

    pub(super) async fn truncate(&self, name: &ObjectName) -> Result<()> {
        let entry = self.stored(name).await?;
        let schema = entry.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()));
        let nothing = LogicalPlan::EmptyRelation(datafusion::logical_expr::EmptyRelation {
            produce_one_row: false,
            schema: Arc::new(datafusion::common::DFSchema::try_from(schema.as_ref().clone())?),
        });
        self.insert(&entry, nothing, Matching::ByPosition, Replaced::Rows).await
    }

    async fn create_table_as(&self, create: CreateTable) -> Result<()> {
        if let Some(path) = &create.location {
            return Err(Error::unsupported(format!("a table at a location of its own, `{path}`"))
                .with_help("Leave LOCATION out, or read and write the path itself: delta.`/path`."));
        }
        let plan = match &create.query {
            Some(query) => Some(self.query_plan(&query.text).await?),
            None => None,
        };
        let schema = match (&create.schema, &plan) {
            (Some(schema), _) => Arc::clone(schema),
            (None, Some(plan)) => stored_schema(plan),
            (None, None) => {
                return Err(Error::user(format!("table `{}` has neither columns nor a query", create.name)));
            }
        };
        let table = NewTable {
            name: self.complete(&create.name)?,
            schema,
            partition_columns: create.partition_columns,
            clustering_columns: create.clustering_columns,
            properties: create.properties.into_iter().collect(),
            comment: create.comment,
        };
        let name = table.name.clone();
        let mode = match (create.replace, create.if_not_exists) {
            (true, _) => SaveMode::Overwrite,
            (_, true) => SaveMode::Ignore,
            _ => SaveMode::ErrorIfExists,
        };
        let made = self.create_table(table, create.provider.as_deref(), mode).await?;
        match plan {
            Some(plan) if made => {
                let entry = self.catalog()?.table(&name).await?.ok_or_else(|| not_found(&create.name))?;
                self.filled(&name, self.insert(&entry, plan, Matching::ByPosition, Replaced::Nothing)).await
            }
            _ => Ok(()),
        }
    }

    /// The plan of a query that is about to be run.
    async fn query_plan(&self, text: &str) -> Result<LogicalPlan> {
        let relation = relation_of(RelType::Sql(proto::Sql { query: text.to_owned(), ..proto::Sql::default() }));
        self.plan(&relation, Purpose::Execute, None).await
    }

    async fn insert_rows(&self, insert: Insert) -> Result<()> {
        let entry = self.stored(&insert.table).await?;
        let mut plan = self.query_plan(&insert.query.text).await?;
        if !insert.columns.is_empty() {
            plan = renamed(plan, &insert.columns)?;
        }
        if !insert.partition.is_empty() {
            plan = self.with_partition(plan, &entry, &insert.partition)?;
        }
        let by_name = insert.by_name || !insert.columns.is_empty() || !insert.partition.is_empty();
        let matching = if by_name { Matching::ByName } else { Matching::ByPosition };
        if let Some(condition) = &insert.replace_where {
            return self.replace_rows(&insert.table, plan, matching, RowsOf::WhereText(condition)).await;
        }
        let replaced = match (insert.overwrite, insert.partition.is_empty()) {
            (false, _) => Replaced::Nothing,
            (true, true) => Replaced::Rows,
            (true, false) => {
                let location = SourceLocation::new("<partition>", 1, 1);
                let condition = SqlText { text: partition_condition(&insert.partition), location };
                return self.replace_rows(&insert.table, plan, matching, RowsOf::WhereText(&condition)).await;
            }
        };
        self.insert(&entry, plan, matching, replaced).await
    }

    /// The rows with the values of a `PARTITION` clause as columns; all others are named in the table's order.
    fn with_partition(
        &self,
        plan: LogicalPlan,
        entry: &TableEntry,
        partition: &[(String, String)],
    ) -> Result<LogicalPlan> {
        let fixed = |name: &str| partition.iter().any(|(column, _)| column.eq_ignore_ascii_case(name));
        let fields = entry.schema.iter().flat_map(|schema| schema.fields());
        let others: Vec<String> =
            fields.filter(|field| !fixed(field.name())).map(|field| field.name().clone()).collect();
        let plan = if plan.schema().fields().len() == others.len() { renamed(plan, &others)? } else { plan };
        let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        for (column, value) in partition {
            let location = SourceLocation::new("<partition>", 1, 1);
            let value = crate::sql::plan_expression(&self.context(), value, plan.schema(), &location)?;
            exprs.push(value.alias(column));
        }
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    async fn create_read_view(&self, view: CreateReadView) -> Result<()> {
        let source = proto::read::DataSource {
            format: Some(view.format),
            schema: view.schema.as_deref().map(crate::types::ddl),
            options: view.options.into_iter().collect(),
            ..proto::read::DataSource::default()
        };
        let read_type = Some(proto::read::ReadType::DataSource(source));
        let relation = relation_of(RelType::Read(proto::Read { read_type, is_streaming: false }));
        // A view that cannot be planned is refused now, not when it is read.
        self.plan(&relation, Purpose::Analyze, None).await?;
        self.create_view(&proto::CreateDataFrameViewCommand {
            input: Some(relation),
            name: view.name.0.last().cloned().unwrap_or_default(),
            is_global: view.global,
            replace: view.replace,
        })
    }

    async fn create_sql_view(&self, view: CreateView) -> Result<()> {
        let query = proto::Sql { query: view.query.text.clone(), ..proto::Sql::default() };
        let relation = relation_of(RelType::Sql(query));
        // A view that cannot be planned is refused now, not when it is read.
        let plan = self.plan(&relation, Purpose::Analyze, None).await?;
        if !view.columns.is_empty() && view.columns.len() != plan.schema().fields().len() {
            return Err(Error::user(format!(
                "view `{}` names {} columns, its query has {}",
                view.name,
                view.columns.len(),
                plan.schema().fields().len()
            ))
            .with_condition("CREATE_VIEW_COLUMN_ARITY_MISMATCH"));
        }
        if view.temporary {
            let relation = match view.columns.is_empty() {
                true => relation,
                false => relation_of(RelType::ToDf(Box::new(proto::ToDf {
                    input: Some(Box::new(relation)),
                    column_names: view.columns,
                }))),
            };
            let keep = view.if_not_exists && self.temporary_view(&view.name).is_some();
            let command = proto::CreateDataFrameViewCommand {
                input: Some(relation),
                name: view.name.0.last().cloned().unwrap_or_default(),
                is_global: view.global,
                replace: view.replace,
            };
            return if keep { Ok(()) } else { self.create_view(&command) };
        }
        if !view.columns.is_empty() {
            return Err(Error::unsupported("column names of a stored view").with_help("Name them in the query: AS x."));
        }
        self.refuse_temporary_functions(&view.name, &view.query)?;
        let name = self.complete(&view.name)?;
        match self.catalog()?.table(&name).await? {
            Some(entry) if !(view.replace && entry.is_view) => match view.if_not_exists {
                true => Ok(()),
                false => Err(Error::user(format!("`{}` already exists", view.name))
                    .with_condition("TABLE_OR_VIEW_ALREADY_EXISTS")),
            },
            _ => self.catalog()?.create_view(&name, &view.query.text, view.comment.as_deref()).await,
        }
    }
}

/// The relation that reads a name.
pub(super) fn read(name: &ObjectName) -> proto::Relation {
    use proto::read::{NamedTable, ReadType};
    let table = NamedTable { unparsed_identifier: name.to_string(), ..NamedTable::default() };
    relation_of(RelType::Read(proto::Read { read_type: Some(ReadType::NamedTable(table)), is_streaming: false }))
}

/// The plan with its columns renamed in order.
fn renamed(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    if columns.len() != names.len() {
        return Err(Error::user(format!("{} columns are named, the rows have {}", names.len(), columns.len()))
            .with_condition("INSERT_COLUMN_ARITY_MISMATCH.NOT_ENOUGH_DATA_COLUMNS"));
    }
    let exprs: Vec<_> = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name)).collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

fn names(column: &str, all: Vec<String>, pattern: Option<&str>) -> Result<RecordBatch> {
    let rows: Vec<_> = all.into_iter().filter(|name| fits(name, pattern)).map(|name| vec![Some(name)]).collect();
    text_rows(&[column], &rows)
}

fn described(schema: &Schema) -> Result<RecordBatch> {
    let rows: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| {
            let comment = field.metadata().get("comment").cloned();
            vec![Some(field.name().clone()), Some(faces::type_name(field.data_type())), comment]
        })
        .collect();
    text_rows(&["col_name", "data_type", "comment"], &rows)
}

/// The statement that makes such a table or view.
pub(super) fn create_text(entry: &TableEntry) -> String {
    let name = format!("{}.{}.{}", entry.name.catalog, entry.name.schema, entry.name.table);
    if let Some(query) = &entry.query {
        return format!("CREATE VIEW {name} AS {query}");
    }
    let columns = entry.schema.as_ref().map(|schema| faces::ddl(schema)).unwrap_or_default();
    let mut text = format!("CREATE TABLE {name} (\n  {columns})\nUSING delta\n");
    if !entry.partition_columns.is_empty() {
        text.push_str(&format!("PARTITIONED BY ({})\n", entry.partition_columns.join(", ")));
    }
    if let Some(comment) = &entry.comment {
        text.push_str(&format!("COMMENT '{}'\n", comment.replace('\'', "\\'")));
    }
    if !entry.properties.is_empty() {
        let pairs: Vec<_> = entry.properties.iter().map(|(k, v)| format!("'{k}' = '{v}'")).collect();
        text.push_str(&format!("TBLPROPERTIES ({})\n", pairs.join(", ")));
    }
    text
}

/// Rows as a relation that carries them.
pub(super) fn local_relation(rows: &RecordBatch) -> Result<proto::Relation> {
    let mut data = Vec::new();
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut data, rows.schema_ref())?;
    writer.write(rows)?;
    writer.finish()?;
    drop(writer);
    // The types are checked here, so that a mistake does not surface at the client.
    types::from_arrow_schema(rows.schema_ref())?;
    Ok(relation_of(RelType::LocalRelation(proto::LocalRelation { data: Some(data.into()), schema: None })))
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_are_sparks() {
        assert!(fits("default", Some("def*")));
        assert!(fits("Sales", Some("x|sales")));
        assert!(!fits("default", Some("def")));
        assert!(!fits("a.b", Some("a?b")));
        assert!(fits("anything", None));
    }
}
