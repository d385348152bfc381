//! Which certificates of receivers are trusted.
//!
//! Made once from the settings; the connector and the commands use it. Chains are checked by
//! rustls. Beyond that, a certificate of the operator's own file is trusted for its own names.
//!
//! The provider is AWS-LC, which takes all that ring takes, and P-521 keys and ecdsa-with-SHA512. On
//! x86_64 and aarch64 Linux it builds with the C compiler that linking needs anyway, without CMake,
//! assembler or bindgen. Measured against ring in a program of its own: a build takes 50 s of processor
//! time more, the binary is 2.4 MB larger, and a full handshake takes as long or a tenth less.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use rustls_native_certs::ErrorKind;

use crate::shortage::Shortage;

/// Trusts the system's certificates, or Mozilla's where the system has none, and those of an extra
/// file; `name` is its name in errors.
pub fn client_config(name: &str, extra_ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // A store with an unreadable file in it is still a store; one that could not be opened for want of a
    // file descriptor is not an empty one.
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        if let ErrorKind::Io { inner, .. } = &error.kind
            && Shortage::of(inner).is_some()
        {
            return Err(format!("the system's certificates cannot be read: {inner}"));
        }
    }
    roots.add_parsable_certificates(native.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let mut pinned = Vec::new();
    if let Some(path) = extra_ca_file {
        let problem = |what: &str| format!("{name}: {}: {what}", path.display());
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(|certificates| certificates.collect::<Result<Vec<_>, _>>())
            .map_err(|error| problem(&error.to_string()))?;
        if certificates.is_empty() {
            return Err(problem("there is no certificate in it"));
        }
        for certificate in certificates {
            pinned.push(certificate.clone());
            roots
                .add(certificate)
                .map_err(|error| problem(&error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .build()
        .map_err(|error| format!("{name}: no certificate can be checked: {error}"))?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has ciphers for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trust { chains, pinned }))
        .with_no_client_auth();
    // Never h2: awc would speak it with h2 0.3.27, which has RUSTSEC-2026-0258 (see deny.toml).
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Chains to a trusted root, and certificates that the operator trusts themselves.
#[derive(Debug)]
struct Trust {
    chains: Arc<WebPkiServerVerifier>,
    /// The certificates of `delivery.extra_ca_file`.
    pinned: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self
            .chains
            .verify_server_cert(certificate, intermediates, name, ocsp, now);
        match checked {
            // `openssl req -x509` makes a certificate of an authority, which may not be a server's.
            // The time has been checked before that, and has errors of its own.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|one| one == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}
