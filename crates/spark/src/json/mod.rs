//! JSON text to Arrow arrays, and schemas from JSON text.

mod column;
mod compact;
mod decode;
mod infer;
mod relaxed;
mod write;

pub(crate) use compact::compact;
pub use decode::{Decoder, DecoderOptions};
pub use infer::{InferOptions, infer};
pub use relaxed::Relaxed;
pub use write::Writer;
pub(crate) use write::quote;
