//! The `deltaworks` command: commands, progress display, exit codes.
//!
//! How anything is computed is the business of `deltaworks-pipeline`, reached through [`engine`] only. What
//! is shown of an update is derived from its events ([`display`]); what is written goes through [`output`].

mod args;
mod commands;
mod diagnostics;
mod display;
mod engine;
mod exit;
mod format;
mod graph;
mod logging;
mod output;
mod panics;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;
use crate::output::Output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Plans are walked by recursion, within futures that are as deep: unoptimised, two megabytes are too few for some.
const STACK_BYTES: usize = 16 << 20;

fn main() -> ExitCode {
    let cli = Cli::parse();
    logging::init();
    panics::init();
    let output = Output::standard(cli.global.color, cli.global.verbosity());
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = match runtime.enable_all().thread_name("deltaworks").thread_stack_size(STACK_BYTES).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.error_line(&format!("error: cannot start: {error}"));
            return exit::Exit::UpdateFailed.into();
        }
    };
    let exit = runtime.block_on(commands::dispatch(cli, &output));
    runtime.shutdown_background();
    exit.into()
}
