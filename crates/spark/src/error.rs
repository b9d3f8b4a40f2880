//! The one public error of the workspace: what happened, where, why, and what to do next.
//!
//! A [`Kind`] says what the caller should do; it is the only part that code may branch on. The
//! `condition` is Spark's or Delta's name for the error where one exists (`TABLE_OR_VIEW_NOT_FOUND`),
//! the message is for people and may change.

use std::fmt;

use datafusion::error::DataFusionError;

use crate::diagnostic::{Diagnostic, SourceLocation};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The condition of a query that needs more memory than it may use.
pub const OUT_OF_MEMORY: &str = "UNABLE_TO_ACQUIRE_MEMORY";

/// What the caller of a failed operation should do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Kind {
    /// Edit the pipeline: its definitions or its settings are wrong.
    User,
    /// Fix the input: the definitions are right, the data is not.
    Data,
    /// Plan again from a fresh snapshot: somebody else committed first.
    Conflict,
    /// Try again with back-off: storage, a broker or a database did not answer.
    Unavailable,
    /// Change the pipeline or upgrade: the construct is known but not implemented.
    Unsupported,
    /// Nothing: the work was cancelled on request.
    Cancelled,
    /// Report it: an invariant of this program does not hold.
    Internal,
}

/// An error with its kind, Spark's condition name, position and advice.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    condition: Option<String>,
    message: String,
    parameters: Vec<(&'static str, String)>,
    help: Option<String>,
    location: Option<SourceLocation>,
    context: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    traceback: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            condition: None,
            message: message.into(),
            parameters: Vec::new(),
            help: None,
            location: None,
            context: Vec::new(),
            diagnostics: Vec::new(),
            traceback: None,
            source: None,
        }))
    }

    /// A [`Kind::User`] error.
    pub fn user(message: impl Into<String>) -> Self {
        Self::new(Kind::User, message)
    }

    /// A [`Kind::Data`] error.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }

    /// A [`Kind::Unsupported`] error; `what` names the construct: "`CLUSTER BY AUTO`".
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::new(Kind::Unsupported, format!("{what} is not supported yet"))
    }

    /// A [`Kind::Internal`] error.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Names the error as Spark or Delta does.
    #[must_use]
    pub fn with_condition(mut self, condition: impl Into<String>) -> Self {
        self.0.condition = Some(condition.into());
        self
    }

    /// Keeps a value of the message under the name Spark has for it, for programs that catch the error.
    #[must_use]
    pub fn with_parameter(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.parameters.push((name, value.into()));
        self
    }

    /// Says what to do about it, in a full sentence.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.0.help = Some(help.into());
        self
    }

    /// Points at the user's source. A position that is already there is kept: it is nearer to the cause.
    #[must_use]
    pub fn at(mut self, location: SourceLocation) -> Self {
        self.0.location.get_or_insert(location);
        self
    }

    /// Points at the user's source, also where the position so far is one in SQL text that the source holds.
    #[must_use]
    pub fn at_origin(mut self, origin: &SourceLocation) -> Self {
        match self.0.location.take() {
            Some(inside) if inside.is_in_made_text() => {
                if inside.line > 1 || inside.column > 1 {
                    let place = format!("at line {}, column {} of the SQL text", inside.line, inside.column);
                    self.0.context.push(place);
                }
                self.0.location = Some(origin.clone());
            }
            nearer => self.0.location = nearer.or_else(|| Some(origin.clone())),
        }
        for diagnostic in &mut self.0.diagnostics {
            if diagnostic.location.as_ref().is_none_or(SourceLocation::is_in_made_text) {
                diagnostic.location = Some(origin.clone());
            }
        }
        self
    }

    /// Adds what was being done: "while reading `orders.json`". The outermost comes last.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// Keeps the traceback of the user's own Python code.
    #[must_use]
    pub fn with_traceback(mut self, traceback: impl Into<String>) -> Self {
        self.0.traceback = Some(traceback.into());
        self
    }

    /// Keeps the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// An error that stands for several problems found in one go.
    pub fn from_diagnostics(message: impl Into<String>, diagnostics: Vec<Diagnostic>) -> Self {
        let mut error = Self::user(message);
        error.0.diagnostics = diagnostics;
        error
    }

    /// What the caller should do next.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Spark's or Delta's name of the error, where one exists.
    pub fn condition(&self) -> Option<&str> {
        self.0.condition.as_deref()
    }

    /// What happened, in one line without position or advice.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The values in the message, under Spark's names.
    pub fn parameters(&self) -> &[(&'static str, String)] {
        &self.0.parameters
    }

    /// What to do about it.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    /// Where in the user's source.
    pub fn location(&self) -> Option<&SourceLocation> {
        self.0.location.as_ref()
    }

    /// The traceback of the user's Python code, if the error came from there.
    pub fn traceback(&self) -> Option<&str> {
        self.0.traceback.as_deref()
    }

    /// The single problems this error stands for; empty if it is one itself.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.0.diagnostics
    }

    /// The error as one diagnostic.
    pub fn to_diagnostic(&self) -> Diagnostic {
        let mut diagnostic = Diagnostic::error(self.full_message());
        diagnostic.condition = self.0.condition.clone();
        diagnostic.location = self.0.location.clone();
        diagnostic.help = self.0.help.clone();
        diagnostic.traceback = self.0.traceback.clone();
        diagnostic
    }

    fn full_message(&self) -> String {
        let mut message = self.0.message.clone();
        for context in &self.0.context {
            message.push_str(", ");
            message.push_str(context);
        }
        message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(condition) = &self.0.condition {
            write!(f, "[{condition}] ")?;
        }
        f.write_str(&self.full_message())?;
        match &self.0.location {
            // The text came with the request: as in Spark, lines count from 1 and positions from 0.
            Some(at) if at.is_in_made_text() => write!(f, " (line {}, pos {})", at.line, at.column.saturating_sub(1))?,
            Some(location) => write!(f, " ({location})")?,
            None => {}
        }
        if let Some(help) = &self.0.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Our own errors travel through DataFusion as [`DataFusionError::External`] and come out unchanged.
impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        DataFusionError::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        crate::error_from_datafusion::convert(error)
    }
}

impl From<arrow::error::ArrowError> for Error {
    fn from(error: arrow::error::ArrowError) -> Self {
        DataFusionError::from(error).into()
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(Kind::Unavailable, error.to_string()).with_source(error)
    }
}
