//! The protocol between Spark and its Python worker: a task, a stream of Arrow batches, another one back.
//!
//! Numbers are big-endian; texts and bytes follow their length.

use std::io::{BufWriter, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::null_structs::with_null_fields;

const END_OF_DATA: i32 = -1;
const EXCEPTION: i32 = -2;
const TIMING: i32 = -3;
const END_OF_STREAM: i32 = -4;
const START_ARROW: i32 = -6;

/// A worker that waits for a task.
#[derive(Debug)]
pub(super) struct Worker {
    stream: TcpStream,
    /// The id of its process.
    process: i32,
    /// Whether it has ended the conversation, as it does when it dies.
    has_left: bool,
}

/// Ends the conversation with a worker, from another thread than the one that waits for it.
#[derive(Debug)]
pub(super) struct Hangup(TcpStream);

impl Hangup {
    /// Whoever waits for the worker waits no longer.
    pub(super) fn now(self) {
        // One that has hung up already is what is wanted.
        let _done = self.0.shutdown(Shutdown::Both);
    }
}

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// PySpark's number of the kind of function.
    pub eval_type: i32,
    /// The version the function was pickled by.
    pub python_version: String,
    /// Settings of the session.
    pub conf: Vec<(String, String)>,
    /// Settings of the task.
    pub eval_conf: Vec<(String, String)>,
    /// What is called.
    pub call: PythonCall,
}

/// What is called, and on which columns.
#[derive(Debug, Clone)]
pub(super) enum PythonCall {
    /// A function, pickled together with its result type.
    Function {
        /// The pickled function.
        command: Bytes,
        /// The arguments: the column of the batch, and the name if it is passed by name.
        arguments: Vec<(i32, Option<String>)>,
    },
    /// A class whose `eval` gives rows.
    TableFunction {
        /// The pickled class.
        command: Bytes,
        /// As for a function.
        arguments: Vec<(i32, Option<String>)>,
        /// The columns of its table that tell one partition from the next.
        partition_columns: Vec<i32>,
        /// What `analyze` has answered, pickled.
        analysis: Option<Bytes>,
        /// The rows' type in Spark's JSON form.
        row_type: String,
        /// The name in messages.
        name: String,
    },
}

/// What a worker reads.
pub(super) enum Input<'a> {
    /// One stream of batches; there is at least one.
    Batches(&'a [RecordBatch]),
    /// Groups, each with a batch of every input.
    Groups(&'a [Vec<RecordBatch>]),
}

/// Opens the conversation with a worker that was just forked.
pub(super) fn greet(stream: TcpStream, secret: &str) -> Result<Worker> {
    stream.set_nodelay(true)?;
    let mut worker = Worker { stream, process: 0, has_left: false };
    // The id of the process is proof that it was forked.
    worker.process = worker.read_int()?;
    if worker.process <= 0 {
        return Err(broken("it could not be forked"));
    }
    let mut out = Vec::new();
    bytes(&mut out, secret.as_bytes());
    worker.stream.write_all(&out)?;
    if worker.read_text()? != "ok" {
        return Err(broken("it did not accept the secret"));
    }
    Ok(worker)
}

fn broken(why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Unavailable, format!("the Python worker failed: {why}")).with_condition("PYTHON_WORKER_FAILED")
}

/// The error of a conversation that broke off.
fn died(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            Error::new(Kind::Unavailable, "the Python worker died while it ran the function")
                .with_condition("PYTHON_WORKER_FAILED")
        }
        _ => broken(error),
    }
}

pub(super) fn int(out: &mut Vec<u8>, value: i32) {
    out.extend(value.to_be_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    int(out, value.len() as i32);
    out.extend(value);
}

pub(super) fn pairs(out: &mut Vec<u8>, all: &[(String, String)]) {
    int(out, all.len() as i32);
    for (key, value) in all {
        bytes(out, key.as_bytes());
        bytes(out, value.as_bytes());
    }
}

fn columns(out: &mut Vec<u8>, arguments: &[(i32, Option<String>)]) {
    int(out, arguments.len() as i32);
    for (column, name) in arguments {
        int(out, *column);
        out.push(u8::from(name.is_some()));
        if let Some(name) = name {
            bytes(out, name.as_bytes());
        }
    }
}

impl Task {
    fn message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
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
        match &self.call {
            PythonCall::Function { command, arguments } => {
                // One function, not chained with others.
                int(&mut out, 1);
                columns(&mut out, arguments);
                int(&mut out, 1);
                bytes(&mut out, command);
                // The id under which a profile would be kept.
                out.extend(0_i64.to_be_bytes());
            }
            PythonCall::TableFunction { command, arguments, partition_columns, analysis, row_type, name } => {
                columns(&mut out, arguments);
                int(&mut out, partition_columns.len() as i32);
                partition_columns.iter().for_each(|column| int(&mut out, *column));
                out.push(u8::from(analysis.is_some()));
                if let Some(analysis) = analysis {
                    bytes(&mut out, analysis);
                }
                bytes(&mut out, command);
                bytes(&mut out, row_type.as_bytes());
                bytes(&mut out, name.as_bytes());
            }
        }
        out
    }
}

impl Worker {
    /// The id of its process.
    pub(super) fn process(&self) -> i32 {
        self.process
    }

    /// Whether it has ended the conversation: there may be another process of its id by now.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// What ends the conversation from elsewhere.
    pub(super) fn hangup(&self) -> Result<Hangup> {
        Ok(Hangup(self.stream.try_clone()?))
    }

    /// Whether it is there and has nothing to say.
    pub(super) fn is_waiting(&mut self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let silent = matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock);
        silent && self.stream.set_nonblocking(false).is_ok()
    }

    /// Runs a task. Rows are sent and read at the same time: a function may give rows before it has seen all.
    ///
    /// # Errors
    /// `PYTHON_EXCEPTION` (`User`) with the traceback of the user's code; `Unavailable` if the worker dies.
    pub(super) fn run(&mut self, task: &Task, input: &Input<'_>) -> Result<Vec<RecordBatch>> {
        let out = self.stream.try_clone()?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || send(&out, task, input));
            let received = self.receive();
            if received.is_err() {
                // What failed reads no more: the sender must not wait for it.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            let sent = sending.join().unwrap_or_else(|_| Err(Error::internal("sending rows to Python panicked")));
            let batches = received?;
            sent.map_err(|error| error.context("while sending rows to Python"))?;
            Ok(batches)
        })
    }

    fn receive(&mut self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        loop {
            match self.read_int()? {
                START_ARROW => {
                    let rows = StreamReader::try_new(&mut self.stream, None).map_err(broken_stream)?;
                    for batch in rows {
                        batches.push(with_null_fields(batch.map_err(broken_stream)?)?);
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

    pub(super) fn read_int(&mut self) -> Result<i32> {
        let mut buffer = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut buffer) {
            self.has_left = error.kind() == ErrorKind::UnexpectedEof;
            return Err(died(error));
        }
        Ok(i32::from_be_bytes(buffer))
    }

    pub(super) fn read_text(&mut self) -> Result<String> {
        let length = self.read_int()?;
        Ok(String::from_utf8_lossy(&self.read_bytes(length)?).into_owned())
    }

    pub(super) fn read_bytes(&mut self, length: i32) -> Result<Vec<u8>> {
        let mut buffer = vec![0; usize::try_from(length).map_err(broken)?];
        self.stream.read_exact(&mut buffer).map_err(died)?;
        Ok(buffer)
    }

    pub(super) fn send_all(&mut self, message: &[u8]) -> Result<()> {
        self.stream.write_all(message).map_err(died)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        std::io::copy(&mut (&mut self.stream).take(count), &mut std::io::sink()).map_err(died)?;
        Ok(())
    }
}

/// The error of a worker whose rows end in the middle.
fn broken_stream(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, source) => died(source),
        error => Error::from(error),
    }
}

fn send(stream: &TcpStream, task: &Task, input: &Input<'_>) -> Result<()> {
    let mut out = BufWriter::with_capacity(64 * 1024, stream);
    out.write_all(&task.message())?;
    match input {
        Input::Batches(batches) => send_stream(&mut out, batches)?,
        Input::Groups(groups) => {
            for group in *groups {
                out.write_all(&(group.len() as i32).to_be_bytes())?;
                for batch in group {
                    send_stream(&mut out, std::slice::from_ref(batch))?;
                }
            }
            out.write_all(&0_i32.to_be_bytes())?;
        }
    }
    // The worker passes on what it has written only once it has read this.
    out.write_all(&END_OF_STREAM.to_be_bytes())?;
    Ok(out.flush()?)
}

fn send_stream(out: &mut impl Write, batches: &[RecordBatch]) -> Result<()> {
    let Some(first) = batches.first() else { return Err(Error::internal("a stream of no batches has no schema")) };
    let mut writer = StreamWriter::try_new(out, first.schema_ref())?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.finish()?)
}
