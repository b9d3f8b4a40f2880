//! JSON text to Arrow arrays, and schemas from JSON text.

mod column;
mod decode;
mod infer;
mod relaxed;
mod write;

pub use decode::{Decoded, Decoder, DecoderOptions};
pub use infer::{InferOptions, infer};
pub use relaxed::Relaxed;
pub use write::Writer;
