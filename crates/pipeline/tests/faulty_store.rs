//! A store that fails at one of its operations, before or after having done it, for every operation of an
//! update in turn: the update says so, nothing is half-written, and the next one gives the rows of a clean run.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::util::pretty::pretty_format_batches;
use async_trait::async_trait;
use datafusion::execution::object_store::{DefaultObjectStoreRegistry, ObjectStoreRegistry};
use deltaworks_pipeline::{EngineOptions, Pipeline, UpdateOutcome, UpdateRequest, event::UpdateState, spec};
use deltaworks_spark::Result;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Operations are tried this far apart, so that the test stays quick; both kinds of failure start elsewhere.
const STRIDE: usize = 7;

const PIPELINE: &str = "
CREATE OR REFRESH STREAMING TABLE bronze AS
SELECT * FROM STREAM read_files('data', format => 'json', schema => 'id INT, amount INT', maxFilesPerTrigger => 1,
  badRecordsPath => 'bad');
CREATE OR REFRESH STREAMING TABLE silver (CONSTRAINT positive EXPECT (amount > 0) ON VIOLATION DROP ROW)
AS SELECT DISTINCT id, amount FROM STREAM bronze;
CREATE OR REFRESH MATERIALIZED VIEW gold AS
SELECT id % 3 AS third, count(*) AS orders, sum(amount) AS amount FROM silver GROUP BY 1;
";

const ROWS: &str = "
SELECT 'bronze' AS t, id AS a, amount AS b, NULL AS c FROM bronze
UNION ALL SELECT 'silver', id, amount, NULL FROM silver
UNION ALL SELECT 'gold', third, orders, amount FROM gold
UNION ALL SELECT DISTINCT 'bad', CAST(record AS INT), NULL, NULL
  FROM read_files('bad/*/bad_records', format => 'json', schema => 'record STRING')
ORDER BY 1, 2, 3, 4";

/// When a store gives up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Never,
    /// The operation with this number is not done.
    Before(usize),
    /// The operation with this number is done, but its answer is lost.
    After(usize),
}

#[derive(Debug)]
struct FaultyStore {
    inner: LocalFileSystem,
    fault: Fault,
    operations: AtomicUsize,
}

impl FaultyStore {
    fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner: LocalFileSystem::new(), fault, operations: AtomicUsize::new(0) })
    }

    async fn attempt<T>(
        &self,
        what: &str,
        operation: impl Future<Output = object_store::Result<T>>,
    ) -> object_store::Result<T> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        if self.fault == Fault::Before(number) {
            return Err(unavailable(what));
        }
        let answer = operation.await?;
        if self.fault == Fault::After(number) { Err(unavailable(what)) } else { Ok(answer) }
    }
}

fn unavailable(what: &str) -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: format!("{what}: connection reset").into() }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FaultyStore")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.attempt("put", self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.attempt("put_multipart", self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.attempt("get", self.inner.get_opts(location, options)).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        if matches!(self.fault, Fault::Before(at) | Fault::After(at) if at == number) {
            return futures::stream::once(async { Err(unavailable("list")) }).boxed();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.attempt("list", self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.attempt("copy", self.inner.copy_opts(from, to, options)).await
    }
}

/// A pipeline over three files: rows that repeat across files, rows that an expectation drops, and a bad record each.
fn write_pipeline(folder: &FilePath) {
    std::fs::create_dir_all(folder.join("data")).unwrap();
    std::fs::write(folder.join("pipeline.sql"), PIPELINE).unwrap();
    for file in 0..3 {
        let rows: String =
            (0..8).map(|row| format!("{{\"id\": {}, \"amount\": {}}}\n", file * 5 + row, row % 4)).collect();
        std::fs::write(folder.join(format!("data/{file}.json")), format!("{file}\n{rows}")).unwrap();
    }
}

fn open(folder: &FilePath, store: Arc<dyn ObjectStore>) -> Pipeline {
    let (settings, _) = spec::load(&spec::discover(Some(folder)).unwrap(), &spec::LoadOptions::default()).unwrap();
    let stores = DefaultObjectStoreRegistry::new();
    stores.register_store(&Url::parse("file:///").unwrap(), store);
    Pipeline::open(settings, &EngineOptions { stores: Arc::new(stores), ..EngineOptions::default() }).unwrap()
}

async fn update(folder: &FilePath, store: Arc<dyn ObjectStore>) -> Result<UpdateOutcome> {
    open(folder, store).update(UpdateRequest::default(), Vec::new(), CancellationToken::new()).await
}

async fn rows(folder: &FilePath) -> String {
    let result = open(folder, Arc::new(LocalFileSystem::new())).query(ROWS).await.unwrap();
    pretty_format_batches(&result.batches).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_operation_of_the_store_fails_the_next_update_gives_the_rows_of_a_clean_one() {
    let clean = tempfile::tempdir().unwrap();
    write_pipeline(clean.path());
    let store = FaultyStore::new(Fault::Never);
    assert_eq!(update(clean.path(), store.clone()).await.unwrap().state, UpdateState::Completed);
    let operations = store.operations.load(Ordering::SeqCst);
    assert!(operations > 3 * STRIDE, "an update has only {operations} operations");
    let expected = rows(clean.path()).await;
    assert_eq!(expected.matches("| bad ").count(), 3, "{expected}");

    let before = (0..operations).step_by(STRIDE).map(Fault::Before);
    let after = (STRIDE / 2..operations).step_by(STRIDE).map(Fault::After);
    let mut failed = 0;
    for fault in before.chain(after) {
        let folder = tempfile::tempdir().unwrap();
        write_pipeline(folder.path());
        match update(folder.path(), FaultyStore::new(fault)).await {
            Ok(outcome) if outcome.state == UpdateState::Completed => {}
            Ok(outcome) => {
                failed += 1;
                let told = outcome.diagnostics.iter().any(|problem| problem.message.contains("connection reset"));
                assert!(told, "{fault:?}: {:?}", outcome.diagnostics);
            }
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains("connection reset"), "{fault:?}: {error}");
            }
        }
        let again = update(folder.path(), Arc::new(LocalFileSystem::new())).await.unwrap();
        assert_eq!(again.state, UpdateState::Completed, "{fault:?}: {:?}", again.diagnostics);
        assert_eq!(rows(folder.path()).await, expected, "{fault:?}");
    }
    assert!(failed > 0, "no fault made an update fail");
}
