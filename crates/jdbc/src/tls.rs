//! TLS as libpq's `sslmode` and Connector/J's `sslMode` ask for it.

use std::path::Path;
use std::sync::Arc;

use deltaworks_spark::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::errors::no_tls;
use crate::url::Target;

/// Whether there is TLS, and what is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// None.
    Disable,
    /// If the server has it; nothing is checked.
    Prefer,
    /// Nothing is checked.
    Require,
    /// The certificate must be signed by an authority.
    VerifyCa,
    /// It must also be that of the host.
    VerifyFull,
}

impl Mode {
    /// What the properties of a connection ask for.
    ///
    /// # Errors
    /// `User` for a mode that does not exist.
    pub(crate) fn of(target: &Target) -> Result<Self> {
        let flag = |name: &str| target.property(name).map(|value| !value.eq_ignore_ascii_case("false"));
        if let Some(mode) = target.property("sslMode") {
            return Self::named(mode);
        }
        let wanted = flag("ssl").or_else(|| flag("useSSL"));
        Ok(match (wanted, flag("requireSSL")) {
            (Some(false), _) => Self::Disable,
            // PostgreSQL's driver then checks everything, MySQL's nothing.
            (Some(true), _) if flag("ssl").is_some() => Self::VerifyFull,
            (_, Some(true)) => Self::Require,
            _ => Self::Prefer,
        })
    }

    fn named(mode: &str) -> Result<Self> {
        match mode.to_ascii_lowercase().replace('_', "-").as_str() {
            "disable" | "disabled" => Ok(Self::Disable),
            "allow" | "prefer" | "preferred" => Ok(Self::Prefer),
            "require" | "required" | "trust" => Ok(Self::Require),
            "verify-ca" => Ok(Self::VerifyCa),
            "verify-full" | "verify-identity" => Ok(Self::VerifyFull),
            _ => Err(Error::user(format!(
                "`sslmode` has value `{mode}`, expected disable, prefer, require, verify-ca or verify-full"
            ))
            .with_condition("INVALID_PARAMETER_VALUE")),
        }
    }
}

/// The file with the authorities that are trusted instead of the system's.
pub(crate) fn root_file(target: &Target) -> Option<&str> {
    target.property("sslRootCert").or_else(|| target.property("serverSslCert"))
}

/// The settings of a client.
///
/// # Errors
/// `User` if there are no authorities to check by.
pub(crate) fn client(target: &Target, mode: Mode) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let failed = |error: rustls::Error| no_tls(target, &error.to_string());
    let verifier: Arc<dyn ServerCertVerifier> = match (mode, root_file(target)) {
        // As libpq: whoever names an authority wants it checked.
        (Mode::Disable | Mode::Prefer, _) | (Mode::Require, None) => {
            Arc::new(Lenient { chain: None, provider: Arc::clone(&provider) })
        }
        _ => {
            let roots = Arc::new(roots(target)?);
            let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| no_tls(target, &error.to_string()))?;
            match mode {
                Mode::VerifyFull => chain,
                _ => Arc::new(Lenient { chain: Some(chain), provider: Arc::clone(&provider) }),
            }
        }
    };
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// The authorities: those of the file that is named, or the system's.
fn roots(target: &Target) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(certificates(target)?);
    match store.is_empty() {
        true => Err(no_tls(target, "there is no certificate authority to check by")),
        false => Ok(store),
    }
}

/// The certificates of the authorities.
///
/// # Errors
/// `User` if the file that is named has none.
pub(crate) fn certificates(target: &Target) -> Result<Vec<CertificateDer<'static>>> {
    let Some(file) = root_file(target) else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let read = CertificateDer::pem_file_iter(Path::new(file)).and_then(Iterator::collect);
    read.map_err(|error| no_tls(target, &format!("no certificates in `{file}`: {error}")))
}

/// Whether TLS is why something failed.
pub(crate) fn is_cause(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if error.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Checks less than everything: the chain without the name, or nothing but signatures.
#[derive(Debug)]
struct Lenient {
    chain: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn modes_of_all_drivers() {
        let check = |url: &str, expected: Mode| {
            assert_eq!(Mode::of(&Target::parse(url).unwrap()).unwrap(), expected, "{url}");
        };
        check("jdbc:postgresql://h/d", Mode::Prefer);
        check("jdbc:postgresql://h/d?ssl=true", Mode::VerifyFull);
        check("jdbc:postgresql://h/d?ssl=true&sslmode=require", Mode::Require);
        check("jdbc:mysql://h/d?useSSL=false", Mode::Disable);
        check("jdbc:mysql://h/d?useSSL=true&requireSSL=true", Mode::Require);
        check("jdbc:mysql://h/d?sslMode=VERIFY_IDENTITY", Mode::VerifyFull);
        check("jdbc:mariadb://h/d?sslMode=verify-ca", Mode::VerifyCa);
        let wrong = Target::parse("jdbc:postgresql://h/d?sslmode=maybe").unwrap();
        assert!(Mode::of(&wrong).unwrap_err().message().contains("`sslmode` has value `maybe`"));
    }
}
