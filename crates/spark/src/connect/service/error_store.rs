//! Errors that clients may ask more about: a status holds only as much as an HTTP/2 header may.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tonic::Status;
use uuid::Uuid;

use crate::connect::proto::fetch_error_details_response as details;
use crate::connect::status;
use crate::error::Error;

/// How many errors of a session are kept.
const KEPT: usize = 64;

/// The latest errors of one session.
#[derive(Debug, Default)]
pub(super) struct ErrorStore(Mutex<VecDeque<(String, details::Error)>>);

impl ErrorStore {
    /// The status of `error`, under whose id the whole of it can be asked for later.
    pub fn status(&self, error: &Error) -> Status {
        let id = Uuid::new_v4().to_string();
        let mut kept = self.0.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((id.clone(), status::details(error)));
        status::status_with_id(error, Some(&id))
    }

    /// The error of that id; each is told once.
    pub fn take(&self, id: &str) -> Option<details::Error> {
        let mut kept = self.0.lock();
        let position = kept.iter().position(|(known, _)| known == id)?;
        kept.remove(position).map(|(_, error)| error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_errors_make_room_for_new_ones() {
        let store = ErrorStore::default();
        for i in 0..KEPT + 1 {
            store.status(&Error::user(format!("error {i}")));
        }
        let kept: Vec<String> = store.0.lock().iter().map(|(_, error)| error.message.clone()).collect();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0], "error 1");
    }

    #[test]
    fn an_error_is_told_once() {
        let store = ErrorStore::default();
        store.status(&Error::user("wrong").with_condition("PARSE_SYNTAX_ERROR"));
        let id = store.0.lock()[0].0.clone();
        let throwable = store.take(&id).and_then(|error| error.spark_throwable).unwrap_or_default();
        assert_eq!(throwable.sql_state(), "42601");
        assert!(store.take(&id).is_none());
    }
}
