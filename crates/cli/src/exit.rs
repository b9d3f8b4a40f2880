//! What the process tells its caller.

use std::process::ExitCode;

use deltaworks_spark::{Error, Kind};

/// The exit codes, as documented in `--help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything asked for was done.
    Done = 0,
    /// The update, or another operation, failed.
    UpdateFailed = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// The definitions are wrong.
    InvalidDefinitions = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    /// The code for an error while reading the command line or the settings.
    pub(crate) fn of_settings_error(error: &Error) -> Self {
        match error.kind() {
            Kind::User | Kind::Unsupported => Self::Usage,
            Kind::Data | Kind::Conflict | Kind::Unavailable | Kind::Cancelled | Kind::Internal => Self::UpdateFailed,
        }
    }

    /// The code for an error while working on a pipeline: several problems at once are those of definitions; what the
    /// user did and no source file shows is on the command line or in the settings.
    pub(crate) fn of_pipeline_error(error: &Error) -> Self {
        match error.kind() {
            _ if !error.diagnostics().is_empty() => Self::InvalidDefinitions,
            Kind::User if error.location().is_none() => Self::Usage,
            _ => Self::UpdateFailed,
        }
    }
}
