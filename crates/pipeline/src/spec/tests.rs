//! Settings in their three spellings, and what is said about wrong ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::path::Path;

use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::error::Error;
use insta::assert_snapshot;
use tempfile::TempDir;

use super::*;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn options() -> LoadOptions {
    LoadOptions { user: Some("ada@example.com".into()), ..LoadOptions::default() }
}

fn load_at(
    folder: &Path,
    file: &str,
    options: &LoadOptions,
) -> deltaworks_spark::Result<(PipelineSpec, Vec<Diagnostic>)> {
    let path = if file.is_empty() { folder.to_owned() } else { folder.join(file) };
    load(&discover(Some(&path))?, options)
}

fn spec(files: &[(&str, &str)], options: &LoadOptions) -> (TempDir, PipelineSpec) {
    let folder = folder(files);
    let (spec, warnings) = load_at(folder.path(), "", options).unwrap_or_else(|e| panic!("{}", said(&e)));
    assert_eq!(warnings, []);
    (folder, spec)
}

fn render(diagnostic: &Diagnostic) -> String {
    let mut text = format!("{:?}", diagnostic.severity).to_lowercase();
    if let Some(condition) = &diagnostic.condition {
        write!(text, "[{condition}]").unwrap();
    }
    if let Some(location) = &diagnostic.location {
        write!(text, " {location}").unwrap();
    }
    write!(text, ": {}", diagnostic.message).unwrap();
    if let Some(help) = &diagnostic.help {
        write!(text, " / {help}").unwrap();
    }
    text
}

fn said(error: &Error) -> String {
    match error.diagnostics() {
        [] => render(&error.to_diagnostic()),
        several => several.iter().map(render).collect::<Vec<_>>().join("\n"),
    }
}

/// Everything that is said about a settings file.
fn problems(file: &str, text: &str) -> String {
    let folder = folder(&[(file, text)]);
    match load_at(folder.path(), file, &options()) {
        Ok((_, warnings)) => warnings.iter().map(render).collect::<Vec<_>>().join("\n"),
        Err(error) => said(&error),
    }
}

fn names(spec: &PipelineSpec) -> Vec<String> {
    let files = source_files(spec).unwrap_or_else(|e| panic!("{}", said(&e)));
    files.iter().map(|f| format!("{} {:?} {:?}", f.display_path.display(), f.language, f.format)).collect()
}

#[test]
fn spark_settings_are_read_and_paths_start_from_the_file() {
    let text = "name: shop\nstorage: store\ncatalog: main\ndatabase: sales\nconfiguration:\n  a.b: 'x'\nlibraries:\n  - glob:\n      include: src/**\nthreads: 3\nmemory_limit: 4GB\npath_mappings: {'/data/': ./d/}\n";
    let (dir, spec) = spec(&[("spark-pipeline.yml", text), ("src/b.sql", "SELECT 1"), ("src/a.py", "")], &options());
    let root = dir.path().canonicalize().unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.catalog.as_deref(), spec.schema.as_deref()),
        ("shop", Some("main"), Some("sales"))
    );
    assert_eq!(spec.storage.to_file_path().unwrap(), root.join("store"));
    assert_eq!(spec.configuration["a.b"], "x");
    assert_eq!((spec.threads, spec.memory_limit), (Some(3), Some(MemoryLimit::Bytes(4 << 30))));
    assert_eq!(spec.path_mappings.map("/data/x").unwrap(), root.join("d/x").to_str().unwrap());
    assert_eq!(names(&spec), ["src/a.py Python Plain", "src/b.sql Sql Plain"]);
}

#[test]
fn id_is_stable_and_differs_between_targets() {
    let files = [("databricks.yml", "resources: {pipelines: {p: {}}}\ntargets: {dev: {}, prod: {}}\n")];
    let dir = folder(&files);
    let id = |target: &str| {
        let options = LoadOptions { target: Some(target.into()), ..options() };
        load_at(dir.path(), "", &options).unwrap().0.id
    };
    assert_eq!(id("dev"), id("dev"));
    assert_ne!(id("dev"), id("prod"));
}

#[test]
fn databricks_json_goes_through_path_mappings_of_the_local_file() {
    let json = r#"{"id": "sales-pipeline", "name": "Sales", "storage": "/mnt/dlt/sales", "target": "sales_db",
      "libraries": [{"notebook": {"path": "/Repos/data-team/sales/dlt_pipeline"}}],
      "clusters": [{"label": "default", "num_workers": 2, "spark_conf": {"spark.x": 1}}],
      "configuration": {"rows": 5}}"#;
    let local = "path_mappings:\n  /Repos/data-team/sales/: ./src/\n  /mnt/: ./mnt\n";
    let files = [
        ("pipeline.json", json),
        ("deltaworks.yml", local),
        ("src/dlt_pipeline.py", "# Databricks notebook source\nimport dlt\n"),
    ];
    let (dir, spec) = spec(&files, &options());
    assert_eq!((spec.id.as_str(), spec.legacy_target.as_deref()), ("sales-pipeline", Some("sales_db")));
    assert_eq!(spec.storage.to_file_path().unwrap(), dir.path().canonicalize().unwrap().join("mnt/dlt/sales"));
    assert_eq!((spec.configuration["rows"].as_str(), spec.configuration["spark.x"].as_str()), ("5", "1"));
    assert_eq!(names(&spec), ["src/dlt_pipeline.py Python Notebook"]);
}

const BUNDLE: &str = "bundle:\n  name: shop\ninclude: [resources/*.yml]\nvariables:\n  catalog: {default: dev_cat}\n  files: {default: [a, b]}\ntargets:\n  dev:\n    mode: development\n    default: true\n  prod:\n    variables: {catalog: prod_cat}\n    resources: {pipelines: {etl: {configuration: {size: big}}}}\n";
const RESOURCE: &str = "resources:\n  pipelines:\n    etl:\n      name: etl ${bundle.target}\n      catalog: ${var.catalog}\n      schema: ${workspace.current_user.short_name}\n      configuration: {source: '${workspace.file_path}/data', size: small}\n      libraries:\n        - file: {path: ../src/a.sql}\n        - glob: {include: '${workspace.file_path}/more/**'}\n";

fn bundle() -> TempDir {
    folder(&[
        ("databricks.yml", BUNDLE),
        ("resources/etl.yml", RESOURCE),
        ("src/a.sql", ""),
        ("more/b.py", ""),
        ("more/x.md", ""),
    ])
}

#[test]
fn bundle_development_target_is_the_default() {
    let dir = bundle();
    let (spec, warnings) = load_at(dir.path(), "", &options()).unwrap();
    assert_eq!(warnings, []);
    assert_eq!((spec.name.as_str(), spec.development), ("[dev ada] etl dev", true));
    assert_eq!((spec.catalog.as_deref(), spec.schema.as_deref()), (Some("dev_cat"), Some("ada")));
    assert!(spec.storage.path().ends_with("/.deltaworks/dev/etl/"), "{}", spec.storage);
    assert_eq!(
        spec.path_mappings.map(&spec.configuration["source"]).unwrap(),
        dir.path().canonicalize().unwrap().join("data").to_str().unwrap()
    );
    assert_eq!(names(&spec), ["src/a.sql Sql Plain", "more/b.py Python Plain"]);
}

#[test]
fn bundle_target_and_command_line_override() {
    let dir = bundle();
    let choose = |target: &str, vars: &[(&str, &str)], set: &[(&str, &str)]| {
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        load_at(
            dir.path(),
            "",
            &LoadOptions { target: Some(target.into()), vars: own(vars), set: own(set), ..options() },
        )
    };
    let (spec, _) = choose("prod", &[], &[]).unwrap();
    assert_eq!((spec.name.as_str(), spec.catalog.as_deref(), spec.development), ("etl prod", Some("prod_cat"), false));
    assert_eq!(spec.configuration["size"], "big");
    let (spec, _) =
        choose("prod", &[("catalog", "mine")], &[("configuration.size", "9"), ("development", "true")]).unwrap();
    assert_eq!(
        (spec.catalog.as_deref(), spec.configuration["size"].as_str(), spec.development),
        (Some("mine"), "9", true)
    );
    assert_snapshot!(said(&choose("prd", &[], &[]).unwrap_err()), @"error: target `prd` is not in the bundle / Did you mean `prod`?");
    assert_snapshot!(said(&choose("dev", &[], &[("storag", "x")]).unwrap_err()), @"error[PIPELINE_SPEC_UNEXPECTED_FIELD]: setting `storag` of `--set` is not known / Did you mean `storage`?");
}

#[test]
fn bundle_references_that_lead_nowhere_are_errors() {
    let text = "variables: {a: {}, c: {default: '${var.c}'}}\nresources:\n  pipelines:\n    p:\n      name: ${var.a}\n      catalog: ${var.b}x\n      schema: ${var.c}\n      storage: ${nothing.there}\n";
    assert_snapshot!(problems("databricks.yml", text), @r#"
    error databricks.yml:5:13: variable `a` has no value; give one with --var a=VALUE
    error databricks.yml:6:16: variable `b` is not declared
    error databricks.yml:1:33: reference `${var.c}` goes in a circle
    error databricks.yml:8:16: reference `${nothing.there}` leads nowhere
    "#);
}

#[test]
fn folder_without_settings_is_a_pipeline_of_its_sources() {
    let files = [
        ("a.sql", "SELECT 1"),
        ("tables/b.py", "import dlt\n"),
        ("tools/generate.py", "print(1)\n"),
        (".hidden/c.sql", ""),
        ("venv/pyvenv.cfg", ""),
        ("venv/d.sql", ""),
        ("n.ipynb", r#"{"cells": [{"source": ["import dlt"]}], "metadata": {"language_info": {"name": "sql"}}}"#),
    ];
    let (dir, spec) = spec(&files, &options());
    assert_eq!(spec.name, dir.path().file_name().unwrap().to_str().unwrap());
    assert!(spec.storage.path().ends_with("/.deltaworks/"));
    assert_eq!(names(&spec), ["a.sql Sql Plain", "n.ipynb Sql Ipynb", "tables/b.py Python Plain"]);
}

#[test]
fn unknown_and_wrong_settings_are_named_with_their_place() {
    let text = "name: x\nstorage: s\nstorge: y\nconfiguration:\n  rows: 5\n  1: 'a'\ncontinuous: maybe\nlibraries:\n  - globb: {include: x}\nthreads: 0\nmemory_limit: lots\nchannel: NIGHTLY\n";
    assert_snapshot!(problems("spark-pipeline.yml", text), @r#"
    error[PIPELINE_SPEC_DICT_VALUE_NOT_STRING] spark-pipeline.yml:5:9: value of `rows` in setting `configuration` must be a text, but is an integer / Put it in quotes.
    error[PIPELINE_SPEC_DICT_KEY_NOT_STRING] spark-pipeline.yml:6:3: key of setting `configuration` must be a text, but is an integer / Put it in quotes.
    error[PIPELINE_SPEC_INVALID_FIELD] spark-pipeline.yml:7:13: setting `continuous` must be true or false, but is `maybe`
    error[PIPELINE_SPEC_MISSING_REQUIRED_FIELD] spark-pipeline.yml:9:5: library names neither `notebook`, `file` nor `glob`
    error[PIPELINE_SPEC_INVALID_FIELD] spark-pipeline.yml:10:10: setting `threads` must be an integer above 0, but is `0`
    error[PIPELINE_SPEC_INVALID_FIELD] spark-pipeline.yml:11:15: setting `memory_limit` must be a size like `4GB` or `80%`, but is `lots`
    error[PIPELINE_SPEC_INVALID_FIELD] spark-pipeline.yml:12:10: setting `channel` must be one of CURRENT, PREVIEW, but is `NIGHTLY`
    "#);
    assert_snapshot!(problems("spark-pipeline.yml", "name: x\nstorage: s\nstorge: y\nclusters: []\n"), @r#"
    warning[PIPELINE_SPEC_UNEXPECTED_FIELD] spark-pipeline.yml:3:1: setting `storge` is not known and has no effect / Did you mean `storage`?
    warning[PIPELINE_SPEC_UNEXPECTED_FIELD] spark-pipeline.yml:4:1: setting `clusters` is not known and has no effect
    "#);
    assert_snapshot!(problems("spark-pipeline.yml", "catalog: x\n"), @r#"
    error[PIPELINE_SPEC_MISSING_REQUIRED_FIELD] spark-pipeline.yml:1:1: setting `name` is required
    error[PIPELINE_SPEC_MISSING_REQUIRED_FIELD] spark-pipeline.yml:1:1: setting `storage` is required
    "#);
    assert_snapshot!(problems("spark-pipeline.yml", "name: x\nstorag: s\n"), @"error[PIPELINE_SPEC_MISSING_REQUIRED_FIELD] spark-pipeline.yml:2:1: setting `storage` is required / Did you mean `storage` by `storag`?");
    assert_snapshot!(problems("spark-pipeline.yml", "configuration: 5\nname: [a]\nstorage: s\n"), @r#"
    error[PIPELINE_SPEC_FIELD_NOT_DICT] spark-pipeline.yml:1:16: setting `configuration` must be a map, but is an integer
    error[PIPELINE_SPEC_INVALID_FIELD] spark-pipeline.yml:2:7: setting `name` must be a text, but is a list
    "#);
    assert_snapshot!(problems("deltaworks.yml", "name: x\nname: y\n"), @"error deltaworks.yml:2:1: key `name` stands twice, first in line 1");
    assert_snapshot!(problems("deltaworks.yml", "name: [x\nschema: y\n"), @"error deltaworks.yml:2:7: settings file `deltaworks.yml` cannot be read: illegal placement of ':' indicator");
    assert_snapshot!(problems("p.json", r#"{"name": "x", "target": "a.b", "photn": true, "storage": "dbfs:/pipelines/x", "clusters": [{"spark_version": "1"}], "libraries": [{"whl": "x.whl"}]}"#), @r#"
    error[INVALID_PARAMETER_VALUE] p.json:1:93: field `spark_version` cannot be set for the clusters of a pipeline
    error p.json:1:131: library `whl` is not supported yet / Install the wheel into the interpreter that `python` names.
    error p.json:1:58: reading or writing `dbfs:/pipelines/x` is not supported yet / Map it to a folder of this machine in the settings file: `path_mappings: {"dbfs:/pipelines/": ./data/}`.
    "#);
    assert_snapshot!(problems("p.json", r#"{"schema": "s", "target": "t", "serverless": true, "photon": true}"#), @"error[INVALID_PARAMETER_VALUE] p.json:1:27: settings `schema` and `target` exclude each other / Keep `schema`; `target` is for pipelines in legacy publishing mode.");
}

#[test]
fn sources_that_cannot_be_used_are_named() {
    let sources = |libraries: &str| {
        let text = format!("name: x\nstorage: s\nlibraries: {libraries}\n");
        let dir = folder(&[("spark-pipeline.yml", &text), ("src/a.sql", ""), ("src/notes.md", "")]);
        let (spec, _) = load_at(dir.path(), "", &options()).unwrap();
        said(&source_files(&spec).unwrap_err()).replace(dir.path().canonicalize().unwrap().to_str().unwrap(), "ROOT")
    };
    assert_snapshot!(sources("[{glob: {include: src/**}}]"), @"error[PIPELINE_UNSUPPORTED_DEFINITIONS_FILE_EXTENSION] src/notes.md: source file `src/notes.md` has an unsupported extension / Sources end in `.sql`, `.py` or `.ipynb`.");
    assert_snapshot!(sources("[{glob: {include: 'src/*.sql'}}]"), @"error[PIPELINE_SPEC_INVALID_GLOB_PATTERN] spark-pipeline.yml:3:30: pattern `src/*.sql` in `libraries` is not allowed / Name a file, or a folder followed by `/**`.");
    assert_snapshot!(sources("[{file: {path: src/b.sql}}]"), @"error[PATH_NOT_FOUND] spark-pipeline.yml:3:27: file `src/b.sql` does not exist / Looked for `ROOT/src/b.sql`.");
    assert_snapshot!(sources("[{notebook: {path: /Repos/team/p/tables}}]"), @r#"error[PATH_NOT_FOUND] spark-pipeline.yml:3:31: notebook `/Repos/team/p/tables` does not exist / It is a workspace path; say where it lies here: `path_mappings: {"/Repos/team/p/": ./}`."#);
}

#[test]
fn discovery_reports_none_and_several() {
    let at = |files: &[(&str, &str)]| {
        let dir = folder(files);
        said(&discover(Some(dir.path())).unwrap_err())
            .replace(dir.path().canonicalize().unwrap().to_str().unwrap(), "ROOT")
    };
    assert_snapshot!(at(&[("readme.md", "")]), @"error[PIPELINE_SPEC_FILE_NOT_FOUND]: no pipeline in `ROOT` / Create one with `deltaworks init NAME`, or go to a folder with `spark-pipeline.yml`, `databricks.yml` or .sql and .py sources.");
    let nested = [("a/spark-pipeline.yml", ""), ("a/a.sql", ""), ("b/c/databricks.yml", ""), ("b/c/c.sql", "")];
    assert_snapshot!(at(&nested), @"error[PIPELINE_SPEC_FILE_NOT_FOUND]: no pipeline in `ROOT` / Give the path of one of those below it: `a`, `b/c`.");
    assert_snapshot!(at(&[("spark-pipeline.yml", ""), ("databricks.yml", "")]), @"error[MULTIPLE_PIPELINE_SPEC_FILES_FOUND]: `ROOT` holds several settings files: `spark-pipeline.yml`, `databricks.yml` / Remove all but one, or give the path of the one to use.");
    assert_snapshot!(said(&discover(Some(Path::new("/no/such"))).unwrap_err()), @"error[PIPELINE_SPEC_FILE_DOES_NOT_EXIST]: the pipeline `/no/such` does not exist");
}

/// A folder without settings may hold pipelines that have them: their sources are theirs.
#[test]
fn nested_pipelines_are_left_out() {
    let dir = folder(&[("top.sql", ""), ("lib/more.sql", ""), ("other/spark-pipeline.yml", ""), ("other/x.sql", "")]);
    let (spec, _) = load_at(dir.path(), "", &options()).unwrap();
    let names: Vec<_> =
        source_files(&spec).unwrap().iter().map(|source| source.display_path.display().to_string()).collect();
    assert_eq!(names, ["lib/more.sql", "top.sql"]);
}

#[test]
fn new_pipelines_load_with_their_sources() {
    let dir = TempDir::new().unwrap();
    for (name, language, count) in [("a", InitLanguage::Sql, 3), ("b", InitLanguage::Python, 1)] {
        let written = init(dir.path(), name, language).unwrap();
        assert!(written.iter().all(|path| path.is_file()));
        let (spec, warnings) = load_at(&dir.path().join(name), "", &options()).unwrap();
        assert_eq!((spec.name.as_str(), warnings.len()), (name, 0));
        assert_eq!(source_files(&spec).unwrap().len(), count);
        assert!(Path::new(&spec.path_mappings.map("/data/orders/2026-01.json").unwrap()).is_file());
    }
    assert!(init(dir.path(), "a", InitLanguage::Sql).unwrap_err().message().contains("not empty"));
    assert!(init(dir.path(), "../x", InitLanguage::Sql).is_err());
}

#[test]
fn settings_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let page = settings_reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "docs/settings.md is stale; run: UPDATE=1 cargo test -p deltaworks-pipeline settings_page");
}

#[test]
fn examples_load_without_warnings() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (example, expected) in [("medallion", 1), ("medallion_sql", 3)] {
        let (spec, warnings) =
            load_at(&examples.join(example), "", &options()).unwrap_or_else(|e| panic!("{}", said(&e)));
        assert_eq!((warnings.as_slice(), source_files(&spec).unwrap().len()), ([].as_slice(), expected), "{example}");
        assert!(Path::new(&spec.path_mappings.map("/data/orders/2026-01.json").unwrap()).is_file(), "{example}");
    }
}
