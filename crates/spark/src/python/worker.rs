//! The protocol between Spark and its Python worker: a task, a stream of Arrow batches, another one back.
//!
//! Numbers are big-endian; texts and bytes follow their length.

use std::io::{BufWriter, Read, Write};
use std::net::TcpStream;

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};

const END_OF_DATA: i32 = -1;
const EXCEPTION: i32 = -2;
const TIMING: i32 = -3;
const END_OF_STREAM: i32 = -4;
const START_ARROW: i32 = -6;

/// A worker that waits for a task.
#[derive(Debug)]
pub(super) struct Worker {
    stream: TcpStream,
}

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// PySpark's number of the kind of function.
    pub eval_type: i32,
    /// The version the function was pickled by.
    pub python_version: String,
    /// The function, pickled together with its result type.
    pub command: Bytes,
    /// The arguments: the column of the batch, and the name if it is passed by name.
    pub arguments: Vec<(i32, Option<String>)>,
    /// Settings of the session.
    pub conf: Vec<(String, String)>,
    /// Settings of the task.
    pub eval_conf: Vec<(String, String)>,
}

/// Opens the conversation with a worker that was just forked.
pub(super) fn greet(stream: TcpStream, secret: &str) -> Result<Worker> {
    stream.set_nodelay(true)?;
    let mut worker = Worker { stream };
    // The id of the process: proof that it was forked.
    if worker.read_int()? <= 0 {
        return Err(broken("the worker could not be forked"));
    }
    let mut out = Vec::new();
    bytes(&mut out, secret.as_bytes());
    worker.stream.write_all(&out)?;
    if worker.read_text()? != "ok" {
        return Err(broken("the worker did not accept the secret"));
    }
    Ok(worker)
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Unavailable, format!("the Python worker died: {why}")).with_condition("PYTHON_WORKER_FAILED")
}

fn int(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_be_bytes());
}

fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    int(out, value.len() as i32);
    out.extend(value);
}

fn pairs(out: &mut Vec<u8>, all: &[(String, String)]) {
    int(out, all.len() as i32);
    for (key, value) in all {
        bytes(out, key.as_bytes());
        bytes(out, value.as_bytes());
    }
}

impl Task {
    fn message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.command.len() + 512);
        // The number of the partition.
        int(&mut out, 0);
        bytes(&mut out, self.python_version.as_bytes());
        let context = serde_json::json!({
            "isBarrier": false, "stageId": 0, "partitionId": 0, "attemptNumber": 0, "taskAttemptId": 0, "cpus": 1,
            "resources": {}, "localProperties": {},
        });
        bytes(&mut out, context.to_string().as_bytes());
        // The folder of shipped files, of which there are none; no broadcasts, and none of them encrypted.
        bytes(&mut out, b"");
        int(&mut out, 0);
        out.push(0);
        int(&mut out, 0);
        int(&mut out, self.eval_type);
        pairs(&mut out, &self.conf);
        pairs(&mut out, &self.eval_conf);
        // One function, not chained with others.
        int(&mut out, 1);
        int(&mut out, self.arguments.len() as i32);
        for (column, name) in &self.arguments {
            int(&mut out, *column);
            out.push(u8::from(name.is_some()));
            if let Some(name) = name {
                bytes(&mut out, name.as_bytes());
            }
        }
        int(&mut out, 1);
        bytes(&mut out, &self.command);
        // The id under which a profile would be kept.
        out.extend(0_i64.to_be_bytes());
        out
    }
}

impl Worker {
    /// Runs a task over one batch.
    ///
    /// # Errors
    /// `PYTHON_EXCEPTION` (`User`) with the traceback of the user's code; `Unavailable` if the worker dies.
    pub(super) fn run(&mut self, task: &Task, batch: &RecordBatch) -> Result<Vec<RecordBatch>> {
        self.send(task, batch).map_err(|error| error.context("while sending rows to Python"))?;
        let mut batches = Vec::new();
        loop {
            match self.read_int()? {
                START_ARROW => {
                    for batch in StreamReader::try_new(&mut self.stream, None)? {
                        batches.push(batch?);
                    }
                }
                TIMING => {
                    // Four times of day and two counts of bytes follow.
                    self.skip(6 * 8)?;
                }
                END_OF_DATA => {
                    for _ in 0..self.read_int()? {
                        self.read_text()?;
                    }
                    break;
                }
                EXCEPTION => {
                    let traceback = self.read_text()?;
                    let last = traceback.trim_end().lines().last().unwrap_or("an exception").to_owned();
                    return Err(Error::user(format!("a Python function raised: {last}"))
                        .with_condition("PYTHON_EXCEPTION")
                        .with_traceback(traceback));
                }
                other => return Err(broken(format!("it sent {other}, which means nothing"))),
            }
        }
        match self.read_int()? {
            END_OF_STREAM => Ok(batches),
            other => Err(broken(format!("it sent {other} at the end"))),
        }
    }

    fn send(&mut self, task: &Task, batch: &RecordBatch) -> Result<()> {
        let mut out = BufWriter::with_capacity(64 * 1024, &mut self.stream);
        out.write_all(&task.message())?;
        let mut writer = StreamWriter::try_new(&mut out, batch.schema_ref())?;
        writer.write(batch)?;
        writer.finish()?;
        drop(writer);
        // The worker passes on what it has written only once it has read this.
        out.write_all(&END_OF_STREAM.to_be_bytes())?;
        Ok(out.flush()?)
    }

    fn read_int(&mut self) -> Result<i32> {
        let mut buffer = [0; 4];
        self.stream.read_exact(&mut buffer).map_err(broken)?;
        Ok(i32::from_be_bytes(buffer))
    }

    fn read_text(&mut self) -> Result<String> {
        let length = usize::try_from(self.read_int()?).map_err(broken)?;
        let mut buffer = vec![0; length];
        self.stream.read_exact(&mut buffer).map_err(broken)?;
        Ok(String::from_utf8_lossy(&buffer).into_owned())
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        std::io::copy(&mut (&mut self.stream).take(count), &mut std::io::sink()).map_err(broken)?;
        Ok(())
    }
}
