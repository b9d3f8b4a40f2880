//! `spark.catalog`: questions about, and changes of, what is stored. The protocol sends both as relations.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, ListArray, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::execution::FunctionRegistry as _;

use super::Session;
use super::command::{create_text, fits, read, text_rows};
use super::tables::{GLOBAL_TEMP, not_found, schema_not_found};
use crate::catalog::{NewTable, SaveMode, TableEntry};
use crate::connect::host::Purpose;
use crate::connect::proto::{self, catalog::CatType};
use crate::connect::scope::split_identifier;
use crate::connect::{faces, types};
use crate::error::{Error, Result};
use crate::relation::ObjectName;
use crate::sql_function::SqlFunction;

/// The columns that describe tables, views and functions; the third is a list.
const DESCRIPTION: [&str; 6] = ["name", "catalog", "namespace", "description", "tableType", "isTemporary"];

/// The columns that describe functions, alike.
const FUNCTION: [&str; 6] = ["name", "catalog", "namespace", "description", "className", "isTemporary"];

/// A row of [`DESCRIPTION`].
struct Described {
    name: String,
    catalog: Option<String>,
    namespace: Option<Vec<String>>,
    description: Option<String>,
    kind: Option<&'static str>,
    temporary: bool,
}

impl Session {
    /// The answer to a call of `spark.catalog`.
    pub(super) async fn catalog_call(&self, call: &proto::Catalog) -> Result<RecordBatch> {
        match call.cat_type.as_ref().ok_or_else(|| Error::internal("a call of the catalog without a kind"))? {
            CatType::CurrentDatabase(_) => text(self.catalog()?.current().1),
            CatType::CurrentCatalog(_) => text(self.catalog()?.current().0),
            CatType::SetCurrentDatabase(m) => {
                let (catalog, schema) = self.complete_schema(&name(&m.db_name)?)?;
                self.use_schema(&catalog, &schema).await?;
                nothing()
            }
            CatType::SetCurrentCatalog(m) => {
                self.use_catalog(&m.catalog_name).await?;
                nothing()
            }
            CatType::ListCatalogs(m) => {
                let all = self.catalog()?.catalogs().await?;
                let rows: Vec<_> = matching(all, m.pattern.as_deref()).map(|name| vec![Some(name), None]).collect();
                text_rows(&["name", "description"], &rows)
            }
            CatType::ListDatabases(m) => {
                let catalog = self.catalog()?.current().0;
                let all = self.catalog()?.schemas(&catalog).await?;
                self.databases(matching(all, m.pattern.as_deref()).map(|schema| (catalog.clone(), schema)).collect())
            }
            CatType::GetDatabase(m) => {
                let (catalog, schema) = self.complete_schema(&name(&m.db_name)?)?;
                match self.schema_exists(&catalog, &schema).await? {
                    true => self.databases(vec![(catalog, schema)]),
                    false => Err(schema_not_found(&catalog, &schema)),
                }
            }
            CatType::DatabaseExists(m) => {
                let (catalog, schema) = self.complete_schema(&name(&m.db_name)?)?;
                boolean(self.schema_exists(&catalog, &schema).await?)
            }
            CatType::CreateDatabase(m) => {
                self.create_schema(&name(&m.db_name)?, m.if_not_exists).await?;
                nothing()
            }
            CatType::DropDatabase(m) => {
                self.drop_schema(&name(&m.db_name)?, m.if_exists, m.cascade).await?;
                nothing()
            }
            CatType::ListFunctions(m) => self.list_functions(m.db_name.as_deref(), m.pattern.as_deref()).await,
            CatType::GetFunction(m) => self.function(&in_schema(m.db_name.as_deref(), &m.function_name)?).await,
            CatType::FunctionExists(m) => {
                boolean(self.knows_function(&in_schema(m.db_name.as_deref(), &m.function_name)?).await?)
            }
            CatType::DropTempView(m) => boolean(self.drop_temporary_view(&name(&m.view_name)?)),
            CatType::DropGlobalTempView(m) => {
                boolean(self.drop_temporary_view(&ObjectName(vec![GLOBAL_TEMP.to_owned(), m.view_name.clone()])))
            }
            other => self.table_call(other).await,
        }
    }

    /// Calls about tables and views.
    async fn table_call(&self, call: &CatType) -> Result<RecordBatch> {
        match call {
            CatType::ListTables(m) => self.relations(m.db_name.as_deref(), m.pattern.as_deref(), false).await,
            CatType::ListViews(m) => self.relations(m.db_name.as_deref(), m.pattern.as_deref(), true).await,
            CatType::GetTable(m) => self.table(&in_schema(m.db_name.as_deref(), &m.table_name)?).await,
            CatType::TableExists(m) => boolean(self.exists(&in_schema(m.db_name.as_deref(), &m.table_name)?).await?),
            CatType::ListColumns(m) => self.columns(&in_schema(m.db_name.as_deref(), &m.table_name)?).await,
            CatType::CreateTable(m) => {
                self.new_table(
                    &m.table_name,
                    m.path.as_deref(),
                    m.source.as_deref(),
                    m.schema.as_ref(),
                    m.description.clone(),
                )
                .await
            }
            CatType::CreateExternalTable(m) => {
                self.new_table(&m.table_name, m.path.as_deref(), m.source.as_deref(), m.schema.as_ref(), None).await
            }
            CatType::DropTable(m) => {
                self.drop_relation(&name(&m.table_name)?, false, m.if_exists).await?;
                self.artifacts.persisted().refresh();
                nothing()
            }
            CatType::DropView(m) => {
                self.drop_relation(&name(&m.view_name)?, true, m.if_exists).await?;
                nothing()
            }
            CatType::TruncateTable(m) => {
                self.truncate(&name(&m.table_name)?).await?;
                self.artifacts.persisted().refresh();
                nothing()
            }
            CatType::GetTableProperties(m) => {
                let entry = self.stored(&name(&m.table_name)?).await?;
                let rows: Vec<_> = entry.properties.into_iter().map(|(k, v)| vec![Some(k), Some(v)]).collect();
                text_rows(&["key", "value"], &rows)
            }
            CatType::GetCreateTableString(m) => text(create_text(&self.stored(&name(&m.table_name)?).await?)),
            CatType::ListPartitions(m) => self.partitions(&name(&m.table_name)?).await,
            CatType::IsCached(m) => {
                let name = self.existing(&m.table_name).await?;
                boolean(self.cached.lock().contains(&name))
            }
            // Rows are read when they are needed: that a table is cached is all there is to it.
            CatType::CacheTable(m) => {
                let name = self.existing(&m.table_name).await?;
                self.cached.lock().insert(name);
                nothing()
            }
            CatType::UncacheTable(m) => {
                let name = self.existing(&m.table_name).await?;
                self.cached.lock().remove(&name);
                nothing()
            }
            CatType::ClearCache(_) => {
                self.cached.lock().clear();
                self.artifacts.persisted().clear();
                nothing()
            }
            CatType::RefreshTable(m) => {
                self.existing(&m.table_name).await?;
                self.artifacts.persisted().refresh();
                nothing()
            }
            CatType::AnalyzeTable(m) => self.existing(&m.table_name).await.and_then(|_| nothing()),
            CatType::RecoverPartitions(m) => self.existing(&m.table_name).await.and_then(|_| nothing()),
            CatType::RefreshByPath(_) => {
                self.artifacts.persisted().refresh();
                nothing()
            }
            _ => Err(Error::unsupported("this call of `spark.catalog`")),
        }
    }

    /// The complete name, as text, of what must exist.
    async fn existing(&self, text: &str) -> Result<String> {
        let name = name(text)?;
        match self.exists(&name).await? {
            true if self.temporary_view(&name).is_some() => Ok(text.to_lowercase()),
            true => Ok(self.complete(&name)?.to_string().to_lowercase()),
            false => Err(not_found(&name)),
        }
    }

    fn databases(&self, schemas: Vec<(String, String)>) -> Result<RecordBatch> {
        let row = |(catalog, schema): (String, String)| {
            let description = (schema == "default").then(|| "default database".to_owned());
            let location = self.setting("spark.sql.warehouse.dir").unwrap_or_default();
            vec![Some(schema), Some(catalog), description, Some(location)]
        };
        let rows: Vec<_> = schemas.into_iter().map(row).collect();
        text_rows(&["name", "catalog", "description", "locationUri"], &rows)
    }

    async fn relations(&self, schema: Option<&str>, pattern: Option<&str>, views: bool) -> Result<RecordBatch> {
        let (catalog, schema) = match schema {
            Some(schema) => self.complete_schema(&name(schema)?)?,
            None => self.catalog()?.current(),
        };
        if !self.schema_exists(&catalog, &schema).await? {
            return Err(schema_not_found(&catalog, &schema));
        }
        let stored = self.catalog()?.tables(&catalog, &schema).await?;
        let mut rows: Vec<_> = stored.iter().filter(|entry| entry.is_view || !views).map(of_entry).collect();
        rows.extend(self.temporary_views().into_iter().map(of_temporary));
        rows.retain(|row| fits(&row.name, pattern));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        described(DESCRIPTION, rows)
    }

    async fn table(&self, name: &ObjectName) -> Result<RecordBatch> {
        let row = match self.temporary_view(name) {
            Some(_) => of_temporary(name.0.last().cloned().unwrap_or_default()),
            None => of_entry(&self.stored(name).await?),
        };
        described(DESCRIPTION, vec![row])
    }

    async fn columns(&self, name: &ObjectName) -> Result<RecordBatch> {
        let entry = match self.temporary_view(name) {
            Some(_) => None,
            None => Some(self.stored(name).await?),
        };
        let plan = self.plan(&read(name), Purpose::Analyze, None).await?;
        let among = |columns: Option<&Vec<String>>, column: &str| {
            Some(columns.is_some_and(|all| all.iter().any(|one| one.eq_ignore_ascii_case(column))).to_string())
        };
        let partitions = entry.as_ref().map(|entry| &entry.partition_columns);
        let clusters = entry.as_ref().map(|entry| &entry.clustering_columns);
        let rows: Vec<_> = plan
            .schema()
            .fields()
            .iter()
            .map(|field| {
                vec![
                    Some(field.name().clone()),
                    field.metadata().get("comment").cloned(),
                    Some(faces::type_name(field.data_type())),
                    Some(field.is_nullable().to_string()),
                    among(partitions, field.name()),
                    Some("false".to_owned()),
                    among(clusters, field.name()),
                ]
            })
            .collect();
        // A column named `is...` holds booleans.
        let names = ["name", "description", "dataType", "isNullable", "isPartition", "isBucket", "isCluster"];
        let batch = text_rows(&names, &rows)?;
        let fields: Vec<_> = batch
            .schema()
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "isNullable" => field.as_ref().clone().with_name("nullable"),
                _ => field.as_ref().clone(),
            })
            .collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), batch.columns().to_vec())?)
    }

    /// The values of the partition columns, `a=1/b=2`.
    async fn partitions(&self, table: &ObjectName) -> Result<RecordBatch> {
        let entry = self.stored(table).await?;
        if entry.partition_columns.is_empty() {
            return Err(Error::user(format!("table `{table}` is not partitioned"))
                .with_condition("INVALID_PARTITION_OPERATION.PARTITION_SCHEMA_IS_EMPTY"));
        }
        let list = entry.partition_columns.iter().map(|column| format!("`{column}`")).collect::<Vec<_>>();
        let parts: Vec<_> = entry
            .partition_columns
            .iter()
            .map(|column| format!("'{column}=', coalesce(cast(`{column}` as string), '__HIVE_DEFAULT_PARTITION__')"))
            .collect();
        let query = format!(
            "SELECT concat({}) AS partition FROM (SELECT DISTINCT {} FROM {table}) ORDER BY 1",
            parts.join(", '/', "),
            list.join(", ")
        );
        let relation = super::relation_of(proto::relation::RelType::Sql(proto::Sql { query, ..Default::default() }));
        self.rows(&relation).await
    }

    async fn new_table(
        &self,
        table: &str,
        path: Option<&str>,
        source: Option<&str>,
        schema: Option<&proto::DataType>,
        comment: Option<String>,
    ) -> Result<RecordBatch> {
        if let Some(path) = path {
            return Err(Error::unsupported(format!("a table at a location of its own, `{path}`"))
                .with_help("Leave the path out, or read and write the path itself."));
        }
        let schema = schema.ok_or_else(|| Error::unsupported("a table without a schema"))?;
        let name = name(table)?;
        let new = NewTable {
            name: self.complete(&name)?,
            schema: Arc::new(types::to_arrow_schema(schema)?),
            partition_columns: Vec::new(),
            clustering_columns: Vec::new(),
            properties: BTreeMap::new(),
            comment: comment.filter(|text| !text.is_empty()),
        };
        self.create_table(new, source, SaveMode::ErrorIfExists).await?;
        self.rows(&read(&name)).await
    }

    async fn knows_function(&self, name: &ObjectName) -> Result<bool> {
        if let [function] = name.0.as_slice()
            && crate::functions::kind(function, &self.context().state()).is_some()
        {
            return Ok(true);
        }
        Ok(self.sql_function(name).await?.is_some())
    }

    async fn list_functions(&self, schema: Option<&str>, pattern: Option<&str>) -> Result<RecordBatch> {
        let state = self.context().state();
        let mut names: Vec<_> = state.udfs().into_iter().chain(state.udafs()).chain(state.udwfs()).collect();
        names.sort();
        names.dedup();
        let mut rows: Vec<Described> = names.into_iter().map(of_builtin).collect();
        rows.extend(self.sql_functions.lock().all().into_iter().map(|function| of_function(function)));
        if let Some(catalog) = self.host.catalog() {
            let (in_catalog, schema) = match schema {
                Some(schema) => self.complete_schema(&name(schema)?)?,
                None => catalog.current(),
            };
            rows.extend(catalog.functions(&in_catalog, &schema).await?.iter().map(of_function));
        }
        rows.retain(|row| fits(&row.name, pattern));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        described(FUNCTION, rows)
    }

    async fn function(&self, name: &ObjectName) -> Result<RecordBatch> {
        if let Some(function) = self.sql_function(name).await? {
            return described(FUNCTION, vec![of_function(&function)]);
        }
        match name.0.as_slice() {
            [one] if self.knows_function(name).await? => described(FUNCTION, vec![of_builtin(one.clone())]),
            _ => Err(Error::user(format!("cannot resolve the function `{name}`"))
                .with_condition("UNRESOLVED_ROUTINE")
                .with_parameter("routineName", name.to_string())),
        }
    }
}

fn of_builtin(name: String) -> Described {
    Described {
        name,
        catalog: None,
        namespace: None,
        description: None,
        kind: Some("org.apache.spark.sql.catalyst.expressions.Expression"),
        temporary: true,
    }
}

fn of_function(function: &SqlFunction) -> Described {
    Described {
        name: function.name.clone(),
        catalog: function.stored_in.as_ref().map(|(catalog, _)| catalog.clone()),
        namespace: function.stored_in.as_ref().map(|(_, schema)| vec![schema.clone()]),
        description: function.comment.clone(),
        kind: Some("org.apache.spark.sql.catalyst.catalog.SQLFunction"),
        temporary: function.stored_in.is_none(),
    }
}

fn of_entry(entry: &TableEntry) -> Described {
    Described {
        name: entry.name.table.clone(),
        catalog: Some(entry.name.catalog.clone()),
        namespace: Some(vec![entry.name.schema.clone()]),
        description: entry.comment.clone(),
        kind: Some(if entry.is_view { "VIEW" } else { "MANAGED" }),
        temporary: false,
    }
}

fn of_temporary(name: String) -> Described {
    Described {
        name,
        catalog: None,
        namespace: Some(Vec::new()),
        description: None,
        kind: Some("TEMPORARY"),
        temporary: true,
    }
}

fn described(names: [&str; 6], rows: Vec<Described>) -> Result<RecordBatch> {
    let item = Arc::new(Field::new("item", DataType::Utf8, true));
    let lengths = rows.iter().map(|row| row.namespace.as_ref().map_or(0, Vec::len));
    let values: StringArray = rows.iter().flat_map(|row| row.namespace.iter().flatten()).map(Some).collect();
    let nulls = rows.iter().map(|row| row.namespace.is_some()).collect();
    let namespaces =
        ListArray::try_new(Arc::clone(&item), OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls))?;
    let text = |value: fn(&Described) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let columns: Vec<ArrayRef> = vec![
        text(|row| Some(&row.name)),
        text(|row| row.catalog.as_deref()),
        Arc::new(namespaces),
        text(|row| row.description.as_deref()),
        text(|row| row.kind),
        Arc::new(rows.iter().map(|row| Some(row.temporary)).collect::<BooleanArray>()),
    ];
    let fields: Vec<_> = names
        .iter()
        .zip(&columns)
        .map(|(name, column)| Field::new(*name, arrow::array::Array::data_type(column).clone(), true))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn name(text: &str) -> Result<ObjectName> {
    split_identifier(text).map(ObjectName)
}

fn in_schema(schema: Option<&str>, table: &str) -> Result<ObjectName> {
    let mut parts = schema.map(split_identifier).transpose()?.unwrap_or_default();
    parts.extend(split_identifier(table)?);
    Ok(ObjectName(parts))
}

fn matching(all: Vec<String>, pattern: Option<&str>) -> impl Iterator<Item = String> {
    all.into_iter().filter(move |name| fits(name, pattern))
}

fn text(value: String) -> Result<RecordBatch> {
    text_rows(&["value"], &[vec![Some(value)]])
}

fn boolean(value: bool) -> Result<RecordBatch> {
    text_rows(&["isTrue"], &[vec![Some(value.to_string())]])
}

fn nothing() -> Result<RecordBatch> {
    text_rows(&["value"], &[])
}
