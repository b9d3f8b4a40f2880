//! A folder with a pipeline, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder with files of a pipeline.
pub struct Pipeline {
    folder: TempDir,
}

/// What a command wrote and how it ended.
#[derive(Debug)]
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Pipeline {
    /// A folder with these files.
    pub fn new(files: &[(&str, &str)]) -> Self {
        let pipeline = Self { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(path, text)| pipeline.write(path, text));
        pipeline
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The program with `arguments`, without colour and with the tests' Python.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deltaworks"));
        command.current_dir(self.path()).args(arguments).stdin(Stdio::null());
        command.env_remove("NO_COLOR").env_remove("DELTAWORKS_LOG");
        if let Some(python) = std::env::var_os("DELTAWORKS_TEST_PYTHON") {
            command.env("DELTAWORKS_PYTHON", python);
        }
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments))
    }

    /// The rows of a query as CSV, with a header.
    #[track_caller]
    pub fn query(&self, query: &str) -> String {
        let done = self.run(&["sql", query, "--format", "csv"]);
        assert_eq!(done.code, Some(0), "{query}\n{done:?}");
        done.out
    }

    /// A table's folder in the default storage.
    pub fn table(&self, name: &str) -> PathBuf {
        self.path().join(".deltaworks/tables").join(name)
    }
}

impl Done {
    pub fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Everything `stderr` must contain, in any order.
    #[track_caller]
    pub fn complains(&self, code: i32, wanted: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for wanted in wanted {
            assert!(self.err.contains(wanted), "`{wanted}` is not in\n{}", self.err);
        }
    }
}
