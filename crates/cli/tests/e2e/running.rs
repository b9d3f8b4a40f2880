//! A continuous update in a process of its own, and what it says.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Pipeline;

/// Something is wrong if an awaited event takes longer.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A continuous update in a process of its own.
pub struct Running {
    child: Child,
    events: Receiver<Value>,
    /// Those that were looked at.
    pub seen: Vec<Value>,
}

impl Running {
    pub fn start(pipeline: &Pipeline) -> Self {
        let mut command = pipeline.command(&["run", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, events, seen: Vec::new() }
    }

    /// Waits for the next event that `wanted` accepts; those before it are passed over.
    #[track_caller]
    pub fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if wanted(&event) {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no {what}\n{}", self.told()),
                Err(RecvTimeoutError::Disconnected) => {
                    let mut errors = String::new();
                    self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
                    panic!("the update ended without {what}\n{}\n{errors}", self.told());
                }
            }
        }
    }

    /// Waits until a flow says it has this status.
    #[track_caller]
    pub fn until_status(&mut self, flow: &str, status: &str) -> Value {
        self.until(&format!("{status} of `{flow}`"), |event| status_of(event) == Some((flow, status)))
    }

    /// Waits until each of these flows has been idle once, in any order.
    #[track_caller]
    pub fn until_idle(&mut self, flows: &[&str]) {
        let has_been = |seen: &[Value], flow: &str| seen.iter().any(|event| status_of(event) == Some((flow, "IDLE")));
        while !flows.iter().all(|flow| has_been(&self.seen, flow)) {
            self.until("IDLE", |event| status_of(event).is_some_and(|(_, status)| status == "IDLE"));
        }
    }

    /// Waits until batches of a flow have written `rows` rows from now on.
    #[track_caller]
    pub fn until_rows(&mut self, flow: &str, rows: u64) {
        let mut left = rows;
        while left > 0 {
            let event = self.until(&format!("{rows} rows of `{flow}`"), |event| rows_of(event, flow).is_some());
            left = left.saturating_sub(rows_of(&event, flow).unwrap());
        }
    }

    pub fn told(&self) -> String {
        self.seen.iter().map(|event| format!("{}\n", event["message"].as_str().unwrap_or_default())).collect()
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Stops the update; gives the exit code, the states from then on, and what is on standard error.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>, String) {
        self.signal("TERM");
        self.end()
    }

    pub fn end(&mut self) -> (Option<i32>, Vec<String>, String) {
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.events.iter());
        let states = self.seen.iter().filter_map(|event| event["details"]["update_progress"]["state"].as_str());
        (status.code(), states.skip_while(|state| *state != "STOPPING").map(str::to_owned).collect(), errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A test that failed must not leave the program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The flow whose status an event tells, and the status.
pub fn status_of(event: &Value) -> Option<(&str, &str)> {
    let status = event["details"]["flow_progress"]["status"].as_str()?;
    Some((event["origin"]["flow_name"].as_str()?, status))
}

/// How many rows a batch of the flow has written.
pub fn rows_of(event: &Value, flow: &str) -> Option<u64> {
    let of_flow = event["origin"]["flow_name"] == flow;
    event["details"]["flow_progress"]["metrics"]["num_output_rows"].as_u64().filter(|_| of_flow)
}
