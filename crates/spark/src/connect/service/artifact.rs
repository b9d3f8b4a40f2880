//! Uploads: files of the user, and local data too large for a plan.

use std::collections::HashMap;

use bytes::BytesMut;
use tonic::{Status, Streaming};

use super::ConnectService;
use crate::connect::proto;
use crate::connect::proto::add_artifacts_request::{ArtifactChunk, Payload};
use crate::connect::proto::add_artifacts_response::ArtifactSummary;
use crate::connect::proto::artifact_statuses_response::ArtifactStatus;

impl ConnectService {
    pub async fn add_artifacts(
        &self,
        mut requests: Streaming<proto::AddArtifactsRequest>,
    ) -> Result<proto::AddArtifactsResponse, Status> {
        let mut session = None;
        let mut artifacts = Vec::new();
        let mut open: Option<Upload> = None;
        while let Some(request) = requests.message().await? {
            if session.is_none() {
                session = Some(self.session_of(&request).await?);
            }
            let Some(session) = &session else { continue };
            let mut done = Vec::new();
            match request.payload {
                Some(Payload::Batch(batch)) => {
                    for artifact in batch.artifacts {
                        let mut upload = Upload::new(artifact.name, 1);
                        upload.add(artifact.data);
                        done.push(upload);
                    }
                }
                Some(Payload::BeginChunk(begin)) => {
                    let mut upload = Upload::new(begin.name, begin.num_chunks);
                    upload.add(begin.initial_chunk);
                    open = Some(upload);
                }
                Some(Payload::Chunk(chunk)) => match &mut open {
                    Some(upload) => upload.add(Some(chunk)),
                    None => return Err(Status::invalid_argument("a chunk of no artifact")),
                },
                None => {}
            }
            if open.as_ref().is_some_and(|upload| upload.missing <= 0) {
                done.extend(open.take());
            }
            for upload in done {
                artifacts.push(ArtifactSummary { name: upload.name.clone(), is_crc_successful: upload.intact });
                if upload.intact {
                    session.artifacts.put(upload.name, upload.data.freeze());
                }
            }
        }
        let session = session.ok_or_else(|| Status::invalid_argument("an upload without a request"))?;
        Ok(proto::AddArtifactsResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            artifacts,
        })
    }

    pub async fn artifact_status(
        &self,
        request: proto::ArtifactStatusesRequest,
    ) -> Result<proto::ArtifactStatusesResponse, Status> {
        let session = self.session_of(&request).await?;
        let statuses: HashMap<_, _> = request
            .names
            .into_iter()
            .map(|name| {
                let exists = session.artifacts.get(&name).is_some();
                (name, ArtifactStatus { exists })
            })
            .collect();
        Ok(proto::ArtifactStatusesResponse {
            session_id: session.id.clone(),
            server_side_session_id: session.server_id.clone(),
            statuses,
        })
    }
}

/// An artifact that is still arriving.
struct Upload {
    name: String,
    data: BytesMut,
    missing: i64,
    intact: bool,
}

impl Upload {
    fn new(name: String, chunks: i64) -> Self {
        Self { name, data: BytesMut::new(), missing: chunks, intact: true }
    }

    fn add(&mut self, chunk: Option<ArtifactChunk>) {
        let chunk = chunk.unwrap_or_default();
        self.intact &= i64::from(crc32(&chunk.data)) == chunk.crc;
        self.data.extend_from_slice(&chunk.data);
        self.missing -= 1;
    }
}

/// The checksum of zlib, which the client sends with every chunk.
fn crc32(data: &[u8]) -> u32 {
    let crc = data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32;

    #[test]
    fn checksum_is_zlibs() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
