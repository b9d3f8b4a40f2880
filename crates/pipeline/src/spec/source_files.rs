//! The source files a pipeline names, in the order they are evaluated.

use std::path::{Path, PathBuf};

use deltaworks_spark::diagnostic::SourceLocation;
use deltaworks_spark::error::{Error, Result};

use super::discover;
use super::load::normalized;
use super::model::{Library, LibraryKind, PipelineSpec, SourceFile, SourceFormat, SourceLanguage};
use super::python_imports::{imports_pipelines, notebook_imports_pipelines};

/// The source files of a pipeline: library by library as listed, the files of a pattern by path.
///
/// Without `libraries`: every `.sql` file, and every `.py` and `.ipynb` file that imports `dlt` or
/// `pyspark.pipelines`, below the pipeline's folder; hidden folders, virtual environments, the
/// pipeline's storage and folders with settings of their own left out.
///
/// # Errors
/// `User` if a library does not exist, matches nothing, is no allowed pattern
/// (`PIPELINE_SPEC_INVALID_GLOB_PATTERN`) or no SQL or Python
/// (`PIPELINE_UNSUPPORTED_DEFINITIONS_FILE_EXTENSION`).
pub fn source_files(spec: &PipelineSpec) -> Result<Vec<SourceFile>> {
    let paths = match &spec.libraries {
        None => below(&spec.root, spec.storage.to_file_path().ok().as_deref())?,
        Some(libraries) => {
            let mut paths = Vec::new();
            for library in libraries {
                let found = expand(spec, library).map_err(|error| error.at(library.location.clone()))?;
                for path in found {
                    if !paths.contains(&path) {
                        paths.push(path);
                    }
                }
            }
            paths
        }
    };
    paths.into_iter().map(|path| classify(path, &spec.root)).collect()
}

/// The sources below a folder that has no list of them. Folders with settings of their own are other pipelines.
pub(super) fn below(root: &Path, storage: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut files = walk(root, &|folder| Some(folder) == storage || discover::has_settings(folder))?;
    // Scripts, tests and helpers lie beside sources; what sets a source apart is that it declares something.
    files.retain(|path| match extension(path).as_deref() {
        Some("sql") => true,
        Some("py") => std::fs::read_to_string(path).is_ok_and(|text| imports_pipelines(&text)),
        Some("ipynb") => std::fs::read_to_string(path).is_ok_and(|text| notebook_imports_pipelines(&text)),
        _ => false,
    });
    Ok(files)
}

/// All files below a folder, by path. Hidden folders, virtual environments and those `skip` names are left out.
pub(super) fn walk(root: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk_into(root, skip, &mut files)?;
    files.sort();
    Ok(files)
}

fn walk_into(folder: &Path, skip: &dyn Fn(&Path) -> bool, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable =
        |e: std::io::Error| Error::user(format!("folder `{}` cannot be read: {e}", folder.display())).with_source(e);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let (path, name) = (entry.path(), entry.file_name());
        let hidden = name.to_string_lossy().starts_with('.');
        if path.is_file() && !hidden {
            files.push(path);
        } else if path.is_dir() && !hidden && !is_generated(&path) && !skip(&path) && !is_link(&entry) {
            walk_into(&path, skip, files)?;
        }
    }
    Ok(())
}

/// Linked folders may lead in a circle.
fn is_link(entry: &std::fs::DirEntry) -> bool {
    entry.file_type().is_ok_and(|kind| kind.is_symlink())
}

fn is_generated(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default();
    name == "__pycache__" || name == "node_modules" || name == "spark-warehouse" || folder.join("pyvenv.cfg").is_file()
}

fn expand(spec: &PipelineSpec, library: &Library) -> Result<Vec<PathBuf>> {
    match library.kind {
        LibraryKind::Glob => expand_glob(spec, library),
        LibraryKind::File => {
            let path = local(spec, library, &library.path)?;
            if path.is_file() { Ok(vec![path]) } else { Err(missing("file", library, &path)) }
        }
        LibraryKind::Notebook => {
            let path = local(spec, library, &library.path)?;
            if path.is_file() {
                return Ok(vec![path]);
            }
            let mut spelled = ["py", "sql", "ipynb"].map(|extension| with_extension(&path, extension)).into_iter();
            spelled
                .find(|path| path.is_file())
                .map(|path| vec![path])
                .ok_or_else(|| missing("notebook", library, &path))
        }
    }
}

/// A file, or everything below a folder: the two patterns Spark and Databricks allow.
fn expand_glob(spec: &PipelineSpec, library: &Library) -> Result<Vec<PathBuf>> {
    let magic = |text: &str| text.contains(['*', '?', '[']);
    let pattern = library.path.as_str();
    let folder = pattern.strip_suffix("/**").or((pattern == "**").then_some("."));
    match folder {
        Some(folder) if !magic(folder) => {
            let folder = local(spec, library, folder)?;
            if !folder.is_dir() {
                return Err(missing("folder", library, &folder));
            }
            let storage = spec.storage.to_file_path().ok();
            let mut files = walk(&folder, &|path| storage.as_deref() == Some(path))?;
            if library.skips_other_files {
                files.retain(|path| language(path).is_some());
            }
            Ok(files)
        }
        None if !magic(pattern) => {
            let path = local(spec, library, pattern)?;
            if path.is_file() { Ok(vec![path]) } else { Err(missing("file", library, &path)) }
        }
        _ => Err(Error::user(format!("pattern `{pattern}` in `libraries` is not allowed"))
            .with_condition("PIPELINE_SPEC_INVALID_GLOB_PATTERN")
            .with_help("Name a file, or a folder followed by `/**`.")),
    }
}

/// Where a library lies on this machine.
fn local(spec: &PipelineSpec, library: &Library, path: &str) -> Result<PathBuf> {
    let elsewhere = path.starts_with('/') || super::path_mappings::scheme(path).is_some();
    let path = if elsewhere || spec.path_mappings.covers(path) {
        PathBuf::from(spec.path_mappings.map(path)?)
    } else {
        library.base.join(path)
    };
    Ok(normalized(&path))
}

fn missing(what: &str, library: &Library, path: &Path) -> Error {
    let error = Error::user(format!("{what} `{}` does not exist", library.path)).with_condition("PATH_NOT_FOUND");
    let workspace = ["/Repos/", "/Workspace/", "/Users/", "/Shared/"].iter().find(|p| library.path.starts_with(**p));
    match workspace {
        Some(prefix) if path == Path::new(&library.path) => {
            let folder = library.path.rsplit_once('/').map_or(*prefix, |(folder, _)| folder);
            error.with_help(format!(
                "It is a workspace path; say where it lies here: `path_mappings: {{\"{folder}/\": ./}}`."
            ))
        }
        _ => error.with_help(format!("Looked for `{}`.", path.display())),
    }
}

/// `x.y` with extension `py` is `x.y.py`: a dot in a notebook's name is no extension.
fn with_extension(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase())
}

fn language(path: &Path) -> Option<SourceLanguage> {
    match extension(path)?.as_str() {
        "sql" => Some(SourceLanguage::Sql),
        "py" | "ipynb" => Some(SourceLanguage::Python),
        _ => None,
    }
}

fn classify(path: PathBuf, root: &Path) -> Result<SourceFile> {
    let display_path = path.strip_prefix(root).unwrap_or(&path).to_owned();
    let language = language(&path).ok_or_else(|| {
        Error::user(format!("source file `{}` has an unsupported extension", display_path.display()))
            .with_condition("PIPELINE_UNSUPPORTED_DEFINITIONS_FILE_EXTENSION")
            .with_help("Sources end in `.sql`, `.py` or `.ipynb`.")
            .at(SourceLocation::file(&display_path))
    })?;
    let text = std::fs::read_to_string(&path).map_err(|e| {
        Error::user(format!("source file `{}` cannot be read: {e}", display_path.display())).with_source(e)
    })?;
    let (language, format) =
        layout(&path, &text, language).map_err(|error| error.at(SourceLocation::file(&display_path)))?;
    Ok(SourceFile { path, display_path, language, format })
}

fn layout(path: &Path, text: &str, language: SourceLanguage) -> Result<(SourceLanguage, SourceFormat)> {
    if extension(path).as_deref() == Some("ipynb") {
        return Ok((ipynb_language(text)?, SourceFormat::Ipynb));
    }
    let first = text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default().trim();
    let notebook = matches!(first, "# Databricks notebook source" | "-- Databricks notebook source");
    Ok((language, if notebook { SourceFormat::Notebook } else { SourceFormat::Plain }))
}

/// The language of a Jupyter notebook, as Databricks or the kernel names it.
fn ipynb_language(text: &str) -> Result<SourceLanguage> {
    let notebook: serde_json::Value =
        serde_json::from_str(text).map_err(|e| Error::user("the notebook is no valid JSON").with_source(e))?;
    let metadata = &notebook["metadata"];
    let named = [
        &metadata["application/vnd.databricks.v1+notebook"]["language"],
        &metadata["language_info"]["name"],
        &metadata["kernelspec"]["language"],
    ];
    match named.iter().find_map(|value| value.as_str()).unwrap_or("python").to_ascii_lowercase().as_str() {
        "python" => Ok(SourceLanguage::Python),
        "sql" => Ok(SourceLanguage::Sql),
        other => Err(Error::unsupported(format!("a notebook in `{other}`"))
            .with_help("Definitions are written in SQL or Python.")),
    }
}
