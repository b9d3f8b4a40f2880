//! Temporary views: of one session, or (`global_temp`) of all sessions of the server.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;

use super::tables::GLOBAL_TEMP;
use super::{Session, relation_of};
use crate::connect::proto::{self, Relation, relation::RelType};
use crate::connect::scope::split_identifier;
use crate::error::{Error, Result};
use crate::relation::ObjectName;

/// Views by lower-case name.
pub(super) type Views = Mutex<HashMap<String, Relation>>;

impl Session {
    /// The relation together with the temporary views it may name.
    ///
    /// The views become part of the relation, so that it keeps its meaning wherever it is planned:
    /// a flow defined over a view outlives the session.
    pub(super) fn with_views(&self, relation: Relation) -> Relation {
        self.with_views_of(relation, "")
    }

    /// As [`Self::with_views`], of a relation that stands for `text`, too: the body of a function that is not known yet.
    pub(super) fn with_views_of(&self, relation: Relation, text: &str) -> Relation {
        let mut known: Vec<(String, Relation)> = Vec::new();
        known.extend(self.views.lock().iter().map(|(name, view)| (name.clone(), view.clone())));
        known.extend(
            self.global_views.lock().iter().map(|(name, view)| (format!("{GLOBAL_TEMP}.{name}"), view.clone())),
        );
        if known.is_empty() {
            return relation;
        }
        let text = self.with_bodies(format!("{} {text}", String::from_utf8_lossy(&relation.encode_to_vec())));
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let references: Vec<_> = known
            .into_iter()
            .filter(|(name, _)| text.contains(&last(name)))
            .map(|(name, view)| alias(&name, view))
            .collect();
        if references.is_empty() {
            return relation;
        }
        relation_of(RelType::WithRelations(Box::new(proto::WithRelations {
            root: Some(Box::new(relation)),
            references,
        })))
    }

    /// Keeps the DataFrames that came with a statement (`spark.sql("… {df}", df=df)`) under the names that it has for them;
    /// gives these, to be forgotten when the statement is done.
    pub(super) fn keep_references(&self, relation: &Relation) -> Vec<String> {
        let Some(RelType::WithRelations(with)) = &relation.rel_type else { return Vec::new() };
        let mut names = Vec::new();
        for reference in &with.references {
            if let Some(RelType::SubqueryAlias(alias)) = &reference.rel_type
                && let Some(input) = &alias.input
            {
                let name = alias.alias.to_lowercase();
                let view = self.with_views(input.as_ref().clone());
                self.views.lock().insert(name.clone(), view);
                names.push(name);
            }
        }
        names
    }

    /// Forgets what [`Self::keep_references`] has kept.
    pub(super) fn forget_references(&self, names: &[String]) {
        let mut views = self.views.lock();
        names.iter().for_each(|name| drop(views.remove(name)));
    }

    /// The text, in lower case, with the bodies of the temporary functions that it may call.
    fn with_bodies(&self, text: String) -> String {
        let mut text = text.to_lowercase();
        let functions = self.sql_functions.lock().clone();
        let mut rest = functions.all();
        while let Some(at) = rest.iter().position(|function| text.contains(&function.name.to_lowercase())) {
            text.push(' ');
            text.push_str(&rest.swap_remove(at).body.to_lowercase());
        }
        text
    }

    /// Keeps a DataFrame under a name.
    ///
    /// # Errors
    /// `TEMP_TABLE_OR_VIEW_ALREADY_EXISTS` (`User`) unless it may be replaced.
    pub(super) fn create_view(&self, command: &proto::CreateDataFrameViewCommand) -> Result<()> {
        let relation = command.input.clone().ok_or_else(|| Error::internal("a view without a relation"))?;
        let relation = self.with_views(relation);
        let mut parts = split_identifier(&command.name)?;
        let name = parts.pop().unwrap_or_default().to_lowercase();
        if !parts.is_empty() {
            return Err(Error::user(format!("temporary view `{}` has a qualified name", command.name))
                .with_condition("TEMP_VIEW_NAME_TOO_MANY_NAME_PARTS"));
        }
        let mut views = if command.is_global { self.global_views.lock() } else { self.views.lock() };
        if !command.replace && views.contains_key(&name) {
            return Err(Error::user(format!("view `{}` already exists", command.name))
                .with_condition("TEMP_TABLE_OR_VIEW_ALREADY_EXISTS")
                .with_parameter("relationName", format!("`{}`", command.name))
                .with_help("Use createOrReplaceTempView, or drop the view first."));
        }
        views.insert(name, relation);
        Ok(())
    }

    /// The temporary view that a name means.
    pub(super) fn temporary_view(&self, name: &ObjectName) -> Option<Relation> {
        let (views, name) = self.views_of(name)?;
        views.lock().get(&name).cloned()
    }

    /// Forgets the temporary view that a name means; whether there was one.
    pub(super) fn drop_temporary_view(&self, name: &ObjectName) -> bool {
        self.views_of(name).is_some_and(|(views, name)| views.lock().remove(&name).is_some())
    }

    /// The names of the session's own views.
    pub(super) fn temporary_views(&self) -> Vec<String> {
        let mut names: Vec<_> = self.views.lock().keys().cloned().collect();
        names.sort();
        names
    }

    fn views_of(&self, name: &ObjectName) -> Option<(&Views, String)> {
        match name.0.as_slice() {
            [name] => Some((&self.views, name.to_lowercase())),
            [schema, name] if schema.eq_ignore_ascii_case(GLOBAL_TEMP) => {
                Some((self.global_views.as_ref(), name.to_lowercase()))
            }
            _ => None,
        }
    }
}

/// The views all sessions of a server share.
pub(super) type GlobalViews = Arc<Views>;

fn alias(name: &str, input: Relation) -> Relation {
    let (qualifier, name) = match name.rsplit_once('.') {
        Some((schema, name)) => (vec![schema.to_owned()], name.to_owned()),
        None => (Vec::new(), name.to_owned()),
    };
    relation_of(RelType::SubqueryAlias(Box::new(proto::SubqueryAlias {
        input: Some(Box::new(input)),
        alias: name,
        qualifier,
    })))
}
