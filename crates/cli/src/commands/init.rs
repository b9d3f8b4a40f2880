//! `deltaworks init`: a new pipeline with an example.

use crate::args::InitArgs;
use crate::engine;
use crate::exit::Exit;
use crate::output::Output;

pub(super) fn run(args: &InitArgs, output: &Output) -> Exit {
    let created = std::env::current_dir()
        .map_err(deltaworks_spark::Error::from)
        .and_then(|folder| engine::init(&folder, &args.name, args.language));
    match created {
        Ok(files) => {
            for file in files {
                output.note(&format!("created {}", file.display()));
            }
            output.note(&format!("\nRun it with: deltaworks run {}", args.name));
            Exit::Done
        }
        Err(error) => super::fail(&error, output, Exit::of_settings_error(&error)),
    }
}
