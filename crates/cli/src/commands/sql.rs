//! `deltaworks sql`: a query over the pipeline's tables.

use deltaworks_spark::Result;

use crate::args::SqlArgs;
use crate::engine::Engine;
use crate::exit::Exit;
use crate::format;
use crate::output::Output;

pub(super) async fn run(engine: &dyn Engine, args: &SqlArgs, output: &Output) -> Result<Exit> {
    let (schema, batches) = engine.query(args.path_and_query().1).await?;
    output.result(&format::render(&schema, &batches, args.format)?);
    Ok(Exit::Done)
}
