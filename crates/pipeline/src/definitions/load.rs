//! All source files of a pipeline, to definitions.

use deltaworks_spark::Result;

use super::python::PythonSession;
use super::{Definitions, python, sql};
use crate::graph::Environment;
use crate::spec::{PipelineSpec, SourceFile, SourceLanguage, source_files};
use std::sync::Arc;

/// Evaluates every source file of `spec`. Problems of single files are diagnostics of the result. With it comes
/// the Python process, if functions may have to be called again.
///
/// # Errors
/// If the list of files cannot be made, or no Python interpreter can be started.
pub async fn load(spec: &PipelineSpec, environment: &Arc<Environment>) -> Result<(Definitions, Option<PythonSession>)> {
    let files = source_files(spec)?;
    let mut definitions = Definitions::default();
    let (sql_files, python_files): (Vec<SourceFile>, Vec<SourceFile>) =
        files.into_iter().partition(|file| file.language == SourceLanguage::Sql);
    for file in &sql_files {
        match sql::read(&file.path, &file.display_path) {
            Ok(text) => sql::define(
                &text,
                &file.display_path,
                &environment.namespace,
                &spec.configuration,
                &environment.parameters,
                &mut definitions,
            ),
            Err(error) => definitions.diagnostics.push(error.to_diagnostic()),
        }
    }
    if !python_files.is_empty() {
        let session = python::define(&python_files, spec, environment, &mut definitions).await?;
        return Ok((definitions, session));
    }
    Ok((definitions, None))
}
