//! `cleanSource`: which files go, and when.

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

const JSON: (&str, &str) = ("format", "json");
const DELETE: (&str, &str) = ("cleanSource", "DELETE");

/// The folder `in` with two files in it, and the time at which it is read.
struct Source {
    dir: TempDir,
    now: DateTime<Utc>,
    ledger: Vec<arrow::array::RecordBatch>,
}

impl Source {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        write(dir.path(), "in/a.json", "{\"a\": 1}\n");
        write(dir.path(), "in/below/b.json", "{\"a\": 2}\n");
        Self { dir, now: Utc::now(), ledger: Vec::new() }
    }

    async fn open(&self, reader: &str, options: &[(&str, &str)]) -> Result<Arc<dyn StreamSource>> {
        let mut context = context(&self.dir);
        let now = self.now;
        context.clock = Arc::new(move || now);
        let schema = Arc::new(deltaworks_spark::types::parse_schema("a INT").unwrap());
        let paths = [self.dir.path().join("in").display().to_string()];
        stream_relation(Some(reader), &paths, Some(schema), &options.iter().copied().collect(), &context).await
    }

    /// Reads what is new; gives the files that are left afterwards.
    async fn update(&mut self, reader: &str, options: &[(&str, &str)]) -> Vec<String> {
        let ledger = MemTable::try_new(ledger_schema(), vec![self.ledger.clone()]).unwrap();
        let context = OpenContext { start: None, ledger: Some(Arc::new(ledger)) };
        let mut stream = self.open(reader, options).await.unwrap().open(context).await.unwrap();
        while let Some(slice) = stream.next_slice().await.unwrap() {
            self.ledger.extend(slice.ledger);
            stream.committed().await;
        }
        self.files()
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.dir.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.dir.path()).unwrap().display().to_string());
                }
            }
        }
        files.sort();
        files
    }
}

#[tokio::test]
async fn files_are_deleted_when_their_time_is_over_and_others_come() {
    let mut source = Source::new();
    let options = [JSON, DELETE, ("cleanSource.retentionDuration", "10 days")];
    assert_eq!(source.update("cloudFiles", &options).await, ["in/a.json", "in/below/b.json"]);
    source.now += TimeDelta::days(9);
    write(source.dir.path(), "in/c.json", "{\"a\": 3}\n");
    assert_eq!(source.update("cloudFiles", &options).await, ["in/a.json", "in/below/b.json", "in/c.json"]);
    source.now += TimeDelta::days(2);
    assert_eq!(source.update("cloudFiles", &options).await, ["in/a.json", "in/below/b.json", "in/c.json"]);
    write(source.dir.path(), "in/d.json", "{\"a\": 4}\n");
    assert_eq!(source.update("cloudFiles", &options).await, ["in/c.json", "in/d.json"]);
}

#[tokio::test]
async fn files_that_have_changed_since_they_were_read_stay() {
    let mut source = Source::new();
    source.update("cloudFiles", &[JSON, DELETE]).await;
    let changed = fs::File::options().append(true).open(source.dir.path().join("in/a.json")).unwrap();
    changed.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    source.now += TimeDelta::days(31);
    write(source.dir.path(), "in/c.json", "{\"a\": 3}\n");
    assert_eq!(source.update("cloudFiles", &[JSON, DELETE]).await, ["in/a.json", "in/c.json"]);
}

#[tokio::test]
async fn files_are_moved_with_their_folders_and_replace_none() {
    let mut source = Source::new();
    let destination = source.dir.path().join("done").display().to_string();
    let options = [
        JSON,
        ("cleanSource", "move"),
        ("cleanSource.moveDestination", &*destination),
        ("cleanSource.retentionDuration", "0 days"),
    ];
    write(source.dir.path(), "done/a.json", "not to be lost");
    source.update("cloudFiles", &options).await;
    write(source.dir.path(), "in/c.json", "{\"a\": 3}\n");
    let files = source.update("cloudFiles", &options).await;
    assert_eq!(files, ["done/a.json", "done/below/b.json", "in/a.json", "in/c.json"]);
    assert_eq!(fs::read_to_string(source.dir.path().join("done/a.json")).unwrap(), "not to be lost");
}

#[tokio::test]
async fn streams_of_spark_clean_with_the_batch() {
    let mut source = Source::new();
    let archive = source.dir.path().join("archive").display().to_string();
    let options = [
        ("recursiveFileLookup", "true"),
        ("maxFilesPerTrigger", "1"),
        ("cleanSource", "archive"),
        ("sourceArchiveDir", &*archive),
    ];
    assert_eq!(source.update("json", &options).await, ["archive/a.json", "archive/below/b.json"]);
    write(source.dir.path(), "in/c.json", "{\"a\": 3}\n");
    let options = [("recursiveFileLookup", "true"), ("cleanSource", "delete")];
    assert_eq!(source.update("json", &options).await, ["archive/a.json", "archive/below/b.json"]);
}

#[tokio::test]
async fn what_would_lose_files_is_refused() {
    let source = Source::new();
    let below = source.dir.path().join("in/done").display().to_string();
    for (options, said) in [
        (
            vec![JSON, ("cleanSource", "REMOVE")],
            "option `cleanSource` has value `REMOVE`, expected OFF, DELETE or MOVE",
        ),
        (
            vec![JSON, DELETE, ("cleanSource.retentionDuration", "6 days")],
            "option `cleanSource.retentionDuration` has value `6 days`, expected at least `7 days` with DELETE",
        ),
        (vec![JSON, ("cleanSource", "MOVE")], "option `cleanSource.moveDestination` is required"),
        (
            vec![JSON, ("cleanSource", "MOVE"), ("cleanSource.moveDestination", &*below)],
            "they would be found there again",
        ),
    ] {
        let error = source.open("cloudFiles", &options).await.unwrap_err();
        assert!(error.message().contains(said), "{}", error.message());
    }
}
