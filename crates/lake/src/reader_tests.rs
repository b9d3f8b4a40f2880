//! What another Delta reader makes of our tables.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use crate::test_support::{Folder, people, people_schema, write};
use crate::{Commit, Lake, TableDefinition, location};

const READ: &str = "
import sys, deltalake
from pyarrow import fs
table = deltalake.DeltaTable(sys.argv[1])
# Arrow's own file system: the package's aborts one interpreter in five on its way out (threads that hold Python objects).
rows = table.to_pyarrow_table(filesystem=fs.SubTreeFileSystem(sys.argv[1], fs.LocalFileSystem())).to_pylist()
print(table.version(), sorted((row['id'], row['name'], row['age']) for row in rows))
print([field.name for field in table.schema().fields], table.metadata().description)
";

/// The Python interpreter with the `deltalake` package, where there is one.
fn python() -> Option<PathBuf> {
    let configured = std::env::var_os("DELTAWORKS_TEST_PYTHON").map(PathBuf::from);
    let cached = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/deltaworks/venv/bin/python"));
    configured.or(cached).filter(|python| {
        Command::new(python).args(["-c", "import deltalake, pyarrow"]).status().is_ok_and(|status| status.success())
    })
}

#[tokio::test]
async fn python_reads_what_was_written() {
    let Some(python) = python() else { return };
    let folder = Folder::new();
    let mut definition = TableDefinition::new(people_schema());
    definition.partition_columns = vec!["name".to_owned()];
    definition.comment = Some("people we know".to_owned());
    let mut table = Lake::default().create(&folder.url("people"), &definition).await.unwrap();
    for id in 0..10 {
        let files = write(&table, people(&[(id, "gone")])).await;
        Commit::append(files).transaction("flow", id).commit(&mut table).await.unwrap();
    }
    let mut wider = people_schema().fields().to_vec();
    wider.push(Arc::new(Field::new("age", DataType::Int32, true)));
    let files = write(&table, people(&[(1, "a/b"), (2, "ü")])).await;
    Commit::overwrite(files).schema(Arc::new(Schema::new(wider))).commit(&mut table).await.unwrap();

    let path = location::to_path(table.location()).unwrap();
    let output = Command::new(python).args(["-c", READ]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "11 [(1, 'a/b', None), (2, 'ü', None)]\n['id', 'name', 'age'] people we know\n"
    );
}
