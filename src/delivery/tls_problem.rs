//! TLS's complaints about a receiver, in plain words.
//!
//! The connector and the stream below awc ask. A sentence has no names of a library and no numbers of
//! an algorithm; where there is none for a refusal, the log at the level debug has the library's words.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

/// The sentence for an error of TLS; `None` for an error that is not TLS's.
pub fn tls_problem(error: &io::Error) -> Option<String> {
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    let error = inner.downcast_ref::<rustls::Error>()?;
    log::debug!("TLS with a receiver failed: {error}");
    Some(sentence(error))
}

fn sentence(error: &rustls::Error) -> String {
    use rustls::Error::*;
    let sentence = match error {
        InvalidCertificate(problem) => certificate_problem(problem),
        AlertReceived(alert) => return refusal(*alert),
        NoCertificatesPresented => "The receiver presented no certificate.",
        InvalidMessage(_) => "The receiver does not speak TLS.",
        PeerIncompatible(_) => {
            "The receiver speaks no version, cipher or kind of signature of TLS that is accepted: it \
             must have TLS 1.2 with ECDHE and AES-GCM or ChaCha20, or TLS 1.3."
        }
        NoApplicationProtocol => NO_HTTP_1,
        PeerMisbehaved(_)
        | InappropriateMessage { .. }
        | InappropriateHandshakeMessage { .. }
        | PeerSentOversizedRecord => "The receiver breaks the rules of TLS.",
        DecryptError => {
            "What came from the receiver cannot be decrypted: it was changed on the way, or the \
             receiver breaks the rules of TLS."
        }
        _ => "TLS failed for a reason that is rare; the server's log at the level debug has it.",
    };
    sentence.to_owned()
}

const NO_HTTP_1: &str = "The receiver does not speak HTTP/1.1 over TLS, and HTTP/2 is not offered.";

/// The reason that a receiver gave for ending the handshake (RFC 8446, section 6).
fn refusal(alert: AlertDescription) -> String {
    use AlertDescription::*;
    let sentence = match alert {
        CertificateRequired => "The receiver wants a client certificate, and there is none.",
        HandshakeFailure | InsufficientSecurity => {
            "The receiver found no TLS version, cipher or kind of certificate that both sides accept."
        }
        ProtocolVersion => {
            "The receiver speaks neither TLS 1.2 nor TLS 1.3; older versions are not safe."
        }
        NoApplicationProtocol => NO_HTTP_1,
        UnrecognisedName => "The receiver serves no host of that name over TLS.",
        AccessDenied => "The receiver refused the TLS connection: it denies access.",
        InternalError => "The receiver ended the TLS handshake with an error of its own.",
        BadCertificate
        | UnsupportedCertificate
        | CertificateRevoked
        | CertificateExpired
        | CertificateUnknown
        | UnknownCA => {
            "The receiver refused the TLS connection over a certificate, though none was sent to it."
        }
        UserCanceled | CloseNotify => "The receiver ended the TLS handshake.",
        other => {
            return format!(
                "The receiver refused the TLS connection with alert {} of RFC 8446.",
                u8::from(other)
            );
        }
    };
    sentence.to_owned()
}

fn certificate_problem(problem: &CertificateError) -> &'static str {
    use CertificateError::*;
    match problem {
        Expired | ExpiredContext { .. } => "The receiver's certificate has expired.",
        NotValidYet | NotValidYetContext { .. } => "The receiver's certificate is not valid yet.",
        NotValidForName | NotValidForNameContext { .. } => {
            "The receiver's certificate is for another host."
        }
        UnknownIssuer => {
            "The issuer of the receiver's certificate is unknown; the receiver may have left out an \
             intermediate certificate."
        }
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "The receiver's certificate, or one that it depends on, has a key or signature of a kind \
             that is not supported: RSA of at least 2048 bits, P-256, P-384, P-521 and Ed25519 are, \
             with SHA-256, SHA-384 or SHA-512."
        }
        BadSignature => {
            "A signature of the receiver is wrong: its certificate, or one that it depends on, was \
             changed, or the receiver does not hold its key."
        }
        BadEncoding => {
            "The receiver's certificate, or one that it depends on, is damaged or not of version 3."
        }
        InvalidPurpose | InvalidPurposeContext { .. } => {
            "The receiver's certificate is for another purpose than a server's."
        }
        UnhandledCriticalExtension => {
            "The receiver's certificate, or one that it depends on, has a critical extension that is \
             not supported."
        }
        Revoked => "The receiver's certificate has been revoked.",
        _ => {
            "The receiver's certificate is not acceptable: it, or one that it depends on, breaks a \
             rule of its authority, or it is a certificate of an authority (CA:TRUE), which is a \
             server's only where the operator's file of extra certificates has it."
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    fn told(error: rustls::Error) -> String {
        tls_problem(&io::Error::new(io::ErrorKind::InvalidData, error)).expect("it is of TLS")
    }

    #[test]
    fn each_refusal_is_a_sentence_without_names_of_a_library() {
        let certificate = rustls::Error::InvalidCertificate;
        let alert = rustls::Error::AlertReceived;
        let unsupported = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![6, 8, 42, 134, 72, 206, 61, 4, 3, 4],
            supported_algorithms: Vec::new(),
        };
        let other = CertificateError::Other(OtherError(std::sync::Arc::new(io::Error::other(
            "CaUsedAsEndEntity",
        ))));
        for (error, expected) in [
            (certificate(CertificateError::Expired), "has expired"),
            (certificate(CertificateError::NotValidYet), "not valid yet"),
            (
                certificate(CertificateError::NotValidForName),
                "another host",
            ),
            (certificate(CertificateError::UnknownIssuer), "is unknown"),
            (certificate(CertificateError::BadSignature), "is wrong"),
            (certificate(CertificateError::BadEncoding), "is damaged"),
            (
                certificate(CertificateError::InvalidPurpose),
                "another purpose",
            ),
            (certificate(CertificateError::Revoked), "been revoked"),
            (
                certificate(CertificateError::UnhandledCriticalExtension),
                "critical extension",
            ),
            (certificate(unsupported), "of a kind that is not supported"),
            (certificate(other), "not acceptable"),
            (
                certificate(CertificateError::UnknownRevocationStatus),
                "not acceptable",
            ),
            (
                alert(AlertDescription::CertificateRequired),
                "wants a client certificate",
            ),
            (
                alert(AlertDescription::HandshakeFailure),
                "both sides accept",
            ),
            (alert(AlertDescription::ProtocolVersion), "neither TLS 1.2"),
            (
                alert(AlertDescription::UnrecognisedName),
                "no host of that name",
            ),
            (alert(AlertDescription::UnknownCA), "over a certificate"),
            (alert(AlertDescription::InternalError), "error of its own"),
            (alert(AlertDescription::DecodeError), "alert 50 of RFC 8446"),
            (
                rustls::Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "must have TLS 1.2",
            ),
            (
                rustls::Error::PeerMisbehaved(PeerMisbehaved::TooMuchEarlyDataReceived),
                "breaks the rules",
            ),
            (
                rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "does not speak TLS",
            ),
            (rustls::Error::NoCertificatesPresented, "no certificate"),
            (rustls::Error::DecryptError, "cannot be decrypted"),
            (rustls::Error::EncryptError, "is rare"),
        ] {
            let library = format!("{error:?}");
            let told = told(error);
            assert!(told.contains(expected), "{library}: {told}");
            assert!(told.ends_with('.'), "{told}");
            for word in ["Error", "Algorithm", "CaUsed", "1.2.840", "webpki", "::"] {
                assert!(!told.contains(word), "{told}");
            }
        }
    }

    #[test]
    fn an_error_of_the_network_has_no_sentence() {
        assert_eq!(tls_problem(&io::ErrorKind::ConnectionReset.into()), None);
        assert_eq!(tls_problem(&io::Error::other("broken")), None);
    }
}
