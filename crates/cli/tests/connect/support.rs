//! A server, and clients of it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A server in a folder of its own; killed if a test gives up on it.
pub struct Server {
    child: Child,
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Server {
    pub fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), arguments, environment)
    }

    pub fn start_in(folder: tempfile::TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_deltaworks"))
            .args(["connect", "--port", "0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        assert!(url.starts_with("sc://127.0.0.1:"), "{url}");
        Self { child, url: url.trim().replace("127.0.0.1", "localhost"), _folder: folder }
    }

    /// Runs a client. It is a file, because PySpark takes `python -c` for a doctest.
    pub fn client(&self, script: &str, environment: &[(&str, &str)]) -> Output {
        let (mut command, _folder) = self.command(script, environment);
        command.output().expect("DELTAWORKS_TEST_PYTHON must name a Python with pyspark-client")
    }

    fn command(&self, script: &str, environment: &[(&str, &str)]) -> (Command, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("client.py");
        let prelude = "from pyspark.sql import SparkSession\nfrom pyspark.sql import functions as F\n\
                       def connect():\n    return SparkSession.builder.remote(URL).create()\n";
        std::fs::write(&file, format!("URL = '{}'\n{prelude}{script}\nprint('DONE')\n", self.url)).unwrap();
        let mut command = Command::new(python());
        command
            .arg(&file)
            .env("SPARK_CONNECT_MODE_ENABLED", "1")
            .envs(environment.iter().copied())
            .current_dir(folder.path());
        (command, folder)
    }

    pub fn check(&self, script: &str) {
        assert_done(&self.client(script, &[]));
    }

    /// Ends the server as a service manager does; gives whether it went in order.
    #[cfg(unix)]
    pub fn terminate(mut self) -> bool {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a client that may be killed, and gives the folder that it needs.
pub fn spawn_client(server: &Server, script: &str, environment: &[(&str, &str)]) -> (Child, tempfile::TempDir) {
    let (mut command, folder) = server.command(script, environment);
    (command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap(), folder)
}

/// Waits until something has happened, for two minutes at most.
pub fn wait_until(what: &str, mut happened: impl FnMut() -> bool) {
    let given_up = Instant::now() + Duration::from_mins(2);
    while !happened() {
        assert!(Instant::now() < given_up, "{what}: not within two minutes");
        std::thread::yield_now();
    }
}

pub fn python() -> String {
    let home = std::env::var("HOME").unwrap_or_default();
    std::env::var("DELTAWORKS_TEST_PYTHON").unwrap_or_else(|_| format!("{home}/.cache/deltaworks/venv/bin/python"))
}

pub fn assert_done(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.trim().ends_with("DONE"), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}
