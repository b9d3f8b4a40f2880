//! `DataFrame.write` and `DataFrame.writeTo`.

use std::collections::BTreeMap;

use datafusion::logical_expr::LogicalPlan;

use super::Session;
use super::dml::Replaced as RowsOf;
use super::tables::{Matching, not_found, stored_schema};
use crate::catalog::{ExternalWrite, FileWrite, NewTable, Replaced, SaveMode, TableEntry, TableName};
use crate::connect::host::{AnalysisContext, Purpose};
use crate::connect::proto::expression::ExprType;
use crate::connect::proto::write_operation::save_table::TableSaveMethod;
use crate::connect::proto::write_operation::{self, SaveType};
use crate::connect::proto::{Expression, Relation, WriteOperation, WriteOperationV2, write_operation_v2};
use crate::connect::scope::split_identifier;
use crate::error::{Error, Result};
use crate::relation::{ObjectName, ReadOptions};

/// The setting that names the format of files if none is given, and its default.
const DEFAULT_FORMAT: (&str, &str) = ("spark.sql.sources.default", "parquet");

impl Session {
    pub(super) async fn write(&self, write: &WriteOperation, analysis: Option<&AnalysisContext>) -> Result<()> {
        let plan = self.written(write.input.as_ref(), analysis).await?;
        let mode = save_mode(write.mode());
        match &write.save_type {
            Some(SaveType::Table(table)) => {
                let name = ObjectName(split_identifier(&table.table_name)?);
                match table.save_method() {
                    TableSaveMethod::InsertInto => self.insert_into(&name, plan, mode).await,
                    _ => self.save_as_table(&name, plan, mode, write).await,
                }
            }
            Some(SaveType::Path(path)) => self.save(plan, mode, path, write).await,
            None => match write.options.get("path") {
                Some(path) => self.save(plan, mode, path, write).await,
                None => self.write_external(plan, mode, write).await,
            },
        }
    }

    async fn written(&self, input: Option<&Relation>, analysis: Option<&AnalysisContext>) -> Result<LogicalPlan> {
        let input = input.ok_or_else(|| Error::internal("a write without a relation"))?;
        let plan = self.plan(input, Purpose::Execute, analysis).await?;
        super::execute::refuse_streams(&plan)?;
        Ok(plan)
    }

    async fn save(&self, plan: LogicalPlan, mode: SaveMode, path: &str, write: &WriteOperation) -> Result<()> {
        if write.bucket_by.is_some() {
            return Err(Error::user("`save` does not support bucketBy right now")
                .with_condition("UNSUPPORTED_FEATURE.BUCKET_BY")
                .with_help("Use saveAsTable."));
        }
        let format = write
            .source
            .clone()
            .filter(|format| !format.is_empty())
            .or_else(|| self.setting(DEFAULT_FORMAT.0))
            .unwrap_or_else(|| DEFAULT_FORMAT.1.to_owned());
        let options: ReadOptions = write.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let write = FileWrite {
            format: format.to_ascii_lowercase(),
            path: path.to_owned(),
            mode,
            partition_columns: write.partitioning_columns.clone(),
            options,
        };
        self.catalog()?.write_files(&self.context(), plan, &write).await
    }

    async fn write_external(&self, plan: LogicalPlan, mode: SaveMode, write: &WriteOperation) -> Result<()> {
        let format = write.source.clone().unwrap_or_default().to_ascii_lowercase();
        if format.is_empty() {
            return Err(Error::unsupported("writing to a source without a path"));
        }
        if !write.partitioning_columns.is_empty() || write.bucket_by.is_some() {
            return Err(Error::user(format!("`partitionBy` and `bucketBy` have no meaning to format `{format}`"))
                .with_help("Leave them out."));
        }
        let options = write.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.catalog()?.write_external(&self.context(), plan, &ExternalWrite { format, mode, options }).await
    }

    async fn insert_into(&self, name: &ObjectName, plan: LogicalPlan, mode: SaveMode) -> Result<()> {
        let replaced = if mode == SaveMode::Overwrite { Replaced::Rows } else { Replaced::Nothing };
        self.insert(&self.stored(name).await?, plan, Matching::ByPosition, replaced).await
    }

    /// Buckets and the order within files have no effect on rows, and Delta tables have neither.
    async fn save_as_table(
        &self,
        name: &ObjectName,
        plan: LogicalPlan,
        mode: SaveMode,
        write: &WriteOperation,
    ) -> Result<()> {
        let complete = self.complete(name)?;
        let existing = self.catalog()?.table(&complete).await?;
        match (existing, mode) {
            (Some(_), SaveMode::Ignore) => Ok(()),
            (Some(entry), SaveMode::Append) => self.insert(&entry, plan, Matching::ByName, Replaced::Nothing).await,
            (Some(entry), SaveMode::Overwrite) if same_layout(&entry, &plan, &write.partitioning_columns) => {
                self.insert(&entry, plan, Matching::ByPosition, Replaced::Rows).await
            }
            (_, mode) => {
                let table = NewTable {
                    clustering_columns: write.clustering_columns.clone(),
                    ..new_table(complete, &plan, write.partitioning_columns.clone(), BTreeMap::new())
                };
                let mode = if mode == SaveMode::Overwrite { mode } else { SaveMode::ErrorIfExists };
                self.fill_new(table, write.source.as_deref(), mode, plan).await
            }
        }
    }

    pub(super) async fn write_v2(&self, write: &WriteOperationV2, analysis: Option<&AnalysisContext>) -> Result<()> {
        use write_operation_v2::Mode;
        let plan = self.written(write.input.as_ref(), analysis).await?;
        let name = ObjectName(split_identifier(&write.table_name)?);
        let complete = self.complete(&name)?;
        let exists = self.catalog()?.table(&complete).await?.is_some();
        let mode = match write.mode() {
            Mode::Create => SaveMode::ErrorIfExists,
            Mode::CreateOrReplace => SaveMode::Overwrite,
            Mode::Replace if exists => SaveMode::Overwrite,
            Mode::Replace => return Err(not_found(&name)),
            Mode::Append => {
                return self.insert(&self.stored(&name).await?, plan, Matching::ByName, Replaced::Nothing).await;
            }
            Mode::Overwrite if always(write.overwrite_condition.as_ref()) => {
                return self.insert(&self.stored(&name).await?, plan, Matching::ByName, Replaced::Rows).await;
            }
            Mode::Overwrite => {
                let condition = write.overwrite_condition.as_ref();
                let condition = condition.ok_or_else(|| Error::internal("an overwrite without a condition"))?;
                return self.replace_rows(&name, plan, Matching::ByName, RowsOf::Where(condition)).await;
            }
            Mode::OverwritePartitions => {
                let entry = self.stored(&name).await?;
                if !entry.partition_columns.is_empty() {
                    return self.replace_rows(&name, plan, Matching::ByName, RowsOf::Partitions).await;
                }
                return self.insert(&entry, plan, Matching::ByName, Replaced::Rows).await;
            }
            Mode::Unspecified => return Err(Error::internal("a write without a mode")),
        };
        let partition_columns = write.partitioning_columns.iter().map(column_name).collect::<Result<_>>()?;
        let properties = write.table_properties.clone().into_iter().collect();
        let table = NewTable {
            clustering_columns: write.clustering_columns.clone(),
            ..new_table(complete, &plan, partition_columns, properties)
        };
        self.fill_new(table, write.provider.as_deref(), mode, plan).await
    }

    async fn fill_new(&self, table: NewTable, provider: Option<&str>, mode: SaveMode, plan: LogicalPlan) -> Result<()> {
        let name = table.name.clone();
        if mode == SaveMode::Overwrite {
            self.refuse_self_replacement(&name, &plan)?;
        }
        self.create_table(table, provider, mode).await?;
        let entry = self.catalog()?.table(&name).await?;
        let entry = entry.ok_or_else(|| Error::internal(format!("table {name} is not there after it was made")))?;
        self.filled(&name, self.insert(&entry, plan, Matching::ByPosition, Replaced::Nothing)).await
    }

    /// A table that is read by the query that replaces it would be gone before its rows are read.
    fn refuse_self_replacement(&self, name: &TableName, plan: &LogicalPlan) -> Result<()> {
        use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
        let mut reads = false;
        plan.apply(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                reads |= scan.table_name.table().eq_ignore_ascii_case(&name.table);
            }
            Ok(if reads { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        match reads {
            true => Err(Error::user(format!("table {name} cannot be replaced by a query that reads it"))
                .with_condition("UNSUPPORTED_OVERWRITE.TABLE")),
            false => Ok(()),
        }
    }
}

fn new_table(
    name: TableName,
    plan: &LogicalPlan,
    partition_columns: Vec<String>,
    properties: BTreeMap<String, String>,
) -> NewTable {
    NewTable {
        name,
        schema: stored_schema(plan),
        partition_columns,
        clustering_columns: Vec::new(),
        properties,
        comment: None,
    }
}

/// Whether a table can take the rows as it is: overwriting is then one commit.
fn same_layout(entry: &TableEntry, plan: &LogicalPlan, partition_columns: &[String]) -> bool {
    let wanted = stored_schema(plan);
    entry.schema.as_ref().is_some_and(|schema| {
        schema.fields().len() == wanted.fields().len()
            && schema
                .fields()
                .iter()
                .zip(wanted.fields())
                .all(|(a, b)| a.name() == b.name() && a.data_type() == b.data_type())
    }) && entry.partition_columns == partition_columns
}

fn save_mode(mode: write_operation::SaveMode) -> SaveMode {
    match mode {
        write_operation::SaveMode::Append => SaveMode::Append,
        write_operation::SaveMode::Overwrite => SaveMode::Overwrite,
        write_operation::SaveMode::Ignore => SaveMode::Ignore,
        write_operation::SaveMode::ErrorIfExists | write_operation::SaveMode::Unspecified => SaveMode::ErrorIfExists,
    }
}

fn always(condition: Option<&Expression>) -> bool {
    use crate::connect::proto::expression::literal::LiteralType;
    match condition.and_then(|condition| condition.expr_type.as_ref()) {
        None => true,
        Some(ExprType::Literal(literal)) => matches!(literal.literal_type, Some(LiteralType::Boolean(true))),
        _ => false,
    }
}

fn column_name(expr: &Expression) -> Result<String> {
    match &expr.expr_type {
        Some(ExprType::UnresolvedAttribute(attribute)) => {
            Ok(split_identifier(&attribute.unparsed_identifier)?.pop().unwrap_or_default())
        }
        Some(ExprType::UnresolvedFunction(function)) => {
            Err(Error::unsupported(format!("partitioning by the transform `{}`", function.function_name)).with_help(
                "Delta tables are partitioned by columns: add one, such as `to_date(ts)`, or cluster by `ts`.",
            ))
        }
        _ => Err(Error::unsupported("partitioning by an expression").with_help("Partition by a column.")),
    }
}
