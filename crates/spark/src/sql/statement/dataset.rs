//! What follows the name of a dataset: its columns, its clauses, what fills it.

use indexmap::IndexMap;
use sqlparser::tokenizer::Token;

use super::cursor::Cursor;
use super::{ClusterBy, CreateDataset, DatasetKind, FlowSource, RefreshPolicy, RowFilter, cdc, elements};
use crate::diagnostic::SourceLocation;
use crate::error::{Error, Result};

/// What was read up to the name.
pub(super) struct Header {
    pub(super) kind: DatasetKind,
    pub(super) refresh: bool,
    pub(super) private: bool,
    pub(super) location: SourceLocation,
}

pub(super) fn body(cursor: &mut Cursor<'_>, header: Header) -> Result<CreateDataset> {
    let place = cursor.here();
    let if_not_exists = cursor.eat("IF NOT EXISTS");
    if if_not_exists && header.refresh {
        return Err(cursor.illegal("`OR REFRESH` and `IF NOT EXISTS` exclude each other", place));
    }
    let place = cursor.here();
    let name = cursor.dataset_name()?;
    if header.kind == DatasetKind::TemporaryView && name.0.len() > 1 {
        return Err(Error::user(format!("temporary view `{name}` has a qualified name"))
            .with_condition("INVALID_TEMP_OBJ_QUALIFIER")
            .at(place));
    }
    let mut dataset = CreateDataset {
        kind: header.kind,
        name,
        location: header.location,
        private: header.private,
        if_not_exists,
        columns: Vec::new(),
        expectations: Vec::new(),
        keys: Vec::new(),
        provider: None,
        partitioned_by: Vec::new(),
        cluster_by: None,
        path: None,
        comment: None,
        properties: IndexMap::new(),
        refresh_policy: None,
        row_filter: None,
        collation: None,
        source: None,
    };
    if cursor.at_token(&Token::LParen) {
        elements::list(cursor, &mut dataset)?;
    }
    let mut seen = Vec::new();
    while clause(cursor, &mut dataset, &mut seen)? {}
    source(cursor, &mut dataset)?;
    Ok(dataset)
}

/// Reads one clause, in any order, each at most once.
fn clause(cursor: &mut Cursor<'_>, dataset: &mut CreateDataset, seen: &mut Vec<&'static str>) -> Result<bool> {
    const CLAUSES: [&str; 10] = [
        "USING",
        "PARTITIONED BY",
        "CLUSTER BY",
        "LOCATION",
        "COMMENT",
        "TBLPROPERTIES",
        "REFRESH POLICY",
        "WITH ROW FILTER",
        "ROW FILTER",
        "DEFAULT COLLATION",
    ];
    let place = cursor.here();
    let Some(name) = CLAUSES.into_iter().find(|clause| cursor.eat(clause)) else {
        return match ["SCHEDULE", "TRIGGER ON UPDATE"].into_iter().find(|clause| cursor.at_words(clause)) {
            Some(clause) => Err(Error::unsupported(format!("`{clause}` in a pipeline")).at(place)),
            None => Ok(false),
        };
    };
    check(cursor, dataset.kind, name, seen, &place)?;
    match name {
        "USING" => dataset.provider = Some(cursor.identifier()?),
        "PARTITIONED BY" => dataset.partitioned_by = cursor.list(partition_column)?,
        "CLUSTER BY" => dataset.cluster_by = Some(cluster_by(cursor)?),
        "LOCATION" => dataset.path = Some(cursor.string()?),
        "COMMENT" => dataset.comment = Some(cursor.string()?),
        "TBLPROPERTIES" => {
            dataset.properties = cursor.list(property)?.into_iter().collect();
        }
        "REFRESH POLICY" => dataset.refresh_policy = Some(refresh_policy(cursor)?),
        "DEFAULT COLLATION" => dataset.collation = Some(cursor.identifier()?),
        _ => dataset.row_filter = Some(row_filter(cursor)?),
    }
    seen.push(if name == "WITH ROW FILTER" { "ROW FILTER" } else { name });
    Ok(true)
}

fn check(cursor: &Cursor<'_>, kind: DatasetKind, name: &str, seen: &[&str], place: &SourceLocation) -> Result<()> {
    if seen.iter().any(|earlier| name.ends_with(earlier)) {
        return Err(cursor
            .illegal(format!("clause `{name}` is given twice"), place.clone())
            .with_condition("DUPLICATE_CLAUSES"));
    }
    let other = match name {
        "PARTITIONED BY" => "CLUSTER BY",
        "CLUSTER BY" => "PARTITIONED BY",
        _ => "",
    };
    if seen.contains(&other) {
        return Err(cursor
            .illegal("`PARTITIONED BY` and `CLUSTER BY` exclude each other", place.clone())
            .with_condition("SPECIFY_CLUSTER_BY_WITH_PARTITIONED_BY_IS_NOT_ALLOWED"));
    }
    let is_view = matches!(kind, DatasetKind::TemporaryView | DatasetKind::PersistedView);
    let is_read = kind == DatasetKind::TemporaryView && name == "USING";
    if is_view && !is_read && !matches!(name, "COMMENT" | "TBLPROPERTIES" | "DEFAULT COLLATION") {
        return Err(cursor.illegal(format!("a view has no clause `{name}`"), place.clone()));
    }
    if name == "REFRESH POLICY" && !matches!(kind, DatasetKind::MaterializedView | DatasetKind::LiveTable) {
        return Err(cursor.illegal("only a materialized view has a `REFRESH POLICY`", place.clone()));
    }
    Ok(())
}

fn partition_column(cursor: &mut Cursor<'_>) -> Result<String> {
    let place = cursor.here();
    let name = cursor.identifier()?;
    if cursor.at_token(&Token::LParen) {
        return Err(
            cursor.illegal(format!("invalid partitioning transform `{name}(…)`, only columns are possible"), place)
        );
    }
    Ok(name)
}

fn property(cursor: &mut Cursor<'_>) -> Result<(String, String)> {
    let key = cursor.property_key()?;
    cursor.eat_token(&Token::Eq);
    Ok((key, cursor.property_value()?))
}

fn cluster_by(cursor: &mut Cursor<'_>) -> Result<ClusterBy> {
    if cursor.eat("AUTO") {
        return Ok(ClusterBy::Auto);
    }
    if cursor.eat("NONE") {
        return Ok(ClusterBy::None);
    }
    let column = |cursor: &mut Cursor<'_>| Ok(cursor.object_name()?.0.join("."));
    match cursor.at_token(&Token::LParen) {
        true => Ok(ClusterBy::Columns(cursor.list(column)?)),
        false => Err(cursor.expected("`(`, `AUTO` or `NONE`")),
    }
}

fn refresh_policy(cursor: &mut Cursor<'_>) -> Result<RefreshPolicy> {
    if cursor.eat("AUTO") {
        Ok(RefreshPolicy::Auto)
    } else if cursor.eat("INCREMENTAL STRICT") {
        Ok(RefreshPolicy::IncrementalStrict)
    } else if cursor.eat("INCREMENTAL") {
        Ok(RefreshPolicy::Incremental)
    } else if cursor.eat("FULL") {
        Ok(RefreshPolicy::Full)
    } else {
        Err(cursor.expected("`AUTO`, `INCREMENTAL [STRICT]` or `FULL`"))
    }
}

fn row_filter(cursor: &mut Cursor<'_>) -> Result<RowFilter> {
    let function = cursor.object_name()?;
    cursor.expect("ON")?;
    cursor.expect_token(&Token::LParen)?;
    let columns = if cursor.at_token(&Token::RParen) { Vec::new() } else { cursor.bare_list(Cursor::identifier)? };
    cursor.expect_token(&Token::RParen)?;
    Ok(RowFilter { function, columns })
}

fn source(cursor: &mut Cursor<'_>, dataset: &mut CreateDataset) -> Result<()> {
    let place = cursor.here();
    if dataset.kind == DatasetKind::TemporaryView
        && let Some(format) = dataset.provider.take()
    {
        let options =
            if cursor.eat("OPTIONS") { cursor.list(property)?.into_iter().collect() } else { IndexMap::new() };
        dataset.source = Some(FlowSource::Read { format, options });
        return Ok(());
    }
    // `AS` may be left out.
    if cursor.eat("AS") || cursor.at_words("SELECT") || cursor.at_words("WITH") {
        dataset.source = Some(FlowSource::Query(cursor.query()?));
    } else if cursor.eat("FLOW") {
        if dataset.kind != DatasetKind::StreamingTable {
            return Err(cursor.illegal("only a streaming table is filled by `FLOW`", place));
        }
        dataset.source = Some(flow(cursor)?);
    } else if dataset.kind != DatasetKind::StreamingTable {
        return Err(cursor.expected("a clause or `AS` and a query"));
    } else if !cursor.at_end() && !cursor.at_token(&Token::SemiColon) {
        return Err(cursor.expected("a clause, `AS`, `FLOW` or the end of the statement"));
    }
    Ok(())
}

fn flow(cursor: &mut Cursor<'_>) -> Result<FlowSource> {
    if cursor.eat("AUTO CDC") {
        return Ok(FlowSource::AutoCdc(Box::new(cdc::clauses(cursor, false)?)));
    }
    if cursor.at_words("REPLACE") {
        return Err(Error::unsupported("`FLOW REPLACE`").at(cursor.here()));
    }
    if !cursor.eat("INSERT") {
        return Err(cursor.expected("`INSERT` or `AUTO CDC`"));
    }
    let once = cursor.eat("ONCE");
    cursor.expect("BY NAME")?;
    Ok(FlowSource::InsertFlow { once, query: cursor.query()? })
}
