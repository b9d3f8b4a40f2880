//! Keeps secrets out of events: known secret values everywhere, and options whose names say that they are secret.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use deltaworks_spark::diagnostic::Diagnostic;
use deltaworks_spark::{Error, Result};
use parking_lot::RwLock;
use regex::Regex;
use serde_json::Value;

use super::details::Details;
use super::model::Event;

/// What stands in place of a secret.
const REDACTED: &str = "[REDACTED]";

/// Values shorter than this are not searched for: they would blot out ordinary text.
const SHORTEST_SECRET: usize = 4;

/// Replaces known secret values. Clones share what they know.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a secret containing another one goes as a whole.
    secrets: Arc<RwLock<Vec<String>>>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.secrets.read().len()).finish()
    }
}

impl Redactor {
    /// Replaces these values wherever they occur. Values of fewer than four characters are ignored.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let redactor = Self::default();
        secrets.into_iter().for_each(|secret| redactor.learn(secret));
        redactor
    }

    /// From now on replaces this value, too; it is kept in memory only. The lines of a text are secrets of their
    /// own: a message may show one of them.
    pub fn learn(&self, secret: String) {
        let mut secrets = self.secrets.write();
        let lines = secret.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        let long = |secret: &String| secret.chars().count() >= SHORTEST_SECRET;
        secrets.extend(lines.into_iter().chain([secret]).filter(long));
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
    }

    /// Replaces secrets in every text of problems.
    pub fn redact_problems(&self, problems: &mut [Diagnostic]) {
        for problem in problems {
            self.redact_text(&mut problem.message);
            for text in problem.help.iter_mut().chain(&mut problem.traceback) {
                self.redact_text(text);
            }
        }
    }

    /// Options as they may be shown: values under names like `password` or `sas.token` are replaced.
    pub fn redact_options<'a>(
        &self,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> BTreeMap<String, String> {
        options
            .into_iter()
            .map(|(key, value)| {
                let mut shown = if is_secret_name(key) { REDACTED.to_owned() } else { value.to_owned() };
                self.redact_text(&mut shown);
                (key.to_owned(), shown)
            })
            .collect()
    }

    /// Replaces secrets in every text of an event.
    ///
    /// # Errors
    /// `Internal` if the details cannot be rewritten. The event must then not be emitted.
    pub(crate) fn redact_event(&self, event: &mut Event) -> Result<()> {
        if self.secrets.read().is_empty() {
            return Ok(());
        }
        self.redact_text(&mut event.message);
        event.origin.for_each_text(|text| self.redact_text(text));
        for exception in event.error.iter_mut().flat_map(|error| &mut error.exceptions) {
            self.redact_text(&mut exception.message);
        }
        event.details = self.redact_details(&event.details)?;
        Ok(())
    }

    fn redact_details(&self, details: &Details) -> Result<Details> {
        let failed = |error: serde_json::Error| {
            Error::internal("the details of an event cannot be searched for secrets").with_source(error)
        };
        let mut value = serde_json::to_value(details).map_err(failed)?;
        self.redact_value(&mut value);
        serde_json::from_value(value).map_err(failed)
    }

    fn redact_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.redact_text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.redact_value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn redact_text(&self, text: &mut String) {
        for secret in self.secrets.read().iter() {
            if text.contains(secret.as_str()) {
                *text = text.replace(secret.as_str(), REDACTED);
            }
        }
    }
}

static SECRET_NAME: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?i)secret|passw(or)?d|token|credential|access[._-]?key|account[._-]?key|private[._-]?key|jaas|keystore[._]key$|ssl[._]key[._]pem").ok()
});

fn is_secret_name(key: &str) -> bool {
    SECRET_NAME.as_ref().is_none_or(|pattern| pattern.is_match(key))
}
