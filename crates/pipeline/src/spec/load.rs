//! From a settings file to a [`PipelineSpec`]: read, lay over, check, and fill in what was left out.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use deltaworks_spark::diagnostic::{Diagnostic, Severity};
use deltaworks_spark::error::{Error, Result};
use url::Url;
use uuid::Uuid;

use super::bundle;
use super::discover::{SpecKind, SpecSource, unwrapped};
use super::interval::{TRIGGER_INTERVAL, parse_interval};
use super::model::{Library, LibraryKind, MemoryLimit, PipelineSpec};
use super::node::{Node, Origin, Value};
use super::path_mappings::PathMappings;
use super::settings::{self, Spelling};

/// What the caller chooses or overrides.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The target of a bundle; its default target if `None`.
    pub target: Option<String>,
    /// The key of the pipeline in a bundle; its only pipeline if `None`.
    pub pipeline: Option<String>,
    /// Settings that win over the file: `("configuration.key", "value")`.
    pub set: Vec<(String, String)>,
    /// Values for a bundle's variables.
    pub vars: Vec<(String, String)>,
    /// Who runs the pipeline, for `${workspace.current_user.userName}`; `USER` of the environment if `None`.
    pub user: Option<String>,
}

/// Reads the settings at `source`, with what is suspicious about them as warnings.
///
/// # Errors
/// `User` if they cannot be read or something in them is wrong; with several problems, each is a diagnostic.
pub fn load(source: &SpecSource, options: &LoadOptions) -> Result<(PipelineSpec, Vec<Diagnostic>)> {
    let mut draft = Draft::new(source)?;
    match source.kind {
        SpecKind::Folder => {}
        SpecKind::Spark | SpecKind::Deltaworks => {
            let node = read(&source.path, &source.root)?;
            settings::apply(&mut draft, &node, Spelling::Spark);
            if source.kind == SpecKind::Spark {
                draft.require(&node, &["name", "storage"]);
            }
        }
        SpecKind::Settings => {
            let node = unwrapped(read(&source.path, &source.root)?);
            settings::apply(&mut draft, &node, Spelling::Databricks);
            draft.default_storage.push(source.path.file_stem().unwrap_or_default());
        }
        SpecKind::Bundle => {
            let chosen = bundle::select(source, options, &mut draft.diagnostics)?;
            draft.default_storage.push(chosen.target.as_deref().unwrap_or("default"));
            draft.default_storage.push(&chosen.key);
            draft.identity.extend([chosen.target.clone().unwrap_or_default(), chosen.key.clone()]);
            draft.spec.name.clone_from(&chosen.key);
            draft.spec.development = chosen.development;
            if let Some(folder) = &chosen.file_path {
                draft.spec.path_mappings.insert(folder, &source.root.to_string_lossy());
            }
            settings::apply(&mut draft, &chosen.node, Spelling::Databricks);
            draft.spec.name.insert_str(0, &chosen.name_prefix);
        }
    }
    if let Some(local) = &source.local {
        settings::apply(&mut draft, &read(local, &source.root)?, Spelling::Spark);
    }
    for (key, value) in &options.set {
        draft.set(key, value)?;
    }
    draft.finish()
}

/// Reads one settings file.
pub(super) fn read(path: &Path, root: &Path) -> Result<Node> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::user(format!("settings file `{}` cannot be read: {e}", path.display())).with_source(e))?;
    let origin = Origin {
        display: path.strip_prefix(root).unwrap_or(path).to_owned(),
        folder: path.parent().unwrap_or(root).to_owned(),
    };
    let node = Node::parse(text.trim_start_matches('\u{feff}'), &Arc::new(origin))?;
    match node.value {
        Value::Map(_) => Ok(node),
        _ => Err(Error::user(format!("settings file `{}` must be a map, but is {}", path.display(), node.type_name()))
            .with_condition("PIPELINE_SPEC_FIELD_NOT_DICT")
            .at(node.location())),
    }
}

/// A spec in the making.
pub(super) struct Draft {
    pub spec: PipelineSpec,
    pub diagnostics: Vec<Diagnostic>,
    pub storage: Option<Node>,
    pub target: Option<Node>,
    pub root_path: Option<Node>,
    pub python: Option<Node>,
    cluster_conf: BTreeMap<String, String>,
    /// Where trigger intervals are set, the last one last.
    trigger_intervals: Vec<Node>,
    default_storage: PathBuf,
    identity: Vec<String>,
    kind: SpecKind,
}

impl Draft {
    fn new(source: &SpecSource) -> Result<Self> {
        let default_storage = source.root.join(".deltaworks");
        let name = source.root.file_name().map_or_else(|| "pipeline".into(), |n| n.to_string_lossy().into_owned());
        let spec = PipelineSpec {
            id: String::new(),
            id_is_derived: false,
            name,
            root: source.root.clone(),
            settings_file: (source.kind != SpecKind::Folder).then(|| source.path.clone()),
            catalog: None,
            schema: None,
            legacy_target: None,
            storage: folder_url(&default_storage)?,
            libraries: None,
            root_path: None,
            configuration: BTreeMap::new(),
            parameters: BTreeMap::new(),
            continuous: false,
            development: false,
            channel: "CURRENT".into(),
            edition: "ADVANCED".into(),
            notifications: Vec::new(),
            event_log: None,
            tags: BTreeMap::new(),
            dependencies: Vec::new(),
            path_mappings: PathMappings::new(&source.root),
            python: None,
            memory_limit: None,
            threads: None,
            max_concurrent_flows: None,
        };
        Ok(Self {
            spec,
            diagnostics: Vec::new(),
            storage: None,
            target: None,
            root_path: None,
            python: None,
            cluster_conf: BTreeMap::new(),
            trigger_intervals: Vec::new(),
            default_storage,
            identity: vec![source.path.to_string_lossy().into_owned()],
            kind: source.kind,
        })
    }

    /// `libraries`
    pub fn libraries(&mut self, node: &Node) {
        let mut libraries = Vec::new();
        for item in node.items() {
            match self.library(item) {
                Ok(library) => libraries.extend(library),
                Err(error) => self.diagnostics.push(error.at(item.location()).to_diagnostic()),
            }
        }
        self.spec.libraries = Some(libraries);
    }

    fn library(&mut self, item: &Node) -> Result<Option<Library>> {
        let fields = [
            ("notebook", "path", LibraryKind::Notebook),
            ("file", "path", LibraryKind::File),
            ("glob", "include", LibraryKind::Glob),
        ];
        for (field, inner, kind) in fields {
            let Some(entry) = item.get(field) else { continue };
            let path = entry.get(inner).or_else(|| Some(entry).filter(|e| e.text().is_some()));
            if let Some(other) = path.filter(|path| path.text().is_none()) {
                let problem = format!("`{inner}` of library `{field}` must be a text, but is {}", other.type_name());
                return Err(Error::user(problem).with_condition("PIPELINE_SPEC_INVALID_FIELD").at(other.location()));
            }
            let path = path.and_then(Node::text).ok_or_else(|| {
                Error::user(format!("library `{field}` lacks `{inner}`"))
                    .with_condition("PIPELINE_SPEC_MISSING_REQUIRED_FIELD")
                    .at(entry.location())
            })?;
            let location = entry.get(inner).unwrap_or(entry).location();
            let skips_other_files = !matches!(self.kind, SpecKind::Spark | SpecKind::Deltaworks);
            let base = entry.folder().to_owned();
            return Ok(Some(Library { kind, path: path.to_owned(), base, skips_other_files, location }));
        }
        match ["jar", "maven", "whl"].iter().find(|field| item.get(field).is_some()) {
            Some(&"whl") => Err(Error::unsupported("library `whl`")
                .with_help("Install the wheel into the interpreter that `python` names.")),
            Some(field) => {
                Err(Error::unsupported(format!("library `{field}`")).with_help("There is no JVM to load it."))
            }
            None => Err(Error::user("library names neither `notebook`, `file` nor `glob`")
                .with_condition("PIPELINE_SPEC_MISSING_REQUIRED_FIELD")),
        }
    }

    /// `configuration`
    pub fn configuration(&mut self, node: &Node) {
        self.trigger_intervals.extend(node.get(TRIGGER_INTERVAL).cloned());
        self.spec.configuration.extend(settings::texts(node));
    }

    /// `path_mappings`
    pub fn path_mappings(&mut self, node: &Node) {
        for (prefix, replacement) in node.entries() {
            let (Some(prefix), Some(to)) = (prefix.text(), replacement.text()) else { continue };
            let to = if to.starts_with('/') || super::path_mappings::scheme(to).is_some() {
                to.to_owned()
            } else {
                let joined = normalized(&replacement.folder().join(to)).to_string_lossy().into_owned();
                if to.ends_with('/') { joined + "/" } else { joined }
            };
            self.spec.path_mappings.insert(prefix, &to);
        }
    }

    /// `clusters`
    pub fn clusters(&mut self, node: &Node) {
        let updates_last = |item: &&Node| item.get("label").and_then(Node::text) == Some("updates");
        let mut clusters: Vec<_> = node.items().iter().collect();
        clusters.retain(|item| item.get("label").and_then(Node::text) != Some("maintenance"));
        clusters.sort_by_key(updates_last);
        for conf in clusters.into_iter().filter_map(|item| item.get("spark_conf")) {
            self.trigger_intervals.extend(conf.get(TRIGGER_INTERVAL).cloned());
            self.cluster_conf.extend(settings::texts(conf));
        }
    }

    /// `memory_limit`
    pub fn memory_limit(&mut self, node: &Node) {
        let text = node.text().unwrap_or_default();
        match parse_memory(text) {
            Some(limit) => self.spec.memory_limit = Some(limit),
            None => self.diagnostics.push(
                Diagnostic::error(format!(
                    "setting `memory_limit` must be a size like `4GB` or `80%`, but is `{text}`"
                ))
                .with_condition("PIPELINE_SPEC_INVALID_FIELD")
                .at(node.location()),
            ),
        }
    }

    /// A setting that means something we cannot do.
    pub fn unsupported(&mut self, name: &str, node: &Node) {
        self.diagnostics.push(Error::unsupported(format!("setting `{name}`")).at(node.location()).to_diagnostic());
    }

    fn require(&mut self, node: &Node, names: &[&str]) {
        for name in names.iter().filter(|name| node.get(name).is_none_or(|n| n.value == Value::Null)) {
            let missing = Diagnostic::error(format!("setting `{name}` is required"))
                .with_condition("PIPELINE_SPEC_MISSING_REQUIRED_FIELD");
            let is_known = |key: &str| settings::SETTINGS.iter().any(|setting| setting.name == key);
            let misspelt = |(key, _): &&(Node, Node)| {
                key.text().is_some_and(|key| !is_known(key) && settings::nearest(key, std::iter::once(*name)).is_some())
            };
            self.diagnostics.push(match node.entries().iter().find(misspelt) {
                Some((key, _)) => missing
                    .with_help(format!("Did you mean `{name}` by `{}`?", key.text().unwrap_or_default()))
                    .at(key.location()),
                None => missing.at(node.location()),
            });
        }
    }

    /// One `--set name=value`.
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let origin = Arc::new(Origin { display: "--set".into(), folder: self.spec.root.clone() });
        let base = Node { line: 0, column: 0, ..Node::empty(&origin) };
        let value = if value.starts_with(['[', '{']) {
            Node { line: 0, column: 0, ..Node::parse(value, &origin)? }
        } else {
            base.with_text(value)
        };
        let (name, value) = match key.split_once('.') {
            Some((name, entry)) => {
                (name, Node { value: Value::Map(vec![(base.with_text(entry), value)]), ..base.clone() })
            }
            None => (key, value),
        };
        let known = settings::SETTINGS.iter().find(|s| s.name == name).ok_or_else(|| {
            let error = Error::user(format!("setting `{name}` of `--set` is not known"))
                .with_condition("PIPELINE_SPEC_UNEXPECTED_FIELD");
            match settings::nearest(name, settings::SETTINGS.iter().map(|s| s.name)) {
                Some(near) => error.with_help(format!("Did you mean `{near}`?")),
                None => error,
            }
        })?;
        let spelling = if known.databricks { Spelling::Databricks } else { Spelling::Spark };
        let map = Node { value: Value::Map(vec![(base.with_text(name), value)]), ..base };
        settings::apply(self, &map, spelling);
        Ok(())
    }

    fn finish(mut self) -> Result<(PipelineSpec, Vec<Diagnostic>)> {
        if let Err(error) = self.resolve() {
            self.diagnostics.push(error.to_diagnostic());
        }
        let errors: Vec<_> = self.diagnostics.iter().filter(|d| d.severity == Severity::Error).cloned().collect();
        match errors.as_slice() {
            [] => Ok((self.spec, self.diagnostics)),
            [only] => Err(as_error(only)),
            several => Err(Error::from_diagnostics(format!("the settings have {} errors", several.len()), errors)),
        }
    }

    fn resolve(&mut self) -> Result<()> {
        for (key, value) in std::mem::take(&mut self.cluster_conf) {
            self.spec.configuration.entry(key).or_insert(value);
        }
        self.spec.id_is_derived = self.spec.id.is_empty();
        if self.spec.id_is_derived {
            self.spec.id = Uuid::new_v5(&Uuid::NAMESPACE_URL, self.identity.join("#").as_bytes()).to_string();
        }
        self.resolve_target()?;
        self.spec.root_path = self.root_path.take().map(|node| self.path(&node)).transpose()?;
        // An interpreter of a virtual environment is a link that must not be followed.
        self.spec.python = self.python.take().map(|node| {
            let text = node.text().unwrap_or_default();
            if text.contains('/') { normalized(&node.folder().join(text)) } else { PathBuf::from(text) }
        });
        let storage = match self.storage.take() {
            Some(node) => self.path(&node)?,
            None => self.default_storage.clone(),
        };
        self.spec.storage = folder_url(&storage)?;
        self.check_trigger_interval()
    }

    /// A triggered update has no use for the interval, whatever it says.
    fn check_trigger_interval(&self) -> Result<()> {
        let Some(text) = self.spec.configuration.get(TRIGGER_INTERVAL).filter(|_| self.spec.continuous) else {
            return Ok(());
        };
        let node = self.trigger_intervals.iter().rfind(|node| node.text() == Some(text));
        parse_interval(text).map(drop).map_err(|error| match node {
            Some(node) => error.at(node.location()),
            None => error,
        })
    }

    fn resolve_target(&mut self) -> Result<()> {
        let Some(target) = self.target.take() else { return Ok(()) };
        if self.spec.schema.is_some() {
            return Err(Error::user("settings `schema` and `target` exclude each other")
                .with_condition("INVALID_PARAMETER_VALUE")
                .with_help("Keep `schema`; `target` is for pipelines in legacy publishing mode.")
                .at(target.location()));
        }
        let text = target.text().unwrap_or_default();
        let (catalog, schema) = text.split_once('.').map_or((None, text), |(catalog, schema)| (Some(catalog), schema));
        if let Some(catalog) = catalog {
            let warning = Diagnostic::warning(format!("setting `target` names a catalog: `{text}`"));
            let help = format!("Write `catalog: {catalog}` and `target: {schema}`.");
            self.diagnostics.push(warning.with_help(help).at(target.location()));
            self.spec.catalog.get_or_insert_with(|| catalog.to_owned());
        }
        self.spec.legacy_target = Some(schema.to_owned());
        Ok(())
    }

    /// A path setting on this machine.
    fn path(&self, node: &Node) -> Result<PathBuf> {
        let text = node.text().unwrap_or_default();
        let plain = !text.starts_with('/') && super::path_mappings::scheme(text).is_none();
        let mapped = if plain && !self.spec.path_mappings.covers(text) {
            node.folder().join(text)
        } else {
            PathBuf::from(self.spec.path_mappings.map(text).map_err(|error| error.at(node.location()))?)
        };
        Ok(normalized(&mapped))
    }
}

fn folder_url(folder: &Path) -> Result<Url> {
    Url::from_directory_path(folder).map_err(|()| {
        Error::user(format!("storage `{}` is no absolute path", folder.display()))
            .with_condition("PIPELINE_STORAGE_ROOT_INVALID")
    })
}

/// A path without `.` and `..`, links not followed.
pub(super) fn normalized(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                clean.pop();
            }
            part => clean.push(part),
        }
    }
    clean
}

fn as_error(diagnostic: &Diagnostic) -> Error {
    let mut error = Error::user(&diagnostic.message);
    if let Some(condition) = &diagnostic.condition {
        error = error.with_condition(condition);
    }
    if let Some(help) = &diagnostic.help {
        error = error.with_help(help);
    }
    match &diagnostic.location {
        Some(location) => error.at(location.clone()),
        None => error,
    }
}

fn parse_memory(text: &str) -> Option<MemoryLimit> {
    let text = text.trim();
    if let Some(percent) = text.strip_suffix('%') {
        return percent.trim().parse().ok().filter(|p| (1..=100).contains(p)).map(MemoryLimit::Percent);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit.trim().to_ascii_lowercase().trim_end_matches("ib").trim_end_matches('b') {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1_u64 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor).filter(|n| *n > 0).map(MemoryLimit::Bytes)
}
