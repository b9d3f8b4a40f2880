//! `maxFileAge`: files that come too late.

use std::time::{Duration, SystemTime};

use arrow::array::AsArray as _;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Writes a file that was last changed so many days ago.
fn write_old(dir: &TempDir, name: &str, days: u32) {
    write(dir.path(), name, "{\"a\": 1}\n");
    let file = fs::File::options().append(true).open(dir.path().join(name)).unwrap();
    file.set_modified(SystemTime::now() - DAY * days).unwrap();
}

/// The files that two updates read, with files of the given ages there from the start and others added in between.
async fn read(reader: &str, options: &[(&str, &str)]) -> Result<[Vec<String>; 2]> {
    let dir = TempDir::new().unwrap();
    write_old(&dir, "in/first.json", 40);
    write_old(&dir, "in/second.json", 10);
    let schema = Arc::new(deltaworks_spark::types::parse_schema("a INT").unwrap());
    let paths = [dir.path().join("in").display().to_string()];
    let options = options.iter().copied().chain([("format", "json")]).collect();
    let mut ledger = Vec::new();
    let mut read = [Vec::new(), Vec::new()];
    for files in &mut read {
        let stream = stream_relation(Some(reader), &paths, Some(Arc::clone(&schema)), &options, &context(&dir)).await?;
        let remembered = MemTable::try_new(ledger_schema(), vec![ledger.clone()]).unwrap();
        let context = OpenContext { start: None, ledger: Some(Arc::new(remembered)) };
        let mut stream = stream.open(context).await?;
        while let Some(slice) = stream.next_slice().await? {
            for batch in slice.ledger.iter() {
                let paths = batch.column(0).as_string::<i32>();
                files.extend(paths.iter().flatten().map(|path| path.rsplit('/').next().unwrap().to_owned()));
            }
            ledger.extend(slice.ledger);
        }
        files.sort();
        write_old(&dir, "in/late.json", 18);
        write_old(&dir, "in/new.json", 16);
    }
    Ok(read)
}

#[tokio::test]
async fn what_is_much_older_than_the_newest_file_read_is_ignored() {
    let all = [vec!["first.json".to_owned(), "second.json".into()], vec!["late.json".into(), "new.json".into()]];
    assert_eq!(read("json", &[]).await.unwrap(), all);
    let [first, second] = read("json", &[("maxFileAge", "7d")]).await.unwrap();
    assert_eq!((&first, second), (&all[0], vec!["new.json".to_owned()]));
    assert_eq!(read("json", &[("maxFileAge", "9 days")]).await.unwrap(), all);
    let latest = [("maxFileAge", "7d"), ("latestFirst", "true"), ("maxFilesPerTrigger", "1")];
    assert_eq!(read("json", &latest).await.unwrap(), all);
}

#[tokio::test]
async fn auto_loader_remembers_files_for_good() {
    let all = [vec!["first.json".to_owned(), "second.json".into()], vec!["late.json".into(), "new.json".into()]];
    assert_eq!(read("cloudFiles", &[("cloudFiles.maxFileAge", "14 days")]).await.unwrap(), all);
    let error = read("cloudFiles", &[("cloudFiles.maxFileAge", "13 days")]).await.unwrap_err();
    assert!(error.to_string().contains("at least `14 days`"), "{error}");
    let error = read("json", &[("maxFileAge", "soon")]).await.unwrap_err();
    assert!(error.to_string().contains("a length of time"), "{error}");
}
