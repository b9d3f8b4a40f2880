//! Which paths of the sources lie where on this machine: production code runs unchanged against local data.

use std::path::{Path, PathBuf};

use deltaworks_spark::error::{Error, Result};

/// Path prefixes and what stands for them here.
///
/// A prefix matches whole path components; the longest wins. `dbfs:/x`, `/dbfs/x` and (where no
/// mapping says otherwise) `/x` are one place, as on Databricks; so are `s3:`, `s3a:` and `s3n:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMappings {
    base: PathBuf,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    prefix: String,
    replacement: String,
}

impl Rule {
    /// What decides between prefixes. `/dbfs/x` is `/x`, and not longer for being spelled so; of the two it is the closer one.
    fn length(&self) -> (usize, usize) {
        let place = self.prefix.trim_end_matches('/');
        (place.strip_prefix("/dbfs").unwrap_or(place).len(), place.len())
    }
}

impl PathMappings {
    /// No mappings; relative paths start from `base`.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), rules: Vec::new() }
    }

    /// Maps `prefix` to `replacement`, replacing an earlier mapping of the same prefix.
    pub fn insert(&mut self, prefix: &str, replacement: &str) {
        let prefix = canonical(prefix);
        self.rules.retain(|rule| rule.prefix != prefix);
        self.rules.push(Rule { prefix, replacement: replacement.to_owned() });
        self.rules.sort_by(|a, b| b.length().cmp(&a.length()).then_with(|| a.prefix.cmp(&b.prefix)));
    }

    /// The folder relative paths start from.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Every prefix with the local folder that stands for it; rules that do not lead to this machine are left out.
    pub fn resolved(&self) -> std::collections::BTreeMap<String, String> {
        self.rules.iter().filter_map(|rule| Some((rule.prefix.clone(), self.local(&rule.replacement).ok()?))).collect()
    }

    /// Whether a mapping covers `path`.
    pub fn covers(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// Where `path` lies on this machine: an absolute local path. Patterns (`*.json`) stay as they are.
    ///
    /// # Errors
    /// `Unsupported` for a place that is not on this machine and has no mapping, with the mapping to
    /// write as help. `User` if `..` leads out of the folder a mapping names.
    pub fn map(&self, path: &str) -> Result<String> {
        if let Some((rule, rest)) = self.find(path) {
            let root = self.local(&rule.replacement)?;
            return join_inside(&root, &rest).ok_or_else(|| {
                Error::user(format!("path `{path}` leads out of `{}`, which stands for `{}`", root, rule.prefix))
                    .with_help("Remove the `..`, or map a folder further up.")
            });
        }
        self.local(path)
    }

    /// A path without mappings: local as it is, anything else refused.
    fn local(&self, path: &str) -> Result<String> {
        match scheme(path) {
            Some("file") => Ok(canonical(path)),
            Some(_) => Err(Error::unsupported(format!("reading or writing `{path}`")).with_help(format!(
                "Map it to a folder of this machine in the settings file: `path_mappings: {{\"{}\": ./data/}}`.",
                suggested_prefix(path)
            ))),
            None if path.starts_with('/') => Ok(path.to_owned()),
            None => {
                let path = path.strip_prefix("./").unwrap_or(path);
                Ok(self.base.join(path).to_string_lossy().into_owned())
            }
        }
    }

    fn find(&self, path: &str) -> Option<(&Rule, String)> {
        let spellings = spellings(path);
        self.rules.iter().find_map(|rule| {
            spellings.iter().find_map(|spelling| Some((rule, below(spelling, &rule.prefix)?.to_owned())))
        })
    }
}

/// What is left of `path` below `prefix`, or `None` if it lies elsewhere.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
}

/// `rest` below `root`, `.` and `..` worked out; `None` if it would lie outside.
fn join_inside(root: &str, rest: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in rest.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    let mut joined = root.trim_end_matches('/').to_owned();
    for part in parts {
        joined.push('/');
        joined.push_str(part);
    }
    if rest.ends_with('/') || (rest.is_empty() && (root.ends_with('/') || joined.is_empty())) {
        joined.push('/');
    }
    Some(joined)
}

/// The ways one place may be spelled, the shortest first.
fn spellings(path: &str) -> Vec<String> {
    let path = canonical(path);
    match below(&path, "/dbfs") {
        Some(rest) => vec![format!("/{rest}"), path],
        None if path.starts_with('/') => vec![path.clone(), format!("/dbfs{path}")],
        None => vec![path],
    }
}

/// One spelling per scheme.
fn canonical(path: &str) -> String {
    match scheme(path) {
        Some("file") => format!("/{}", path["file:".len()..].trim_start_matches('/')),
        Some("dbfs") => format!("/dbfs/{}", path["dbfs:".len()..].trim_start_matches('/')),
        Some(s @ ("s3a" | "s3n")) => format!("s3{}", &path[s.len()..]),
        _ => path.strip_prefix("./").unwrap_or(path).to_owned(),
    }
}

/// `s3` of `s3://bucket/x`; `None` for a plain path.
pub(super) fn scheme(path: &str) -> Option<&str> {
    let (scheme, rest) = path.split_once(':')?;
    let known = scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    (known && scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && rest.starts_with('/')).then_some(scheme)
}

/// The bucket, container or first folder of a place that is not on this machine.
fn suggested_prefix(path: &str) -> String {
    let authority = path.find("://").map_or_else(|| path.find(":/").map_or(0, |i| i + 2), |i| i + 3);
    let end = path[authority..].find('/').map_or(path.len(), |i| authority + i);
    format!("{}/", &path[..end])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(mappings: &[(&str, &str)], path: &str, expected: &str) {
        let mut mapped = PathMappings::new("/p");
        for (prefix, replacement) in mappings {
            mapped.insert(prefix, replacement);
        }
        let actual = mapped.map(path).unwrap_or_else(|e| format!("{}; {}", e.message(), e.help().unwrap_or("")));
        assert_eq!(actual, expected, "{path} with {mappings:?}");
    }

    #[test]
    fn longest_prefix_of_whole_components_wins() {
        let mappings = [("/data", "./a"), ("/data/orders/", "b")];
        check(&mappings, "/data/orders/x.json", "/p/b/x.json");
        check(&mappings, "/data/customers/", "/p/a/customers/");
        check(&mappings, "/database/x", "/database/x");
        check(&mappings, "/data", "/p/a");
    }

    #[test]
    fn schemes_of_one_place_are_one() {
        check(&[("/mnt/raw", "raw")], "dbfs:/mnt/raw/x", "/p/raw/x");
        check(&[("dbfs:/mnt/raw", "raw")], "/dbfs/mnt/raw/x", "/p/raw/x");
        check(&[("dbfs:/mnt/raw", "raw")], "/mnt/raw/x", "/p/raw/x");
        check(&[("/", "root")], "dbfs:/raw/x", "/p/root/raw/x");
        check(&[("/", "root"), ("/dbfs", "d")], "dbfs:/raw/x", "/p/d/raw/x");
        check(&[("s3://bucket/", "/local")], "s3a://bucket/a/*.json", "/local/a/*.json");
        check(&[], "file:///tmp/x", "/tmp/x");
        check(&[], "data/x", "/p/data/x");
        check(&[("/", "all")], "/x/y", "/p/all/x/y");
        let mappings = [("dbfs:/", "a"), ("/mnt/", "b"), ("dbfs:/data/", "c"), ("/data/raw", "d")];
        check(&mappings, "/mnt/x", "/p/b/x");
        check(&mappings, "dbfs:/mnt/x", "/p/b/x");
        check(&mappings, "/data/raw/x", "/p/d/x");
        check(&mappings, "/data/x", "/p/c/x");
    }

    #[test]
    fn parent_folders_stay_inside_the_replacement() {
        check(&[("/data", "d")], "/data/a/../b", "/p/d/b");
        check(
            &[("/data", "d")],
            "/data/../../etc/passwd",
            "path `/data/../../etc/passwd` leads out of `/p/d`, which stands for `/data`; \
             Remove the `..`, or map a folder further up.",
        );
    }

    #[test]
    fn places_elsewhere_need_a_mapping() {
        check(
            &[],
            "s3://bucket/raw/x",
            "reading or writing `s3://bucket/raw/x` is not supported yet; Map it to a folder of this machine in the \
             settings file: `path_mappings: {\"s3://bucket/\": ./data/}`.",
        );
        check(
            &[],
            "dbfs:/mnt/x",
            "reading or writing `dbfs:/mnt/x` is not supported yet; Map it to a folder of this machine in the \
             settings file: `path_mappings: {\"dbfs:/mnt/\": ./data/}`.",
        );
    }
}
