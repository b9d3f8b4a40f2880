//! When to kill a process, and the process that is killed.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::FLOWS;
use crate::running::{rows_of, status_of};
use crate::support::Pipeline;

/// When to kill a process.
#[derive(Debug)]
pub struct KillInstant {
    /// After it has told this,
    told: Told,
    /// and this time has gone by;
    delay: Duration,
    /// in any case after this time.
    at_last: Duration,
}

/// Something that a process tells.
#[derive(Debug)]
enum Told {
    /// Nothing yet: it starts, reads the definitions and plans.
    Nothing,
    /// That a flow works on a batch.
    Runs(&'static str),
    /// That a flow has committed so many batches.
    Batches(&'static str, u64),
}

/// Numbers from a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An instant of run number `run`, which takes about `calm` if nobody kills it: while it starts, or near the batches of one
    /// of the flows, each in turn.
    pub fn instant(&mut self, run: u32, calm: Duration) -> KillInstant {
        let told = match (run as usize % (FLOWS.len() + 1)).checked_sub(1).map(|turn| FLOWS[turn]) {
            None => Told::Nothing,
            Some(flow) if self.next().is_multiple_of(2) => Told::Runs(flow),
            Some(flow) => Told::Batches(flow, 1 + if flow == FLOWS[0] { self.next() % 3 } else { 0 }),
        };
        // A start takes longer than a batch.
        let longest = if let Told::Nothing = told { calm / 2 } else { calm / 12 };
        let delay = longest.mul_f64((self.next() % 1_000) as f64 / 1_000.0);
        KillInstant { told, delay, at_last: 4 * calm }
    }
}

/// A process that is going to be killed.
pub struct Killed {
    child: Child,
    events: Receiver<Value>,
}

impl Killed {
    pub fn start(pipeline: &Pipeline) -> Self {
        let mut command = pipeline.command(&["run", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, events) = channel();
        std::thread::spawn(move || {
            // The last line may be half there.
            for event in lines.map_while(Result::ok).map_while(|line| serde_json::from_str(&line).ok()) {
                let _ = sender.send(event);
            }
        });
        Self { child, events }
    }

    /// Waits until it is time, or until the process has ended.
    pub fn wait_until(&self, instant: &KillInstant) {
        let at_last = Instant::now() + instant.at_last;
        let next = |until: Instant| self.events.recv_timeout(until.saturating_duration_since(Instant::now()));
        let mut batches = 0;
        loop {
            let is_told = match &instant.told {
                Told::Nothing => true,
                Told::Batches(_, wanted) => batches >= *wanted,
                Told::Runs(_) => false,
            };
            if is_told {
                break;
            }
            let Ok(event) = next(at_last) else { return };
            match &instant.told {
                Told::Runs(flow) if status_of(&event) == Some((flow, "RUNNING")) => break,
                Told::Batches(flow, _) if rows_of(&event, flow).is_some() => batches += 1,
                _ => {}
            }
        }
        let until = at_last.min(Instant::now() + instant.delay);
        while next(until).is_ok() {}
    }

    /// Whether it was still there to be killed.
    pub fn kill(&mut self) -> bool {
        let alive = self.child.try_wait().unwrap().is_none();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        alive
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // A test that failed must not leave the program behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
