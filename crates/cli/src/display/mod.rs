//! What is shown of an update: a view model folded from its events ([`model`]), and renderers of it.
//!
//! Everything here but the sinks themselves is a function from values to text.

mod json;
mod live;
mod model;
mod numbers;
mod plain;
mod summary;

pub(crate) use json::JsonDisplay;
pub(crate) use live::LiveDisplay;
pub(crate) use model::UpdateView;
pub(crate) use plain::PlainDisplay;
pub(crate) use summary::render as render_summary;

use std::sync::Arc;

use parking_lot::Mutex;

/// The view of the running update, shared between the display that folds it and the summary at the end.
pub(crate) type SharedView = Arc<Mutex<UpdateView>>;

#[cfg(test)]
mod tests;
