//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use deltaworks_pipeline::event::Level;
use deltaworks_spark::connect::service::TlsIdentity;
use deltaworks_spark::{Error, Result};

use crate::engine::{Selection, UpdateRequest};
use crate::output::{ColorChoice, Verbosity};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the update failed
  2  wrong usage or settings
  3  the pipeline's definitions are invalid

PATH is a folder or a settings file (spark-pipeline.yml, databricks.yml, or settings in JSON).
Without it, the nearest settings file in this folder or one above it is used.";

/// Runs Delta Live Tables and Spark Declarative Pipelines on DataFusion and Delta Lake.
#[derive(Debug, Parser)]
#[command(name = "deltaworks", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Global {
    /// Show results and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Show the numbers of every batch
    #[arg(long, short, global = true)]
    verbose: bool,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: ColorChoice,
}

impl Global {
    pub(crate) fn verbosity(self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a pipeline with an example in a new folder
    Init(InitArgs),
    /// Check the definitions, without reading or writing data
    #[command(alias = "dry-run")]
    Validate(PipelineArgs),
    /// Run an update of the pipeline
    Run(RunArgs),
    /// Query the pipeline's tables
    Sql(SqlArgs),
    /// Serve the pipeline's tables to Spark Connect clients
    Connect(ConnectArgs),
    /// Show the event log
    Events(EventsArgs),
    /// Show the dataflow graph
    Graph(GraphArgs),
    /// Show how the latest update went
    Status(PipelineArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The name of the pipeline and of its folder
    pub(crate) name: String,
    /// The language of the example
    #[arg(long, value_enum, default_value_t)]
    pub(crate) language: InitLanguage,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InitLanguage {
    /// SQL files
    #[default]
    Sql,
    /// Python files
    Python,
}

/// Which pipeline, with which settings.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct PipelineArgs {
    /// The pipeline's folder or settings file
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SettingsArgs {
    /// Override a setting (such as `configuration.my_key`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) set: Vec<(String, String)>,
    /// The target of the bundle
    #[arg(long, short, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// The pipeline's key, if the settings have several
    #[arg(long, value_name = "KEY")]
    pub(crate) pipeline: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// Refresh these datasets only
    #[arg(long, value_name = "DATASETS", value_delimiter = ',')]
    pub(crate) refresh: Vec<String>,
    /// Clear and recompute these datasets
    #[arg(long, value_name = "DATASETS", value_delimiter = ',')]
    pub(crate) full_refresh: Vec<String>,
    /// Clear and recompute everything
    #[arg(long)]
    pub(crate) full_refresh_all: bool,
    /// Write one event per line as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Do not try failed flows again
    #[arg(long, conflicts_with = "production")]
    pub(crate) development: bool,
    /// Try failed flows again
    #[arg(long)]
    pub(crate) production: bool,
    /// Run until stopped, and look for new input again and again
    #[arg(long)]
    pub(crate) continuous: bool,
}

impl RunArgs {
    /// What is asked of the update.
    ///
    /// # Errors
    /// `CONFLICTING_PIPELINE_REFRESH_OPTIONS` (`User`) if everything and a selection are asked for at once; `User` if a
    /// selection names nothing.
    pub(crate) fn request(&self) -> Result<UpdateRequest> {
        for (option, names) in [("--refresh", &self.refresh), ("--full-refresh", &self.full_refresh)] {
            if !names.is_empty() && Selection::new(names).0.is_empty() {
                return Err(Error::user(format!("{option} names no dataset"))
                    .with_help(format!("Name datasets, as in `{option} orders,customers`, or leave it out.")));
            }
        }
        if self.full_refresh_all {
            let conflicting = match (self.refresh.is_empty(), self.full_refresh.is_empty()) {
                (true, true) => None,
                (false, _) => Some("--refresh"),
                (true, false) => Some("--full-refresh"),
            };
            if let Some(option) = conflicting {
                return Err(Error::user(format!("--full-refresh-all option conflicts with {option}"))
                    .with_condition("CONFLICTING_PIPELINE_REFRESH_OPTIONS")
                    .with_help("The option --full-refresh-all performs a full refresh of all datasets, so specifying individual datasets with other refresh options is not allowed."));
            }
        }
        Ok(UpdateRequest {
            refresh: Selection::new(&self.refresh),
            full_refresh: Selection::new(&self.full_refresh),
            full_refresh_all: self.full_refresh_all,
            dry_run: false,
        })
    }

    /// The settings to override: those asked for, and what options stand for.
    pub(crate) fn settings(&self) -> SettingsArgs {
        let mut settings = self.pipeline.settings.clone();
        if self.continuous {
            settings.set.push(("continuous".to_owned(), "true".to_owned()));
        }
        settings
    }

    /// `Some(true)` for development, `Some(false)` for production, `None` for what the settings say.
    pub(crate) fn development_mode(&self) -> Option<bool> {
        match (self.development, self.production) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The pipeline's folder or settings file (optional), and the query
    #[arg(value_name = "[PATH] QUERY", num_args = 1..=2, required = true)]
    path_and_query: Vec<String>,
    /// How to write the rows
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: RowFormat,
    #[command(flatten)]
    pub(crate) settings: SettingsArgs,
}

impl SqlArgs {
    /// The path, if one was given, and the query.
    pub(crate) fn path_and_query(&self) -> (Option<PathBuf>, &str) {
        match self.path_and_query.as_slice() {
            [path, query] => (Some(PathBuf::from(path)), query),
            [query] => (None, query),
            _ => (None, ""),
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// A table for people
    #[default]
    Table,
    /// Comma-separated values with a header
    Csv,
    /// One JSON object per row
    Json,
}

/// The port of Spark's own Connect server.
const CONNECT_PORT: u16 = 15_002;
/// Where the token may be given instead of on the command line, which other users can see.
const TOKEN_VARIABLE: &str = "DELTAWORKS_CONNECT_TOKEN";

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// The port; 0 takes a free one
    #[arg(long, default_value_t = CONNECT_PORT)]
    pub(crate) port: u16,
    /// The address to listen on; one that other machines reach needs a token
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) host: IpAddr,
    /// What clients must send as bearer token; better given in DELTAWORKS_CONNECT_TOKEN
    #[arg(long)]
    token: Option<Secret>,
    /// The server's certificate as PEM, and those it is signed by: connections are encrypted
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate as PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl ConnectArgs {
    /// The token that clients must send, if any.
    ///
    /// # Errors
    /// `User` if there is none and the address is not this machine's own.
    pub(crate) fn token(&self) -> Result<Option<String>> {
        self.token_or(std::env::var(TOKEN_VARIABLE).ok())
    }

    /// What connections are encrypted with, if anything.
    ///
    /// # Errors
    /// `User` if a file cannot be read or does not hold what it should.
    pub(crate) fn tls(&self) -> Result<Option<TlsIdentity>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|error| Error::user(format!("cannot read `{}`: {error}", path.display())))
        };
        TlsIdentity::from_pem(&read(certificate)?, &read(key)?).map(Some)
    }

    fn token_or(&self, variable: Option<String>) -> Result<Option<String>> {
        let given = self.token.as_ref().map(|Secret(token)| token.clone()).or(variable);
        match given.filter(|token| !token.is_empty()) {
            None if !self.host.is_loopback() => {
                Err(Error::user(format!("listening on {} needs a token: other machines can reach it", self.host))
                    .with_help(format!("Set {TOKEN_VARIABLE}, or give --token.")))
            }
            token => Ok(token),
        }
    }
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(...)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// How to write the events
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: EventFormat,
    /// Only these levels
    #[arg(long, value_delimiter = ',', value_name = "LEVELS", value_parser = level)]
    pub(crate) level: Vec<Level>,
    /// Only these event types
    #[arg(long, value_delimiter = ',', value_name = "TYPES")]
    pub(crate) event_type: Vec<String>,
    /// Only events of this update; `latest` for the latest one
    #[arg(long, value_name = "ID")]
    pub(crate) update_id: Option<String>,
    /// Only the latest so many
    #[arg(short = 'n', long = "number", default_value_t = 100, value_name = "N")]
    pub(crate) number: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum EventFormat {
    /// A table for people
    #[default]
    Table,
    /// One JSON object per event
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) pipeline: PipelineArgs,
    /// How to write the graph
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: GraphFormat,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A list of datasets with what they read
    #[default]
    Text,
    /// The language of Graphviz
    Dot,
    /// The language of Mermaid
    Mermaid,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn level(text: &str) -> Result<Level, String> {
    Level::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        format!("expected one of {}", words.join(", "))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn run(arguments: &[&str]) -> RunArgs {
        let all = ["deltaworks", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run(run) => run,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn refresh_lists_are_split_and_repeatable() {
        for option in ["--refresh", "--full-refresh"] {
            let error = run(&[option, " ,"]).request().unwrap_err();
            assert_eq!(error.message(), format!("{option} names no dataset"));
        }
        let request = run(&["p", "--refresh", "a,b", "--refresh", "c", "--full-refresh", "d"]).request().unwrap();
        assert_eq!(request.refresh, Selection::new(&["a".to_owned(), "b".to_owned(), "c".to_owned()]));
        assert_eq!(request.full_refresh, Selection::new(&["d".to_owned()]));
    }

    #[test]
    fn everything_and_a_selection_conflict_as_in_spark() {
        for option in ["--refresh", "--full-refresh"] {
            let error = run(&["--full-refresh-all", option, "a"]).request().unwrap_err();
            assert_eq!(error.condition(), Some("CONFLICTING_PIPELINE_REFRESH_OPTIONS"));
            assert_eq!(error.message(), format!("--full-refresh-all option conflicts with {option}"));
        }
        assert!(run(&["--full-refresh-all"]).request().unwrap().full_refresh_all);
    }

    #[test]
    fn dry_run_is_validate() {
        let cli = Cli::try_parse_from(["deltaworks", "dry-run", "p", "--set", "a=b=c"]).unwrap();
        let Command::Validate(args) = cli.command else { panic!("{cli:?}") };
        assert_eq!(args.settings.set, [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn sql_takes_an_optional_path_before_the_query() {
        let parse = |arguments: &[&str]| {
            let all = ["deltaworks", "sql"].iter().chain(arguments);
            match Cli::try_parse_from(all).unwrap().command {
                Command::Sql(sql) => (sql.path_and_query().0, sql.path_and_query().1.to_owned()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse(&["SELECT 1"]), (None, "SELECT 1".to_owned()));
        assert_eq!(parse(&["p", "SELECT 1"]), (Some(PathBuf::from("p")), "SELECT 1".to_owned()));
    }

    #[test]
    fn only_the_own_machine_needs_no_token() {
        let parse = |arguments: &[&str]| {
            let all = ["deltaworks", "connect"].iter().chain(arguments);
            match Cli::try_parse_from(all).unwrap().command {
                Command::Connect(connect) => connect,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(parse(&[]).token_or(None).unwrap(), None);
        assert_eq!(parse(&["--host", "::1"]).token_or(None).unwrap(), None);
        let open = parse(&["--host", "0.0.0.0"]);
        assert!(open.token_or(None).is_err());
        assert!(open.token_or(Some(String::new())).is_err());
        assert_eq!(open.token_or(Some("v".to_owned())).unwrap().as_deref(), Some("v"));
        let given = parse(&["--host", "0.0.0.0", "--token", "t"]);
        assert_eq!(given.token_or(Some("v".to_owned())).unwrap().as_deref(), Some("t"));
        assert!(!format!("{given:?}").contains("\"t\""), "the token is in the debug text");
    }

    #[test]
    fn help_documents_the_exit_codes() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_long_help().to_string());
    }
}
