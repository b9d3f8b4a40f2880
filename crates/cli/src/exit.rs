//! What the process tells its caller.

use std::path::Path;
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

    /// The code for an error while working on a pipeline: several problems at once are those of definitions; one that
    /// the user can cure lies where its location says, and without one on the command line or in the settings.
    pub(crate) fn of_pipeline_error(error: &Error) -> Self {
        let file = error.location().map(|location| location.file.as_path());
        match error.kind() {
            _ if !error.diagnostics().is_empty() => Self::InvalidDefinitions,
            Kind::User if file.is_none() => Self::Usage,
            Kind::User | Kind::Unsupported => file.map_or(Self::UpdateFailed, Self::of_file),
            _ => Self::UpdateFailed,
        }
    }

    /// The code for a problem in a file: settings, a source, or what stands for the query of the command line.
    fn of_file(file: &Path) -> Self {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("yml" | "yaml" | "json") => Self::Usage,
            _ if file.to_string_lossy().starts_with('<') => Self::UpdateFailed,
            _ => Self::InvalidDefinitions,
        }
    }
}
