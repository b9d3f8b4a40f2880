//! JSON text to Arrow arrays, and schemas from JSON text.

mod column;
mod decode;
mod infer;

pub use decode::{Decoded, Decoder, DecoderOptions};
pub use infer::{InferOptions, infer};
