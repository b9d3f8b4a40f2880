//! The settings of a pipeline: one model, three spellings, and the source files they name.
//!
//! A pipeline's settings stand in `spark-pipeline.yml` (or `deltaworks.yml`), in Databricks' settings
//! JSON, or in a Databricks bundle; a folder with sources and no settings file is a pipeline too.
//! [`discover`] finds the file, [`load`] reads it into a [`PipelineSpec`], [`source_files`] lists what
//! it names. Every setting is declared once, in `settings`. This module reads files and nothing
//! else: it knows neither tables nor flows.

mod bundle;
mod discover;
mod init;
mod interpolate;
mod interval;
mod load;
mod model;
mod node;
mod path_mappings;
mod python_imports;
mod settings;
mod source_files;
#[cfg(test)]
mod tests;

pub use discover::{SpecKind, SpecSource, discover, discover_or_empty};
pub use init::{InitLanguage, init};
pub use interval::{TRIGGER_INTERVAL, parse_interval};
pub use load::{LoadOptions, load};
pub use model::{
    EventLogSpec, Library, LibraryKind, MemoryLimit, Notification, PipelineSpec, SourceFile, SourceFormat,
    SourceLanguage,
};
pub use path_mappings::PathMappings;
pub use settings::settings_reference;
pub use source_files::source_files;
