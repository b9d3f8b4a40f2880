//! Runs `spec/**/*.md`: each file is prose, a pipeline, its input in batches, and the tables and events it
//! must end with. Every file runs in several modes and must give the same rows in each.
//!
//! See `spec/README.md` for how a specification is written.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod continuous;
mod document;
mod input;
mod run;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use document::Document;
use run::Mode;

/// A test runner of its own: one test per file and mode, with the closing line that cargo's runner prints.
fn main() -> ExitCode {
    let filter: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../spec").canonicalize().expect("the folder `spec`");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (mut passed, mut failed) = (0, Vec::new());
    for path in documents(&root) {
        let name = path.strip_prefix(&root).expect("below the root").with_extension("").display().to_string();
        let document = Document::parse(&std::fs::read_to_string(&path).expect("a readable file"), &name);
        for mode in Mode::all(&document) {
            let test = format!("{name} :: {mode}");
            if !filter.is_empty() && !filter.iter().any(|wanted| test.contains(wanted.as_str())) {
                continue;
            }
            let outcome = runtime.block_on(run::run(&document, mode));
            match outcome {
                Ok(()) => {
                    println!("test {test} ... ok");
                    passed += 1;
                }
                Err(problem) => {
                    println!("test {test} ... FAILED");
                    failed.push((test, problem));
                }
            }
        }
    }
    for (test, problem) in &failed {
        println!("\n---- {test} ----\n{problem}");
    }
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out\n",
        failed.len()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn documents(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            found.extend(documents(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") && !path.ends_with("README.md") {
            found.push(path);
        }
    }
    found.sort();
    found
}
