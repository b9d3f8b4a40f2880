//! Plans that a client has compressed.

use std::io::Read as _;

use prost::Message;

use crate::connect::proto::plan::{CompressedOperation, OpType, compressed_operation};
use crate::connect::proto::{self, CompressionCodec};
use crate::error::{Error, Result};

/// The largest plan; clients compress what is larger than a message may be, too.
const MAX_PLAN_BYTES: u64 = 512 * 1024 * 1024;

/// The operation of a plan, as it was before it was compressed.
///
/// # Errors
/// `CONNECT_INVALID_PLAN.*` (`User`): the client sends what follows as it is.
pub(super) fn operation(plan: Option<proto::Plan>) -> Result<Option<OpType>> {
    match plan.and_then(|plan| plan.op_type) {
        Some(OpType::CompressedOperation(compressed)) => decompressed(&compressed).map(Some),
        operation => Ok(operation),
    }
}

fn decompressed(compressed: &CompressedOperation) -> Result<OpType> {
    if compressed.compression_codec() != CompressionCodec::Zstd {
        return Err(cannot_parse("only the codec ZSTD is known"));
    }
    let mut bytes = Vec::new();
    let decoder = zstd::Decoder::new(compressed.data.as_ref()).map_err(cannot_parse)?;
    decoder.take(MAX_PLAN_BYTES + 1).read_to_end(&mut bytes).map_err(cannot_parse)?;
    if bytes.len() as u64 > MAX_PLAN_BYTES {
        return Err(Error::user(format!("the plan is larger than {} MiB", MAX_PLAN_BYTES >> 20))
            .with_condition("CONNECT_INVALID_PLAN.PLAN_SIZE_LARGER_THAN_MAX")
            .with_help("Write the data to a file or a table, and read it from there."));
    }
    match compressed.op_type() {
        compressed_operation::OpType::Relation => {
            Ok(OpType::Root(proto::Relation::decode(&bytes[..]).map_err(cannot_parse)?))
        }
        compressed_operation::OpType::Command => {
            Ok(OpType::Command(proto::Command::decode(&bytes[..]).map_err(cannot_parse)?))
        }
        compressed_operation::OpType::Unspecified => Err(cannot_parse("it is of no kind")),
    }
}

fn cannot_parse(why: impl std::fmt::Display) -> Error {
    Error::user(format!("a compressed plan cannot be read: {why}")).with_condition("CONNECT_INVALID_PLAN.CANNOT_PARSE")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::connect::proto::relation::RelType;

    fn plan(data: Vec<u8>, codec: CompressionCodec) -> proto::Plan {
        let compressed = CompressedOperation {
            data: data.into(),
            op_type: compressed_operation::OpType::Relation.into(),
            compression_codec: codec.into(),
        };
        proto::Plan { op_type: Some(OpType::CompressedOperation(compressed)) }
    }

    #[test]
    fn plans_are_decompressed() {
        let range = proto::Range { end: 7, step: 1, ..proto::Range::default() };
        let relation = proto::Relation { common: None, rel_type: Some(RelType::Range(range)) };
        let data = zstd::encode_all(&relation.encode_to_vec()[..], 0).unwrap();
        let read = operation(Some(plan(data, CompressionCodec::Zstd))).unwrap();
        assert_eq!(read, Some(OpType::Root(relation)));
    }

    #[test]
    fn what_is_no_compressed_plan_is_sent_again_as_it_is() {
        for (data, codec) in [(vec![1, 2, 3], CompressionCodec::Zstd), (Vec::new(), CompressionCodec::Unspecified)] {
            let error = operation(Some(plan(data, codec))).unwrap_err();
            assert_eq!(error.condition(), Some("CONNECT_INVALID_PLAN.CANNOT_PARSE"));
        }
    }

    #[test]
    fn plans_that_would_grow_too_large_are_refused() {
        let zeros = std::io::repeat(0).take(MAX_PLAN_BYTES + 1);
        let data = zstd::encode_all(zeros, 0).unwrap();
        let error = operation(Some(plan(data, CompressionCodec::Zstd))).unwrap_err();
        assert_eq!(error.condition(), Some("CONNECT_INVALID_PLAN.PLAN_SIZE_LARGER_THAN_MAX"));
    }
}
