//! Kills the process (SIGKILL) at 50 instants spread over an update, runs again, and wants the rows of a
//! run that was never disturbed. Whatever the instant hits, the outcome must be the same, so the test does
//! not depend on timing; that the instants are well spread makes it thorough.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const INSTANTS: u32 = 50;

const PIPELINE: &str = "
CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT * FROM STREAM read_files('data', format => 'json', schema => 'id INT, amount INT, day DATE', maxFilesPerTrigger => 2);
CREATE OR REFRESH STREAMING TABLE silver (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION DROP ROW)
AS SELECT DISTINCT id, amount, day FROM STREAM bronze;
CREATE OR REFRESH MATERIALIZED VIEW gold AS
SELECT day, count(*) AS orders, sum(amount) AS amount FROM silver GROUP BY day;
CREATE OR REFRESH STREAMING TABLE latest;
CREATE FLOW latest_changes AS AUTO CDC INTO latest FROM STREAM(bronze)
KEYS (amount) APPLY AS DELETE WHEN id % 13 = 0 SEQUENCE BY id;
CREATE OR REFRESH STREAMING TABLE history;
CREATE FLOW history_changes AS AUTO CDC INTO history FROM STREAM(bronze)
KEYS (amount) APPLY AS DELETE WHEN id % 13 = 0 SEQUENCE BY id STORED AS SCD TYPE 2;
";

/// The rows of every table, sorted: bronze has every row once, silver no duplicate.
const QUERIES: [&str; 5] = [
    "SELECT id, amount, day FROM bronze ORDER BY id, amount, day",
    "SELECT id, amount, day FROM silver ORDER BY id, amount, day",
    "SELECT day, orders, amount FROM gold ORDER BY day",
    "SELECT amount, id, day FROM latest ORDER BY amount",
    "SELECT amount, id, day, __START_AT, __END_AT FROM history ORDER BY amount, __START_AT",
];

fn deltaworks(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deltaworks"));
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A pipeline over eight files: rows that repeat across files, and rows that an expectation drops.
fn pipeline(folder: &Path) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("pipeline.sql"), PIPELINE).unwrap();
    for file in 0..8 {
        let rows: String = (0..40)
            .map(|row| {
                let id = file * 30 + row;
                format!("{{\"id\": {id}, \"amount\": {}, \"day\": \"2026-01-{:02}\"}}\n", id % 11 - 1, id % 7 + 1)
            })
            .collect();
        std::fs::write(folder.join(format!("data/{file}.json")), rows).unwrap();
    }
}

fn run_to_the_end(folder: &Path) {
    let output = deltaworks(folder).arg("run").stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(
        output.status.success(),
        "the run failed:\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn rows(folder: &Path) -> Vec<String> {
    QUERIES
        .iter()
        .map(|query| {
            let output =
                deltaworks(folder).args(["sql", query, "--format", "csv"]).stdout(Stdio::piped()).output().unwrap();
            assert!(output.status.success(), "{query}");
            String::from_utf8(output.stdout).unwrap()
        })
        .collect()
}

#[test]
fn killed_at_any_instant_the_next_run_gives_the_rows_of_a_clean_one() {
    let clean = tempfile::tempdir().unwrap();
    pipeline(clean.path());
    let started = Instant::now();
    run_to_the_end(clean.path());
    let duration = started.elapsed();
    let expected = rows(clean.path());
    assert_eq!(expected[0].lines().count(), 1 + 8 * 40);
    // The last event of one of eleven keys is a delete.
    assert_eq!(expected[3].lines().count(), 1 + 10);
    // Ids run from 0 to 249; every 13th ends a version instead of beginning one.
    assert_eq!(expected[4].lines().count(), 1 + 250 - 20);
    for instant in 0..INSTANTS {
        let folder = tempfile::tempdir().unwrap();
        pipeline(folder.path());
        let mut child = deltaworks(folder.path()).arg("run").spawn().unwrap();
        wait_at_most(&mut child, duration * (instant + 1) / INSTANTS);
        child.kill().unwrap();
        child.wait().unwrap();
        run_to_the_end(folder.path());
        assert_eq!(rows(folder.path()), expected, "killed after {} of {INSTANTS} parts of {duration:?}", instant + 1);
    }
}

/// Lets the process live for `time`, or until it ends by itself.
fn wait_at_most(child: &mut std::process::Child, time: Duration) {
    let deadline = Instant::now() + time;
    while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
        std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
    }
}
