//! Databricks bundles: which pipeline of which target, and its settings with every `${…}` filled in.

use std::collections::BTreeMap;
use std::path::Path;

use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::error::{Error, Result};
use globset::GlobBuilder;

use super::discover::SpecSource;
use super::interpolate::Scope;
use super::load::{LoadOptions, read};
use super::node::Node;
use super::settings::{nearest, unknown_field};
use super::source_files::walk;

/// The pipeline chosen from a bundle.
pub(super) struct Chosen {
    /// Its settings.
    pub node: Node,
    /// Its key below `resources.pipelines`.
    pub key: String,
    /// The target, if the bundle has any.
    pub target: Option<String>,
    /// Whether the target is in development mode.
    pub development: bool,
    /// What the target puts before names.
    pub name_prefix: String,
    /// Where deployment would put the bundle's files: the same as the bundle's folder here.
    pub file_path: Option<String>,
}

const TOP_LEVEL: &[&str] = &[
    "bundle",
    "include",
    "resources",
    "targets",
    "variables",
    "workspace",
    "artifacts",
    "permissions",
    "presets",
    "run_as",
    "sync",
    "experimental",
    "scripts",
    "python",
    "environments",
];

/// Reads the bundle and picks what `options` ask for.
pub(super) fn select(source: &SpecSource, options: &LoadOptions, found: &mut Vec<Diagnostic>) -> Result<Chosen> {
    let mut root = read(&source.path, &source.root)?;
    for (key, _) in root.entries() {
        let name = key.text().unwrap_or_default();
        if !TOP_LEVEL.contains(&name) {
            found.push(unknown_field("bundle field", name, key, TOP_LEVEL.iter().copied()));
        }
    }
    include(&mut root, source)?;
    let target = target(&root, options.target.as_deref())?;
    let mut variables = declared(&root);
    let mut mode = None;
    if let Some((_, over)) = &target {
        mode = over.get("mode").and_then(Node::text).map(str::to_owned);
        override_variables(&mut variables, over);
        for section in ["resources", "workspace", "presets", "bundle"] {
            if let Some(over) = over.get(section) {
                lay_over(&mut root, section, over);
            }
        }
    }
    for (name, value) in &options.vars {
        let given = variables
            .get_mut(name)
            .ok_or_else(|| Error::user(format!("variable `{name}` is not declared in `{}`", source.path.display())))?;
        *given = Some(root.with_text(value));
    }
    let (key, pipeline) = pipeline(&root, options.pipeline.as_deref())?;
    let target = target.map(|(name, _)| name);
    let development = mode.as_deref() == Some("development");
    let scope = scope(&root, variables, target.as_deref(), options);
    let node = scope.fill(&pipeline, found);
    let prefix = root.get("presets").and_then(|p| p.get("name_prefix")).map(|n| scope.fill(n, found));
    let name_prefix = match prefix.as_ref().and_then(Node::text) {
        Some(prefix) => prefix.to_owned(),
        None if development => format!("[dev {}] ", scope.fixed["workspace.current_user.short_name"]),
        None => String::new(),
    };
    let file_path = scope.lookup_text("workspace.file_path");
    Ok(Chosen { node, key, target, development, name_prefix, file_path })
}

/// Lays the files that `include` names over the bundle.
fn include(root: &mut Node, source: &SpecSource) -> Result<()> {
    let patterns: Vec<Node> = root.get("include").map(|n| n.items().to_vec()).unwrap_or_default();
    for pattern in patterns {
        let text = pattern.text().unwrap_or_default().trim_start_matches("./");
        let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|e| {
            Error::user(format!("pattern `{text}` of `include` is not valid")).with_source(e).at(pattern.location())
        })?;
        let glob = glob.compile_matcher();
        let is_match = |path: &Path| path.strip_prefix(&source.root).is_ok_and(|relative| glob.is_match(relative));
        let files: Vec<_> = walk(&source.root, &|_| false)?.into_iter().filter(|path| is_match(path)).collect();
        if files.is_empty() && !text.contains(['*', '?', '[']) {
            return Err(Error::user(format!("file `{text}` of `include` does not exist")).at(pattern.location()));
        }
        for file in files.iter().filter(|file| **file != source.path) {
            let mut included = read(file, &source.root)?;
            // An included file must not replace what the bundle itself is called.
            if let super::node::Value::Map(entries) = &mut included.value {
                entries.retain(|(key, _)| !matches!(key.text(), Some("bundle" | "include")));
            }
            root.merge(included);
        }
    }
    Ok(())
}

/// The target asked for, or the default one, or the only one.
fn target(root: &Node, wanted: Option<&str>) -> Result<Option<(String, Node)>> {
    let targets = root.get("targets").map(Node::entries).unwrap_or_default();
    let names: Vec<_> = targets.iter().filter_map(|(key, _)| key.text()).collect();
    let chosen = match wanted {
        Some(wanted) => Some(targets.iter().find(|(key, _)| key.text() == Some(wanted)).ok_or_else(|| {
            let error = Error::user(format!("target `{wanted}` is not in the bundle"));
            error.with_help(choices("target", wanted, &names))
        })?),
        None if targets.len() == 1 => targets.first(),
        None => targets.iter().find(|(_, t)| t.get("default").and_then(Node::boolean) == Some(true)),
    };
    match chosen {
        Some((key, node)) => Ok(Some((key.text().unwrap_or_default().to_owned(), node.clone()))),
        None if targets.is_empty() => Ok(None),
        None => Err(Error::user("the bundle has several targets and none is the default")
            .with_help(format!("Choose one with --target: {}.", names.join(", ")))),
    }
}

fn pipeline(root: &Node, wanted: Option<&str>) -> Result<(String, Node)> {
    let pipelines = root.get("resources").and_then(|r| r.get("pipelines")).map(Node::entries).unwrap_or_default();
    let names: Vec<_> = pipelines.iter().filter_map(|(key, _)| key.text()).collect();
    let chosen = match (wanted, pipelines) {
        (Some(wanted), _) => pipelines.iter().find(|(key, _)| key.text() == Some(wanted)).ok_or_else(|| {
            let error = Error::user(format!("pipeline `{wanted}` is not in the bundle"));
            error.with_help(choices("pipeline", wanted, &names))
        })?,
        (None, [only]) => only,
        (None, []) => {
            return Err(Error::user("the bundle has no pipelines")
                .with_condition("PIPELINE_SPEC_MISSING_REQUIRED_FIELD")
                .with_help("Declare one below `resources.pipelines`."));
        }
        (None, _) => {
            return Err(Error::user("the bundle has several pipelines")
                .with_help(format!("Choose one with --pipeline: {}.", names.join(", "))));
        }
    };
    Ok((chosen.0.text().unwrap_or_default().to_owned(), chosen.1.clone()))
}

fn choices(what: &str, wanted: &str, names: &[&str]) -> String {
    match nearest(wanted, names.iter().copied()) {
        Some(near) => format!("Did you mean `{near}`?"),
        None if names.is_empty() => format!("It has no {what}s."),
        None => format!("It has: {}.", names.join(", ")),
    }
}

/// The bundle's variables and their defaults.
fn declared(root: &Node) -> BTreeMap<String, Option<Node>> {
    let mut variables = BTreeMap::new();
    for (key, value) in root.get("variables").map(Node::entries).unwrap_or_default() {
        let name = key.text().unwrap_or_default().to_owned();
        if value.get("lookup").is_some() {
            variables.insert(name, None);
            continue;
        }
        let default = if value.text().is_some() { Some(value) } else { value.get("default") };
        variables.insert(name, default.cloned());
    }
    variables
}

fn override_variables(variables: &mut BTreeMap<String, Option<Node>>, target: &Node) {
    for (key, value) in target.get("variables").map(Node::entries).unwrap_or_default() {
        let value = value.get("default").unwrap_or(value);
        variables.insert(key.text().unwrap_or_default().to_owned(), Some(value.clone()));
    }
}

fn lay_over(root: &mut Node, section: &str, over: &Node) {
    let key = over.with_text(section);
    let wrapped = Node { value: super::node::Value::Map(vec![(key, over.clone())]), ..over.clone() };
    root.merge(wrapped);
}

/// What a bundle's texts may refer to.
fn scope<'a>(
    root: &'a Node,
    variables: BTreeMap<String, Option<Node>>,
    target: Option<&str>,
    options: &LoadOptions,
) -> Scope<'a> {
    let environment = || std::env::var("USER").or_else(|_| std::env::var("USERNAME")).ok();
    let user = options.user.clone().or_else(environment).unwrap_or_else(|| "user".to_owned());
    let local = user.split('@').next().unwrap_or_default();
    let short: String = local.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    let target = target.unwrap_or("default");
    let name = root.get("bundle").and_then(|b| b.get("name")).and_then(Node::text).unwrap_or("bundle");
    let workspace = |key: &str| root.get("workspace").and_then(|w| w.get(key)).and_then(Node::text).map(str::to_owned);
    let base = workspace("root_path").unwrap_or_else(|| format!("/Workspace/Users/{user}/.bundle/{name}/{target}"));
    let base = base.replacen("~/", &format!("/Workspace/Users/{user}/"), 1);
    let mut fixed = BTreeMap::from([
        ("bundle.target".to_owned(), target.to_owned()),
        ("bundle.environment".to_owned(), target.to_owned()),
        ("workspace.current_user.userName".to_owned(), user.clone()),
        ("workspace.current_user.short_name".to_owned(), short.clone()),
        ("workspace.current_user.domain_friendly_name".to_owned(), short),
        ("workspace.root_path".to_owned(), base.clone()),
    ]);
    for (key, folder) in [("file_path", "files"), ("artifact_path", "artifacts"), ("state_path", "state")] {
        let path = workspace(key).unwrap_or_else(|| format!("{base}/{folder}"));
        fixed.insert(format!("workspace.{key}"), path);
    }
    Scope { root, variables, fixed }
}
