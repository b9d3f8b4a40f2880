//! A problem as data: severity, message, position, advice. Rendering is left to who shows it.

use std::fmt;
use std::path::PathBuf;

/// A position in the user's source: a file, and where known a line and a column, both from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct SourceLocation {
    /// The source file as the user knows it (relative to the pipeline's folder where it lies inside).
    pub file: PathBuf,
    /// The line, from 1; 0 if unknown.
    pub line: u32,
    /// The column in characters, from 1; 0 if unknown.
    pub column: u32,
}

impl SourceLocation {
    /// A position in `file`.
    pub fn new(file: impl Into<PathBuf>, line: u32, column: u32) -> Self {
        Self { file: file.into(), line, column }
    }

    /// Whether this is a place in text that a program has made, such as `<sql>`: no file a user could open.
    pub fn is_in_made_text(&self) -> bool {
        self.file.to_str().is_some_and(|file| file.starts_with('<'))
    }

    /// A whole file.
    pub fn file(file: impl Into<PathBuf>) -> Self {
        Self::new(file, 0, 0)
    }
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The update can run, but probably not as meant.
    Warning,
    /// The update cannot run.
    Error,
}

/// One problem of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Spark's name of it, where one exists.
    pub condition: Option<String>,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub location: Option<SourceLocation>,
    /// What to do about it.
    pub help: Option<String>,
    /// The traceback of the user's Python code, if it came from there.
    pub traceback: Option<String>,
}

impl Diagnostic {
    /// A problem that stops the update.
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    /// A problem that does not stop the update.
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message)
    }

    fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self { severity, condition: None, message: message.into(), location: None, help: None, traceback: None }
    }

    /// Points at the user's source.
    #[must_use]
    pub fn at(mut self, location: SourceLocation) -> Self {
        self.location.get_or_insert(location);
        self
    }

    /// Says what to do about it, in a full sentence.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Names the problem as Spark does.
    #[must_use]
    pub fn with_condition(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }
}
