//! Another reader of the pipeline's tables: the Python package `deltalake`, in a process that stays (`reader.py`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Looks at every version of every table once.
pub struct Reader {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// How many versions of each table it has looked at.
    pub versions: [u64; 5],
}

impl Reader {
    pub fn start() -> Self {
        let python = std::env::var_os("DELTAWORKS_TEST_PYTHON").unwrap_or_else(|| "python3".into());
        let mut command = Command::new(python);
        command.args(["-c", include_str!("reader.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (questions, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, questions, answers: BufReader::new(answers), versions: [0; 5] }
    }

    /// Looks at the versions that have come since it was asked last; each must be whole.
    #[track_caller]
    pub fn every_version_is_whole(&mut self, folder: &Path, when: &str) {
        writeln!(self.questions, "{}", folder.display()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let problems = answer["problems"].as_array().unwrap();
        assert!(problems.is_empty(), "{when}: {problems:#?}");
        for (all, new) in self.versions.iter_mut().zip(answer["versions"].as_array().unwrap()) {
            *all += new.as_u64().unwrap();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
