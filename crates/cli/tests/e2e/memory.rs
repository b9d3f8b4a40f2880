//! State that is larger than the memory that a pipeline may use: rows are the same as with enough of it.

use std::fmt::Write as _;

use crate::support::{Done, Pipeline};

const LIMIT: &str = "memory_limit: 16MB\n";
const FILES: u64 = 6;
const ROWS: u64 = 25_000;
/// All rows: what is kept of them is more than twice the limit.
const ALL: u64 = FILES * ROWS;

/// Text of 256 characters that no compression makes small, and different for each `seed`.
fn text(seed: u64) -> String {
    let mut state = seed;
    (0..16).fold(String::with_capacity(256), |mut text, _| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let _written = write!(text, "{:016x}", mixed ^ (mixed >> 31));
        text
    })
}

/// Rows with ids of `0..ALL`, each once, in another order for each `step`, in files of a batch each.
fn rows(pipeline: &Pipeline, folder: &str, step: u64) {
    for file in 0..FILES {
        let mut lines = String::new();
        for row in 0..ROWS {
            let id = (file * ROWS + row) * step % ALL;
            let (hour, minute) = (id / 3600 % 24, id / 60 % 60);
            let at = format!("2026-01-01T{hour:02}:{minute:02}:{:02}Z", id % 60);
            writeln!(lines, "{{\"id\":{id},\"at\":\"{at}\",\"text\":\"{}\"}}", text(id)).unwrap();
        }
        pipeline.write(&format!("{folder}/{file}.json"), &lines);
    }
}

/// An event much later than all others: the watermark passes those.
fn last(pipeline: &Pipeline, folder: &str) {
    pipeline.write(&format!("{folder}/9.json"), "{\"id\":-1,\"at\":\"2026-03-01T00:00:00Z\",\"text\":\"\"}\n");
}

const READ: &str = "format => 'json', schema => 'id BIGINT, at TIMESTAMP, text STRING', maxFilesPerTrigger => 1";

/// The pipeline of `sql`, whose rows come from `l` and `r`.
fn pipeline(sql: &str, settings: &str) -> Pipeline {
    let spec = format!(
        "name: p\nstorage: .deltaworks\nthreads: 2\nlibraries:\n  - glob:\n      include: pipeline.sql\n{settings}"
    );
    let sql = sql.replace("READ", READ);
    let pipeline = Pipeline::new(&[("spark-pipeline.yml", &spec), ("pipeline.sql", &sql)]);
    for (folder, step) in [("l", 1), ("r", 7919)] {
        if sql.contains(&format!("read_files('{folder}'")) {
            rows(&pipeline, folder, step);
        }
    }
    pipeline
}

fn run(pipeline: &Pipeline) -> Done {
    pipeline.run(&["run", "--quiet"])
}

/// Runs `sql` with little memory and with enough of it; whether `query` gives the same, of so many rows.
#[track_caller]
fn same_rows(sql: &str, prepare: impl Fn(&Pipeline), query: &str, count: usize) {
    let [little, enough] = [LIMIT, ""].map(|settings| {
        let pipeline = pipeline(sql, settings);
        prepare(&pipeline);
        let done = run(&pipeline);
        assert_eq!(done.code, Some(0), "{settings}{}", done.err);
        pipeline.write(
            "spark-pipeline.yml",
            "name: p\nstorage: .deltaworks\nlibraries: [{glob: {include: pipeline.sql}}]\n",
        );
        pipeline.query(query)
    });
    assert_eq!(enough.lines().count() - 1, count);
    assert!(little == enough, "rows differ: {} and {} lines", little.lines().count(), enough.lines().count());
}

#[test]
fn groups_of_a_stream() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT id % 149999 AS key, count(*) AS n, max(text) AS latest, collect_set(length(text)) AS lengths
         FROM STREAM read_files('l', READ) GROUP BY id % 149999;",
        |_| {},
        "SELECT key, n, latest, lengths[0] AS length FROM t ORDER BY key",
        149_999,
    );
}

#[test]
fn windows_that_are_open() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT window.start AS start, id, count(*) AS n, max(text) AS latest
         FROM STREAM read_files('l', READ) WATERMARK at DELAY OF INTERVAL 2 DAYS GROUP BY window(at, '1 hour'), id;",
        |pipeline| last(pipeline, "l"),
        "SELECT start, id, n, latest FROM t ORDER BY id",
        ALL as usize,
    );
}

#[test]
fn sessions_that_are_open() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT session_window.start AS start, session_window.end AS until, id % 75000 AS key, count(*) AS n, max(text) AS latest
         FROM STREAM read_files('l', READ) WATERMARK at DELAY OF INTERVAL 2 DAYS
         GROUP BY session_window(at, '10 hours'), id % 75000;",
        |pipeline| last(pipeline, "l"),
        "SELECT start, until, key, n, latest FROM t ORDER BY key, start",
        86_400,
    );
}

#[test]
fn rows_that_have_been_seen() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT DISTINCT text, id
         FROM (SELECT text, id FROM STREAM read_files('l', READ) UNION ALL SELECT text, id FROM STREAM read_files('r', READ));",
        |_| {},
        "SELECT id, text FROM t ORDER BY id",
        ALL as usize,
    );
}

#[test]
fn both_sides_of_a_join() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT l.id, l.text, r.text AS other, r.at
         FROM STREAM read_files('l', READ) AS l JOIN STREAM read_files('r', READ) AS r ON l.id = r.id;",
        |_| {},
        "SELECT id, text, other, at FROM t ORDER BY id",
        ALL as usize,
    );
}

#[test]
fn both_sides_of_an_outer_join() {
    same_rows(
        "CREATE OR REFRESH STREAMING TABLE t AS SELECT l.id, l.text, r.text AS other
         FROM STREAM read_files('l', READ) WATERMARK at DELAY OF INTERVAL 2 DAYS AS l
         LEFT JOIN STREAM read_files('r', READ) WATERMARK at DELAY OF INTERVAL 2 DAYS AS r
         ON l.id = r.id + 75000 AND r.at BETWEEN l.at - INTERVAL 1 DAY AND l.at + INTERVAL 1 DAY;",
        |pipeline| ["l", "r"].iter().for_each(|folder| last(pipeline, folder)),
        "SELECT id, text, other FROM t ORDER BY id",
        ALL as usize,
    );
}

#[test]
fn what_cannot_be_divided_is_an_error_that_says_so() {
    let one_group = "CREATE OR REFRESH STREAMING TABLE t AS
         SELECT collect_set(text) AS texts FROM STREAM read_files('l', READ);";
    let events = "CREATE OR REFRESH STREAMING TABLE t;
         CREATE FLOW f AS AUTO CDC INTO t FROM STREAM read_files('l', READ, maxFilesPerTrigger => 100)
         KEYS (id) SEQUENCE BY at;";
    let events = events.replace("READ, maxFilesPerTrigger => 100", &READ.replace("=> 1", "=> 100"));
    for sql in [one_group, &events] {
        let done = run(&pipeline(sql, LIMIT));
        done.complains(1, &["UNABLE_TO_ACQUIRE_MEMORY", "a query needs more memory than it may use", "`memory_limit`"]);
    }
}
