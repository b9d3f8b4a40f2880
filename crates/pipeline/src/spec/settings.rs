//! Every setting, declared once: its name, type, spellings, meaning, and how it enters the spec.
//!
//! [`check`] compares a settings map with the table and reports what does not fit; `docs/settings.md`
//! is generated from the table.

use std::collections::BTreeMap;

use deltaworks_spark::diagnostic::Diagnostic;

use super::load::Draft;
use super::model::{EventLogSpec, Notification};
use super::node::{Node, ScalarKind, Value};

/// In which spelling of the settings a field may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `spark-pipeline.yml`, `deltaworks.yml`
    Spark,
    /// Databricks' settings JSON and bundles
    Databricks,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Boolean,
    Count,
    /// A map of texts.
    Texts,
    /// A map of anything.
    Values,
    /// A map with these fields.
    Object(&'static [&'static str]),
    /// A list of maps with these fields.
    Objects(&'static [&'static str]),
    /// One of these words, in any case.
    OneOf(&'static [&'static str]),
    /// Not looked into.
    Anything,
}

/// One setting.
pub(super) struct Setting {
    pub name: &'static str,
    pub kind: Kind,
    pub spark: bool,
    pub databricks: bool,
    pub doc: &'static str,
    /// Enters a checked value into the spec; `None` for settings that have no effect here.
    pub apply: Option<fn(&mut Draft, &Node)>,
}

impl Setting {
    fn allowed(&self, spelling: Spelling) -> bool {
        match spelling {
            Spelling::Spark => self.spark,
            Spelling::Databricks => self.databricks,
        }
    }
}

const fn both(name: &'static str, kind: Kind, apply: fn(&mut Draft, &Node), doc: &'static str) -> Setting {
    Setting { name, kind, spark: true, databricks: true, doc, apply: Some(apply) }
}

const fn spark(name: &'static str, kind: Kind, apply: fn(&mut Draft, &Node), doc: &'static str) -> Setting {
    Setting { name, kind, spark: true, databricks: false, doc, apply: Some(apply) }
}

const fn databricks(name: &'static str, kind: Kind, apply: fn(&mut Draft, &Node), doc: &'static str) -> Setting {
    Setting { name, kind, spark: false, databricks: true, doc, apply: Some(apply) }
}

const fn ignored(name: &'static str, kind: Kind, doc: &'static str) -> Setting {
    Setting { name, kind, spark: false, databricks: true, doc, apply: None }
}

const LIBRARY: &[&str] = &["notebook", "file", "glob", "jar", "maven", "whl"];
const CLUSTER: &[&str] = &[
    "label",
    "num_workers",
    "autoscale",
    "node_type_id",
    "driver_node_type_id",
    "instance_pool_id",
    "driver_instance_pool_id",
    "policy_id",
    "apply_policy_default_values",
    "spark_conf",
    "spark_env_vars",
    "custom_tags",
    "init_scripts",
    "ssh_public_keys",
    "cluster_log_conf",
    "enable_local_disk_encryption",
    "aws_attributes",
    "azure_attributes",
    "gcp_attributes",
];
/// What Databricks refuses in a pipeline's cluster.
pub(super) const CLUSTER_REFUSED: &[&str] = &[
    "cluster_name",
    "data_security_mode",
    "access_mode",
    "spark_version",
    "autotermination_minutes",
    "runtime_engine",
    "effective_spark_version",
    "cluster_source",
    "docker_image",
    "workload_type",
];

/// The settings, in the order of the reference page.
pub(super) const SETTINGS: &[Setting] = &[
    both(
        "id",
        Kind::Text,
        |d, n| d.spec.id = text(n),
        "The pipeline's id. Without it, the first update derives one from the path of the settings file, and the storage keeps it.",
    ),
    both(
        "name",
        Kind::Text,
        |d, n| d.spec.name = text(n),
        "The pipeline's name. Required in `spark-pipeline.yml`; elsewhere the folder's name, or the bundle's key, by default.",
    ),
    both("catalog", Kind::Text, |d, n| d.spec.catalog = Some(text(n)), "The default catalog."),
    both("schema", Kind::Text, |d, n| d.spec.schema = Some(text(n)), "The default schema."),
    spark("database", Kind::Text, |d, n| d.spec.schema = Some(text(n)), "Another name for `schema`."),
    databricks(
        "target",
        Kind::Text,
        |d, n| d.target = Some(n.clone()),
        "The schema in legacy publishing mode; excludes `schema`. `catalog.schema` is accepted with a warning.",
    ),
    both(
        "storage",
        Kind::Text,
        |d, n| d.storage = Some(n.clone()),
        "The folder of tables, checkpoints and event log, relative to the settings file. In Databricks' spellings it goes through `path_mappings`. Required in `spark-pipeline.yml`; elsewhere a folder below `.deltaworks/` by default.",
    ),
    both(
        "libraries",
        Kind::Objects(LIBRARY),
        |d, n| d.libraries(n),
        "The source files: `notebook.path`, `file.path`, or `glob.include` (a file, or `folder/**`). Without it, every `.sql` file, and every `.py` and `.ipynb` file that imports `dlt` or `pyspark.pipelines`, below the settings file's folder, but for folders with settings of their own.",
    ),
    both("root_path", Kind::Text, |d, n| d.root_path = Some(n.clone()), "A folder added to Python's `sys.path`."),
    both(
        "configuration",
        Kind::Texts,
        |d, n| d.configuration(n),
        "Spark settings and the pipeline's own keys, for `spark.conf.get` and `${key}` in SQL. Those of [workers](connect.md#functions-in-python) and of the [server](connect.md#sessions) belong to the program.",
    ),
    both("parameters", Kind::Values, |d, n| d.spec.parameters.extend(texts(n)), "Named parameters."),
    both(
        "continuous",
        Kind::Boolean,
        |d, n| d.spec.continuous = flag(n),
        "Whether an update runs until it is stopped, and flows look for new input again and again; see [updates](updates.md#continuous-pipelines). Default `false`.",
    ),
    both(
        "development",
        Kind::Boolean,
        |d, n| d.spec.development = flag(n),
        "Whether a failure is final at once, without retries. Default `false`.",
    ),
    both(
        "channel",
        Kind::OneOf(&["CURRENT", "PREVIEW"]),
        |d, n| d.spec.channel = text(n).to_uppercase(),
        "Kept for the event log. Default `CURRENT`.",
    ),
    both(
        "edition",
        Kind::OneOf(&["CORE", "PRO", "ADVANCED"]),
        |d, n| d.spec.edition = text(n).to_uppercase(),
        "Kept for the event log. Default `ADVANCED`.",
    ),
    both(
        "event_log",
        Kind::Object(&["name", "catalog", "schema"]),
        |d, n| d.spec.event_log = Some(event_log(n)),
        "The table the event log is published as.",
    ),
    both(
        "notifications",
        Kind::Objects(&["email_recipients", "alerts"]),
        |d, n| d.spec.notifications.extend(n.items().iter().map(notification)),
        "Who is told of which alerts.",
    ),
    both("tags", Kind::Texts, |d, n| d.spec.tags.extend(texts(n)), "Free metadata."),
    both(
        "environment",
        Kind::Object(&["dependencies", "environment_version"]),
        |d, n| d.spec.dependencies = n.get("dependencies").map(list).unwrap_or_default(),
        "What the Python sources need installed, as pip requirement lines.",
    ),
    both(
        "path_mappings",
        Kind::Texts,
        |d, n| d.path_mappings(n),
        "Path prefixes of the sources and where they lie on this machine. Relative paths start from the settings file.",
    ),
    both(
        "python",
        Kind::Text,
        |d, n| d.python = Some(n.clone()),
        "The Python interpreter that evaluates the sources. By default the one found on the path.",
    ),
    both(
        "memory_limit",
        Kind::Text,
        |d, n| d.memory_limit(n),
        "How much memory queries may use: `4GB`, `512MB`, `80%`.",
    ),
    both(
        "threads",
        Kind::Count,
        |d, n| d.spec.threads = count(n),
        "How many threads run queries. Default: one per core.",
    ),
    both(
        "max_concurrent_flows",
        Kind::Count,
        |d, n| d.spec.max_concurrent_flows = count(n),
        "How many flows run at once.",
    ),
    databricks(
        "clusters",
        Kind::Objects(CLUSTER),
        |d, n| d.clusters(n),
        "Only `spark_conf` has an effect: it lies beneath `configuration`.",
    ),
    ignored("serverless", Kind::Boolean, "No effect here."),
    ignored("photon", Kind::Boolean, "No effect here."),
    ignored("run_as", Kind::Object(&["user_name", "service_principal_name"]), "No effect here."),
    ignored("permissions", Kind::Anything, "No effect here."),
    ignored("budget_policy_id", Kind::Text, "No effect here."),
    ignored("usage_policy_id", Kind::Text, "No effect here."),
    ignored("serverless_compute_id", Kind::Text, "No effect here."),
    ignored("filters", Kind::Object(&["include", "exclude"]), "No effect here."),
    ignored("trigger", Kind::Anything, "No effect here."),
    ignored("restart_window", Kind::Anything, "No effect here."),
    ignored("deployment", Kind::Anything, "No effect here."),
    ignored("lifecycle", Kind::Anything, "No effect here."),
    ignored("dry_run", Kind::Boolean, "No effect here."),
    ignored("allow_duplicate_names", Kind::Boolean, "No effect here."),
    ignored("parent_path", Kind::Text, "No effect here."),
    ignored("expected_last_modified", Kind::Anything, "No effect here."),
    databricks(
        "gateway_definition",
        Kind::Anything,
        |d, n| d.unsupported("gateway_definition", n),
        "Managed ingestion; refused.",
    ),
    databricks(
        "ingestion_definition",
        Kind::Anything,
        |d, n| d.unsupported("ingestion_definition", n),
        "Managed ingestion; refused.",
    ),
];

/// Enters every field of `map` into the draft, reporting what does not fit the table.
pub(super) fn apply(draft: &mut Draft, map: &Node, spelling: Spelling) {
    for (key, value) in map.entries() {
        let name = key.text().unwrap_or_default();
        let Some(setting) = SETTINGS.iter().find(|s| s.name == name && s.allowed(spelling)) else {
            let known = SETTINGS.iter().filter(|s| s.allowed(spelling)).map(|s| s.name);
            draft.diagnostics.push(unknown_field("setting", name, key, known));
            continue;
        };
        if value.value == Value::Null {
            continue;
        }
        let before = draft.diagnostics.len();
        check(setting, value, spelling, &mut draft.diagnostics);
        let sound =
            draft.diagnostics[before..].iter().all(|d| d.severity < deltaworks_spark::diagnostic::Severity::Error);
        if let (true, Some(apply)) = (sound, setting.apply) {
            apply(draft, value);
        }
    }
}

/// The warning about a field no table knows, with the nearest known name.
pub(super) fn unknown_field<'a>(
    what: &str,
    name: &str,
    key: &Node,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Diagnostic {
    let warning = Diagnostic::warning(format!("{what} `{name}` is not known and has no effect"))
        .with_condition("PIPELINE_SPEC_UNEXPECTED_FIELD")
        .at(key.location());
    match nearest(name, known) {
        Some(near) => warning.with_help(format!("Did you mean `{near}`?")),
        None => warning,
    }
}

/// The known name most like `name`, if one is like it at all.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    known
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn check(setting: &Setting, value: &Node, spelling: Spelling, found: &mut Vec<Diagnostic>) {
    let name = setting.name;
    match setting.kind {
        Kind::Anything => {}
        Kind::Text => expect(value.text().is_some(), name, "a text", value, found),
        Kind::Boolean => expect(value.boolean().is_some(), name, "true or false", value, found),
        Kind::Count => expect(count(value).is_some_and(|n| n > 0), name, "an integer above 0", value, found),
        Kind::OneOf(words) => {
            let fits = value.text().is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)));
            expect(fits, name, &format!("one of {}", words.join(", ")), value, found);
        }
        Kind::Texts | Kind::Values => check_map(setting, value, spelling, found),
        Kind::Object(fields) => check_object(name, fields, value, found),
        Kind::Objects(fields) => {
            expect(matches!(value.value, Value::List(_)), name, "a list", value, found);
            for item in value.items() {
                check_object(name, fields, item, found);
            }
        }
    }
}

fn expect(fits: bool, name: &str, expected: &str, value: &Node, found: &mut Vec<Diagnostic>) {
    if !fits {
        let actual = value.text().map_or_else(|| value.type_name().to_owned(), |text| format!("`{text}`"));
        let message = format!("setting `{name}` must be {expected}, but is {actual}");
        found.push(Diagnostic::error(message).with_condition("PIPELINE_SPEC_INVALID_FIELD").at(value.location()));
    }
}

fn check_texts(name: &str, value: &Node, found: &mut Vec<Diagnostic>) {
    let fits = matches!(value.value, Value::List(_)) && value.items().iter().all(|item| item.text().is_some());
    expect(fits, name, "a list of texts", value, found);
}

/// Spark takes texts only; Databricks turns numbers and booleans into texts.
fn check_map(setting: &Setting, value: &Node, spelling: Spelling, found: &mut Vec<Diagnostic>) {
    let name = setting.name;
    if !matches!(value.value, Value::Map(_)) {
        let message = format!("setting `{name}` must be a map, but is {}", value.type_name());
        found.push(Diagnostic::error(message).with_condition("PIPELINE_SPEC_FIELD_NOT_DICT").at(value.location()));
    }
    for (key, entry) in value.entries() {
        let text_key = matches!(key.value, Value::Scalar { kind, .. } if kind == ScalarKind::Text || spelling == Spelling::Databricks);
        if !text_key {
            let message = format!("key of setting `{name}` must be a text, but is {}", key.type_name());
            let error = Diagnostic::error(message).with_condition("PIPELINE_SPEC_DICT_KEY_NOT_STRING");
            found.push(error.with_help("Put it in quotes.").at(key.location()));
        }
        let fits = match (&entry.value, setting.kind, spelling) {
            (_, Kind::Values, _) => true,
            (Value::Scalar { kind, .. }, _, Spelling::Spark) => *kind == ScalarKind::Text,
            (Value::Scalar { .. }, _, Spelling::Databricks) => true,
            _ => false,
        };
        if !fits {
            let key = key.text().unwrap_or_default();
            let message = format!("value of `{key}` in setting `{name}` must be a text, but is {}", entry.type_name());
            let error = Diagnostic::error(message).with_condition("PIPELINE_SPEC_DICT_VALUE_NOT_STRING");
            let error = if entry.text().is_some() { error.with_help("Put it in quotes.") } else { error };
            found.push(error.at(entry.location()));
        }
    }
}

fn check_object(name: &str, fields: &'static [&'static str], value: &Node, found: &mut Vec<Diagnostic>) {
    if !matches!(value.value, Value::Map(_)) {
        expect(false, name, &format!("a map with {}", fields.join(", ")), value, found);
        return;
    }
    for (key, entry) in value.entries() {
        let field = key.text().unwrap_or_default();
        if name == "clusters" && CLUSTER_REFUSED.contains(&field) {
            let message = format!("field `{field}` cannot be set for the clusters of a pipeline");
            found.push(Diagnostic::error(message).with_condition("INVALID_PARAMETER_VALUE").at(key.location()));
        } else if !fields.contains(&field) {
            found.push(unknown_field(&format!("field of setting `{name}`"), field, key, fields.iter().copied()));
        } else if matches!(field, "email_recipients" | "alerts" | "dependencies") {
            check_texts(&format!("{name}.{field}"), entry, found);
        } else if matches!(field, "spark_conf") {
            expect(matches!(entry.value, Value::Map(_)), "clusters.spark_conf", "a map", entry, found);
        }
    }
}

fn text(node: &Node) -> String {
    node.text().unwrap_or_default().to_owned()
}

fn flag(node: &Node) -> bool {
    node.boolean().unwrap_or_default()
}

fn count(node: &Node) -> Option<usize> {
    node.text()?.parse().ok()
}

fn list(node: &Node) -> Vec<String> {
    node.items().iter().map(text).collect()
}

/// A map's entries as texts; lists and maps as JSON.
pub(super) fn texts(node: &Node) -> BTreeMap<String, String> {
    node.entries().iter().map(|(key, value)| (text(key), plain_or_json(value))).collect()
}

fn plain_or_json(node: &Node) -> String {
    node.text().map_or_else(|| json(node).to_string(), str::to_owned)
}

fn json(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => serde_json::Value::Null,
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            serde_json::Value::Object(entries.iter().map(|(key, value)| (text(key), json(value))).collect())
        }
        Value::Scalar { text, kind: ScalarKind::Text } => serde_json::Value::String(text.clone()),
        Value::Scalar { text, .. } => {
            serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.clone()))
        }
    }
}

fn event_log(node: &Node) -> EventLogSpec {
    let field = |name| node.get(name).and_then(Node::text).map(str::to_owned);
    EventLogSpec { name: field("name"), catalog: field("catalog"), schema: field("schema") }
}

fn notification(node: &Node) -> Notification {
    let field = |name| node.get(name).map(list).unwrap_or_default();
    Notification { email_recipients: field("email_recipients"), alerts: field("alerts") }
}

/// The reference page of all settings, as Markdown.
pub fn settings_reference() -> String {
    let mut page = String::from(include_str!("settings_head.md"));
    for setting in SETTINGS.iter().filter(|s| s.apply.is_some()) {
        let spelling = match (setting.spark, setting.databricks) {
            (true, false) => "Spark",
            (false, true) => "Databricks",
            _ => "both",
        };
        page.push_str(&format!(
            "| `{}` | {} | {spelling} | {} |\n",
            setting.name,
            setting.kind.describe(),
            setting.doc
        ));
    }
    let ignored: Vec<_> = SETTINGS.iter().filter(|s| s.apply.is_none()).map(|s| format!("`{}`", s.name)).collect();
    page.push_str(&format!(
        "\n## Accepted, without effect\n\nThey choose machines or rights of Databricks: {}.\n",
        ignored.join(", ")
    ));
    page
}

impl Kind {
    fn describe(self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Boolean => "boolean".into(),
            Self::Count => "integer".into(),
            Self::Texts => "map of texts".into(),
            Self::Values => "map".into(),
            Self::Object(fields) => format!("map: `{}`", fields.join("`, `")),
            Self::Objects(fields) => format!("list of maps: `{}`", fields.join("`, `")),
            Self::OneOf(words) => format!("`{}`", words.join("` \\| `")),
            Self::Anything => "any".into(),
        }
    }
}
