//! The pipelines of the README, as written there, over orders of our own: SQL and Python give the same rows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::Command;

const README: &str = include_str!("../../../README.md");

const ORDERS: &str = r#"{"order_id": "o1", "customer": "ada", "amount": 10.5}
{"order_id": "o2", "customer": "ada", "amount": 4.25}
{"order_id": "o3", "customer": "grace", "amount": 7}
{"order_id": null, "customer": "grace", "amount": 99}
{"order_id": "o4", "customer": "grace", "amount": -1}
"#;

/// The first fenced block of a language.
fn block(language: &str) -> &'static str {
    let start = README.find(&format!("```{language}\n")).expect("a block of that language");
    let body = &README[start + language.len() + 4..];
    &body[..body.find("```").expect("an end of the block")]
}

fn deltaworks(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltaworks"));
    command.current_dir(folder).args(arguments);
    if let Some(python) = std::env::var_os("DELTAWORKS_TEST_PYTHON") {
        command.env("DELTAWORKS_PYTHON", python);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn gold(language: &str, extension: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    for name in ["transformations", "data/orders"] {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("spark-pipeline.yml"), block("yaml")).unwrap();
    std::fs::write(folder.path().join("transformations/orders").with_extension(extension), block(language)).unwrap();
    std::fs::write(folder.path().join("data/orders/1.json"), ORDERS).unwrap();
    deltaworks(folder.path(), &["run"]);
    deltaworks(folder.path(), &["sql", "SELECT * FROM gold_customers ORDER BY customer", "--format", "csv"])
}

#[test]
fn both_pipelines_of_the_readme_run_as_written() {
    let expected = "customer,orders,spent\nada,2,14.75\ngrace,1,7.00\n";
    assert_eq!(gold("sql", "sql"), expected);
    assert_eq!(gold("python", "py"), expected);
}
