//! The commands: each asks the engine, shows what it says, and tells how it went.

mod connect;
mod events;
mod graph;
mod init;
mod run;
mod sql;
mod status;
mod validate;

use deltaworks_spark::Error;

use crate::args::{Cli, Command};
use crate::diagnostics::{self, Folder};
use crate::engine::{self, Engine, OpenOptions};
use crate::exit::Exit;
use crate::output::{Output, Verbosity};

/// Runs the command asked for.
pub(crate) async fn dispatch(cli: Cli, output: &Output) -> Exit {
    let options = match &cli.command {
        Command::Init(args) => return init::run(args, output),
        Command::Run(args) => {
            // Before anything is opened: contradictory options are wrong whatever the pipeline is.
            if let Err(error) = args.request() {
                return fail(&error, output, Exit::Usage);
            }
            OpenOptions {
                development: args.development_mode(),
                settings: args.settings(),
                ..OpenOptions::from(&args.pipeline)
            }
        }
        Command::Validate(args) | Command::Status(args) => OpenOptions::from(args),
        Command::Sql(args) => {
            OpenOptions { path: args.path_and_query().0, settings: args.settings.clone(), ..OpenOptions::default() }
        }
        Command::Connect(args) => {
            if let Err(error) = args.token() {
                return fail(&error, output, Exit::Usage);
            }
            OpenOptions { or_empty: true, ..OpenOptions::from(&args.pipeline) }
        }
        Command::Events(args) => OpenOptions::from(&args.pipeline),
        Command::Graph(args) => OpenOptions::from(&args.pipeline),
    };
    let opened = match engine::open(&options).await {
        Ok(opened) => opened,
        Err(error) => return fail(&error, output, Exit::of_settings_error(&error)),
    };
    let engine = opened.engine.as_ref();
    if output.verbosity > Verbosity::Quiet {
        output.error(&diagnostics::render_all(&opened.warnings, &Folder(engine.root()), output.color_errors));
    }
    let done = match &cli.command {
        Command::Init(args) => Ok(init::run(args, output)),
        Command::Validate(_) => validate::run(engine, output).await,
        Command::Run(args) => run::run(engine, args, output).await,
        Command::Sql(args) => sql::run(engine, args, output).await,
        Command::Connect(args) => connect::run(engine, args, output).await,
        Command::Events(args) => events::run(engine, args, output).await,
        Command::Graph(args) => graph::run(engine, args, output).await,
        Command::Status(_) => status::run(engine, output).await,
    };
    done.unwrap_or_else(|error| {
        show_error(&error, engine, output);
        Exit::of_pipeline_error(&error)
    })
}

/// Shows an error that has nothing to do with source files.
fn fail(error: &Error, output: &Output, exit: Exit) -> Exit {
    let folder = std::env::current_dir().unwrap_or_default();
    show(error, &folder, output);
    exit
}

fn show_error(error: &Error, engine: &dyn Engine, output: &Output) {
    show(error, engine.root(), output);
}

fn show(error: &Error, folder: &std::path::Path, output: &Output) {
    let problems = diagnostics::of_error(error);
    let text = match problems.as_slice() {
        [single] => diagnostics::render(single, &Folder(folder), output.color_errors),
        several => diagnostics::render_all(several, &Folder(folder), output.color_errors),
    };
    output.error(&text);
}

#[cfg(test)]
mod tests;
