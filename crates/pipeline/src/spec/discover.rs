//! Where a pipeline's settings are.

use std::path::{Path, PathBuf};

use deltaworks_spark::error::{Error, Result};

use super::node::Node;
use super::source_files;

/// What kind of settings a pipeline has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecKind {
    /// `spark-pipeline.yml`
    Spark,
    /// `deltaworks.yml`
    Deltaworks,
    /// Databricks' settings JSON.
    Settings,
    /// A Databricks bundle, `databricks.yml`.
    Bundle,
    /// A folder of sources without settings.
    Folder,
}

/// A pipeline's settings, found but not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecSource {
    /// How they are spelled.
    pub kind: SpecKind,
    /// The settings file, absolute; the folder itself if there is none.
    pub path: PathBuf,
    /// The folder relative paths start from, absolute.
    pub root: PathBuf,
    /// A `deltaworks.yml` beside a bundle or a settings JSON, laid over it.
    pub local: Option<PathBuf>,
}

const SPARK: &[&str] = &["spark-pipeline.yml", "spark-pipeline.yaml"];
const DELTAWORKS: &[&str] = &["deltaworks.yml", "deltaworks.yaml"];
const BUNDLE: &[&str] = &["databricks.yml", "databricks.yaml"];
/// Pipelines that a message lists.
const MOST_PIPELINES_NAMED: usize = 5;
const SETTINGS: &[&str] = &["pipeline.json", "pipeline-settings.json", "pipeline_settings.json", "settings.json"];

/// Finds the settings of the pipeline at `path`, a settings file or a folder.
///
/// Without `path`, the nearest settings file in the working folder or above it is taken, and failing
/// that the working folder itself if it holds sources.
///
/// # Errors
/// `User`: `PIPELINE_SPEC_FILE_DOES_NOT_EXIST`, `PIPELINE_SPEC_FILE_NOT_FOUND`,
/// `MULTIPLE_PIPELINE_SPEC_FILES_FOUND`.
pub fn discover(path: Option<&Path>) -> Result<SpecSource> {
    discover_where(path, without_settings)
}

/// As [`discover`]; a folder with neither settings nor sources is taken as it is.
///
/// # Errors
/// As [`discover`], but for a folder without a pipeline.
pub fn discover_or_empty(path: Option<&Path>) -> Result<SpecSource> {
    discover_where(path, |folder| Ok(bare(folder)))
}

fn discover_where(
    path: Option<&Path>,
    without_settings: impl FnOnce(PathBuf) -> Result<SpecSource>,
) -> Result<SpecSource> {
    let Some(path) = path else {
        let folder =
            std::env::current_dir().map_err(|e| Error::user("the working folder cannot be read").with_source(e))?;
        for folder in folder.ancestors() {
            if let Some(found) = in_folder(folder)? {
                return Ok(found);
            }
        }
        return without_settings(folder);
    };
    let path = path.canonicalize().map_err(|e| {
        Error::user(format!("the pipeline `{}` does not exist", path.display()))
            .with_condition("PIPELINE_SPEC_FILE_DOES_NOT_EXIST")
            .with_source(e)
    })?;
    if path.is_dir() {
        return in_folder(&path)?.map_or_else(|| without_settings(path), Ok);
    }
    from_file(path)
}

/// Whether `folder` is that of a pipeline with settings.
pub(super) fn has_settings(folder: &Path) -> bool {
    // Several settings files are settings, too.
    !matches!(in_folder(folder), Ok(None))
}

fn in_folder(folder: &Path) -> Result<Option<SpecSource>> {
    let existing = |names: &[&str]| names.iter().map(|n| folder.join(n)).filter(|p| p.is_file()).collect::<Vec<_>>();
    let (spark, local) = (existing(SPARK), existing(DELTAWORKS));
    let bundle = existing(BUNDLE);
    // A bundle's folder may hold the settings JSON of its pipelines as well; the bundle is what is deployed.
    let settings = if bundle.is_empty() { existing(SETTINGS) } else { Vec::new() };
    let main: Vec<_> = spark.iter().chain(&bundle).chain(settings.iter().filter(|p| looks_like_settings(p))).collect();
    if main.len() > 1 || local.len() > 1 || (!spark.is_empty() && !local.is_empty()) {
        let names: Vec<_> = main.into_iter().chain(&local).filter_map(|p| p.file_name()).collect();
        let names: Vec<_> = names.iter().map(|n| format!("`{}`", n.to_string_lossy())).collect();
        return Err(Error::user(format!("`{}` holds several settings files: {}", folder.display(), names.join(", ")))
            .with_condition("MULTIPLE_PIPELINE_SPEC_FILES_FOUND")
            .with_help("Remove all but one, or give the path of the one to use."));
    }
    match main.first().copied().or(local.first()) {
        Some(file) => from_file(file.clone()).map(Some),
        None => Ok(None),
    }
}

/// Whether a JSON file is about a pipeline: its name says so, or, where it is a common one, its contents.
fn looks_like_settings(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name != "settings.json")
        || std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"libraries\""))
}

fn from_file(path: PathBuf) -> Result<SpecSource> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let root = path.parent().unwrap_or(Path::new("/")).to_owned();
    let kind = match path.extension().and_then(|e| e.to_str()) {
        _ if SPARK.contains(&name.as_str()) => SpecKind::Spark,
        _ if DELTAWORKS.contains(&name.as_str()) => SpecKind::Deltaworks,
        _ if BUNDLE.contains(&name.as_str()) => SpecKind::Bundle,
        Some("json") => SpecKind::Settings,
        Some("yml" | "yaml") => kind_of_contents(&path)?,
        _ => {
            return Err(Error::user(format!("`{}` is no settings file", path.display()))
                .with_condition("PIPELINE_SPEC_FILE_NOT_FOUND")
                .with_help("Give a `.yml` or `.json` settings file, or a folder."));
        }
    };
    let overlaid = matches!(kind, SpecKind::Settings | SpecKind::Bundle);
    let local = DELTAWORKS.iter().map(|n| root.join(n)).find(|p| overlaid && p.is_file());
    Ok(SpecSource { kind, path, root, local })
}

fn kind_of_contents(path: &Path) -> Result<SpecKind> {
    let node = super::load::read(path, path.parent().unwrap_or(path))?;
    let bundle = ["bundle", "resources", "targets"].iter().any(|key| node.get(key).is_some());
    Ok(if bundle { SpecKind::Bundle } else { SpecKind::Deltaworks })
}

fn bare(folder: PathBuf) -> SpecSource {
    SpecSource { kind: SpecKind::Folder, path: folder.clone(), root: folder, local: None }
}

fn without_settings(folder: PathBuf) -> Result<SpecSource> {
    let source = bare(folder);
    if source_files::below(&source.root, None)?.is_empty() {
        let help = match pipelines_below(&source.root)?.as_slice() {
            [] => "Create one with `deltaworks init NAME`, or go to a folder with `spark-pipeline.yml`, `databricks.yml` or .sql and .py sources.".to_owned(),
            found => format!("Give the path of one of those below it: {}.", found.join(", ")),
        };
        return Err(Error::user(format!("no pipeline in `{}`", source.root.display()))
            .with_condition("PIPELINE_SPEC_FILE_NOT_FOUND")
            .with_help(help));
    }
    Ok(source)
}

/// The first folders below `root` that have settings, relative to it, in backticks.
fn pipelines_below(root: &Path) -> Result<Vec<String>> {
    let mut folders: Vec<_> =
        source_files::walk(root, &|_| false)?.into_iter().filter_map(|file| Some(file.parent()?.to_owned())).collect();
    folders.dedup();
    folders.retain(|folder| has_settings(folder));
    folders.truncate(MOST_PIPELINES_NAMED);
    let shown = |folder: &PathBuf| format!("`{}`", folder.strip_prefix(root).unwrap_or(folder).display());
    Ok(folders.iter().map(shown).collect())
}

/// The entry of `node` that holds the settings: what the REST API returns wraps them in `spec`.
pub(super) fn unwrapped(node: Node) -> Node {
    match node.get("spec") {
        Some(spec) if node.get("libraries").is_none() && !spec.entries().is_empty() => spec.clone(),
        _ => node,
    }
}
