//! Drives a decoder of records over the blocks of a text file.

use deltaworks_spark::Result;
use futures::stream::{BoxStream, StreamExt, try_unfold};

use super::blocks::{Blocks, TextLayout};
use super::{Decoded, FileTask};

/// Decodes records of text into columns.
pub(crate) trait RecordDecoder: Send + 'static {
    /// Decodes records from `at` on, up to a batch, and moves `at` behind them.
    fn decode(&mut self, block: &str, at: &mut usize) -> Result<Decoded>;

    /// Called before the first block: `first` if it begins the file.
    fn start(&mut self, first: bool);
}

struct State<D> {
    blocks: Blocks,
    decoder: D,
    block: String,
    at: usize,
}

/// The rows of a task.
pub(crate) fn decode_stream<D: RecordDecoder>(
    task: FileTask,
    layout: &TextLayout,
    mut decoder: D,
) -> BoxStream<'static, Result<Decoded>> {
    let blocks = Blocks::open(task, layout);
    decoder.start(blocks.at_file_start());
    let state = State { blocks, decoder, block: String::new(), at: 0 };
    try_unfold(state, |mut state| async move {
        loop {
            while state.at < state.block.len() {
                let decoded = state.decoder.decode(&state.block, &mut state.at)?;
                if decoded.rows > 0 || !decoded.bad.is_empty() {
                    return Ok(Some((decoded, state)));
                }
            }
            match state.blocks.next().await? {
                Some(block) => (state.block, state.at) = (block, 0),
                None => return Ok(None),
            }
        }
    })
    .boxed()
}
