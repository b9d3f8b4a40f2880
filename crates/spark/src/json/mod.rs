//! JSON text to Arrow arrays, and schemas from JSON text.

mod column;
mod compact;
mod decode;
mod infer;
mod nesting;
mod relaxed;
mod write;

pub(crate) use compact::compact;
pub(crate) use decode::MAX_DEPTH;
pub use decode::{Decoder, DecoderOptions};
pub use infer::{InferOptions, infer};
pub(crate) use nesting::is_shallow;
pub use relaxed::Relaxed;
pub use write::Writer;
pub(crate) use write::quote;
