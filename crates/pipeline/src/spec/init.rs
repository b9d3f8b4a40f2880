//! `deltaworks init`: a pipeline that runs at once, to be changed into one's own.

use std::path::{Path, PathBuf};

use deltaworks_spark::error::{Error, Kind, Result};

/// What the sources of a new pipeline are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitLanguage {
    /// SQL
    Sql,
    /// Python
    Python,
}

const SETTINGS: &str = include_str!("templates/settings.yml");
const DATA: (&str, &str) = ("data/orders/2026-01.json", include_str!("templates/orders.json"));
const IGNORE: (&str, &str) = (".gitignore", "pipeline-storage/\n");
const SQL: &[(&str, &str)] = &[
    ("transformations/bronze_orders.sql", include_str!("templates/bronze.sql")),
    ("transformations/silver_orders.sql", include_str!("templates/silver.sql")),
    ("transformations/gold_customers.sql", include_str!("templates/gold.sql")),
];
const PYTHON: &[(&str, &str)] = &[("transformations/orders.py", include_str!("templates/orders.py"))];

/// Writes a new pipeline `name` into the folder `dir/name` and returns the files it wrote.
///
/// # Errors
/// `User` if the name is not one plain path component or the folder is there and not empty; nothing is
/// written then. `Unavailable` if a file cannot be written.
pub fn init(dir: &Path, name: &str, language: InitLanguage) -> Result<Vec<PathBuf>> {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    if !plain {
        return Err(
            Error::user(format!("`{name}` is no name for a pipeline")).with_help("Use letters, digits, `_` and `-`.")
        );
    }
    let folder = dir.join(name);
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::user(format!("folder `{}` is not empty", folder.display()))
            .with_help("Choose another name, or empty the folder."));
    }
    let settings = SETTINGS.replace("{name}", name);
    let sources = match language {
        InitLanguage::Sql => SQL,
        InitLanguage::Python => PYTHON,
    };
    let files = std::iter::once(&("spark-pipeline.yml", settings.as_str()))
        .chain(sources)
        .chain([&DATA, &IGNORE])
        .copied()
        .collect::<Vec<_>>();
    files.into_iter().map(|(file, text)| write(folder.join(file), text)).collect()
}

fn write(path: PathBuf, text: &str) -> Result<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("."));
    match std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, text)) {
        Ok(()) => Ok(path),
        Err(e) => Err(Error::new(Kind::Unavailable, format!("`{}` cannot be written", path.display())).with_source(e)),
    }
}
