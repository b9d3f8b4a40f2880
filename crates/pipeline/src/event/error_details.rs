//! An error as the event log keeps it: a chain of exceptions with stack frames.

use std::error::Error as _;
use std::sync::LazyLock;

use deltaworks_spark::diagnostic::{Diagnostic, Severity, SourceLocation};
use deltaworks_spark::{Error, Kind};
use regex::Regex;
use serde::{Deserialize, Serialize};

/// What went wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetails {
    /// Whether trying again is pointless.
    #[serde(default)]
    pub fatal: bool,
    /// The error, then its causes; or, for definitions, one per problem.
    #[serde(default)]
    pub exceptions: Vec<Exception>,
}

/// One link of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// Spark's condition where there is one, otherwise the kind of our error.
    pub class_name: String,
    /// What happened, and what to do about it.
    pub message: String,
    /// Positions in the user's source, nearest to the error first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<StackFrame>,
}

/// A position in the user's source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackFrame {
    /// The class or module.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declaring_class: Option<String>,
    /// The function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method_name: Option<String>,
    /// The file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_number: Option<i64>,
}

impl From<&Error> for ErrorDetails {
    fn from(error: &Error) -> Self {
        let fatal = !matches!(error.kind(), Kind::Conflict | Kind::Unavailable | Kind::Cancelled);
        let problems = error.diagnostics().iter().filter(|each| each.severity == Severity::Error);
        let mut exceptions: Vec<_> = problems.map(|each| Exception::from_parts(error.kind(), each)).collect();
        // How many problems there are is no problem of its own, and has no place.
        if exceptions.is_empty() {
            exceptions.push(Exception::from_parts(error.kind(), &error.to_diagnostic()));
        }
        let mut cause = error.source();
        while let Some(current) = cause {
            let message = without_backtrace(&current.to_string()).to_owned();
            // Most errors of libraries repeat their cause: one that adds nothing is left out.
            if !exceptions.iter().any(|known| known.message.contains(&message)) {
                exceptions.push(Exception { class_name: "Cause".to_owned(), message, stack: Vec::new() });
            }
            cause = current.source();
        }
        Self { fatal, exceptions }
    }
}

/// The text before a backtrace, which some libraries print along with their errors.
fn without_backtrace(message: &str) -> &str {
    let end = message.find("\n   0: ").unwrap_or(message.len());
    message[..end].trim_end()
}

impl Exception {
    fn from_parts(kind: Kind, diagnostic: &Diagnostic) -> Self {
        let mut message = diagnostic.message.clone();
        if let Some(help) = &diagnostic.help {
            message.push_str("; ");
            message.push_str(help);
        }
        let mut stack: Vec<StackFrame> = diagnostic.location.iter().map(StackFrame::from).collect();
        stack.extend(diagnostic.traceback.iter().flat_map(|traceback| python_frames(traceback)));
        Self { class_name: diagnostic.condition.clone().unwrap_or_else(|| format!("{kind:?}")), message, stack }
    }
}

impl From<&SourceLocation> for StackFrame {
    fn from(location: &SourceLocation) -> Self {
        Self {
            file_name: Some(location.file.display().to_string()),
            line_number: (location.line > 0).then(|| i64::from(location.line)),
            ..Self::default()
        }
    }
}

static PYTHON_FRAME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?m)^\s*File "([^"]+)", line (\d+)(?:, in (\S+))?"#).ok());

/// The frames of a Python traceback, innermost first.
fn python_frames(traceback: &str) -> Vec<StackFrame> {
    let Some(pattern) = PYTHON_FRAME.as_ref() else { return Vec::new() };
    let mut frames: Vec<StackFrame> = pattern
        .captures_iter(traceback)
        .map(|frame| StackFrame {
            declaring_class: None,
            method_name: frame.get(3).map(|name| name.as_str().to_owned()),
            file_name: frame.get(1).map(|file| file.as_str().to_owned()),
            line_number: frame.get(2).and_then(|line| line.as_str().parse().ok()),
        })
        .collect();
    frames.reverse();
    frames
}
