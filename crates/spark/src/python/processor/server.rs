//! The socket at which the handle of a processor in a worker reaches its state.

use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use parking_lot::Mutex;
use prost::Message as _;

use super::handle::{Handle, unknown};
use super::message::{Answer, FAILED, Request};
use crate::error::{Error, Result};

/// Waits for one worker.
pub(super) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    worker: Option<TcpStream>,
    is_over: bool,
}

impl Server {
    pub(super) fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, state: Mutex::default() })
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers what the worker asks until it is done, or the server is closed.
    ///
    /// # Errors
    /// The first request that cannot be answered; the worker has been told of it, too.
    pub(super) fn serve(&self, handle: &mut Handle<'_>) -> Result<()> {
        let (worker, _) = self.listener.accept()?;
        {
            let mut state = self.state.lock();
            if state.is_over {
                return Ok(());
            }
            state.worker = Some(worker.try_clone()?);
        }
        worker.set_nodelay(true)?;
        let mut requests = BufReader::new(&worker);
        while !handle.is_closed() {
            let Some(request) = next(&mut requests)? else { return Ok(()) };
            match handle.answer(Request::decode(request.as_slice()).map_err(|_| unknown())?) {
                Ok(answer) => send(&worker, &answer)?,
                Err(error) => {
                    let answer = Answer { status: FAILED, error: described(&error), value: Vec::new() };
                    // What has been answered so is over, also for those who catch the exception.
                    let _told = send(&worker, &answer.encode_to_vec());
                    let _closed = worker.shutdown(Shutdown::Both);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Ends [`Self::serve`], whatever it waits for: a worker that has failed may never have come.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_over = true;
        match &state.worker {
            Some(worker) => drop(worker.shutdown(Shutdown::Both)),
            None => drop(TcpStream::connect(self.address)),
        }
    }
}

fn described(error: &Error) -> String {
    match error.condition() {
        Some(condition) => format!("[{condition}] {}", error.message()),
        None => error.message().to_owned(),
    }
}

/// The next request; `None` if the worker has gone.
fn next(requests: &mut BufReader<&TcpStream>) -> Result<Option<Vec<u8>>> {
    let mut head = [0; 8];
    if let Err(error) = requests.read_exact(&mut head) {
        return match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Ok(None),
            _ => Err(error.into()),
        };
    }
    let [v0, v1, v2, v3, l0, l1, l2, l3] = head;
    let (version, length) = (i32::from_be_bytes([v0, v1, v2, v3]), i32::from_be_bytes([l0, l1, l2, l3]));
    let length = usize::try_from(length).ok().filter(|_| version == 0).ok_or_else(unknown)?;
    let mut request = vec![0; length];
    requests.read_exact(&mut request)?;
    Ok(Some(request))
}

fn send(mut worker: &TcpStream, answer: &[u8]) -> Result<()> {
    let length = i32::try_from(answer.len()).map_err(|_| Error::data("a row of state is larger than 2 GB"))?;
    let mut message = Vec::with_capacity(4 + answer.len());
    message.extend(length.to_be_bytes());
    message.extend(answer);
    Ok(worker.write_all(&message)?)
}
