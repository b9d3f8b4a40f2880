//! Connections that are encrypted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::error::{Error, Result};

/// How long a client may take to agree on a connection.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How many connections wait to be served.
const WAITING: usize = 32;

/// What a server proves its name with.
#[derive(Clone)]
pub struct TlsIdentity(Arc<ServerConfig>);

impl std::fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsIdentity")
    }
}

impl TlsIdentity {
    /// The chain of certificates, the server's own first, and its key, both as PEM.
    ///
    /// # Errors
    /// `User` if they are not what they should be, or do not belong together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self> {
        let chain = CertificateDer::pem_slice_iter(certificates).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| Error::user(format!("the TLS certificate is not PEM: {error:?}")))?;
        if chain.is_empty() {
            return Err(Error::user("the file of the TLS certificate holds none"));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| Error::user(format!("the TLS key is not a private key as PEM: {error:?}")))?;
        let unusable = |error: rustls::Error| Error::user(format!("the TLS certificate cannot be used: {error}"));
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// The connections to `listener` that have been agreed on. A client that is slow to do so keeps nobody waiting.
    pub(super) fn connections(self, listener: TcpListener) -> ReceiverStream<io::Result<Connection>> {
        let (sender, connections) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(self.0);
            loop {
                let accepted = tokio::select! {
                    () = sender.closed() => return,
                    accepted = listener.accept() => accepted,
                };
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // The server decides which of these it survives.
                        let _told = sender.send(Err(error)).await;
                        continue;
                    }
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    let agreed = async {
                        stream.set_nodelay(true)?;
                        tokio::time::timeout(HANDSHAKE_TIME, acceptor.accept(stream)).await?
                    };
                    match agreed.await {
                        // A server that has ended wants no connection.
                        Ok(stream) => drop(sender.send(Ok(Connection(stream))).await),
                        Err(error) => tracing::debug!(%error, "a client could not agree on a TLS connection"),
                    }
                });
            }
        });
        ReceiverStream::new(connections)
    }
}

/// One encrypted connection.
pub(super) struct Connection(TlsStream<TcpStream>);

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.0.get_ref().0.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_no_certificate_or_key_is_told() {
        let told = |certificate: &str, key: &str| {
            TlsIdentity::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap_err().to_string()
        };
        assert!(told("", "").contains("the file of the TLS certificate holds none"));
        let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(told(certificate, "").contains("the TLS key is not a private key"));
    }
}
