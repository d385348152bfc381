//! From a host's name to a connection that may carry a request: resolve, check every address,
//! dial, shake hands.
//!
//! It is the connector that awc's pools call. What awc is given is always `http://host:port`; the
//! TLS of `https` endpoints is made here, so that the stream wrapper stands above it and its
//! errors are known as what they are. No address is dialled that the rule does not allow, and
//! nothing comes between the check and the dialling. Failures are noted in the exchange's trace;
//! awc only learns that there is one.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::http::Uri;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Settings;
use super::resolve::Resolver;
use super::stream::{FRAMES_BYTES_MAX, OpenConnections, Stream, Transport};
use super::trace::{Phase, Trace, failure, microseconds};
use crate::clock::Clock;
use crate::domain::attempt::{Failure, FailureKind};

#[derive(Clone)]
pub struct Connector {
    pub settings: Arc<Settings>,
    pub clock: Clock,
    pub resolver: Rc<Resolver>,
    pub open: OpenConnections,
    /// Connections are encrypted.
    pub tls: bool,
}

impl Service<ConnectInfo<Uri>> for Connector {
    type Response = Connection<Uri, Stream>;
    // Never `InvalidInput`, at which awc panics.
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>>>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let uri = info.request().clone();
            let trace = Trace::current().ok_or(ConnectError::Unresolved)?;
            match connector.connect_in_time(&uri, &trace).await {
                Ok(transport) => {
                    let limit = connector.settings.answer_read_bytes + FRAMES_BYTES_MAX;
                    let stream = Stream::new(transport, connector.open.clone(), limit);
                    Ok(Connection::new(uri, stream))
                }
                Err(failure) => {
                    trace.fail(failure);
                    Err(ConnectError::Io(io::Error::other("noted in the trace")))
                }
            }
        })
    }
}

impl Connector {
    async fn connect_in_time(&self, uri: &Uri, trace: &Trace) -> Result<Transport, Failure> {
        let limit = self.settings.connect_timeout;
        match within(&self.clock, limit, self.connect(uri, trace)).await {
            Some(result) => result,
            None => Err(failure(
                FailureKind::ConnectionFailed,
                took_longer(trace.phase.get(), limit),
            )),
        }
    }

    async fn connect(&self, uri: &Uri, trace: &Trace) -> Result<Transport, Failure> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if self.tls { 443 } else { 80 });

        let addresses = self.allowed_addresses(host, trace).await?;
        trace.phase.set(Phase::Connecting);
        let started = Instant::now();
        let tcp = dial(&addresses, port, self.settings.connect_timeout, &self.clock).await?;
        trace.time(|timings| timings.connect_us = Some(microseconds(started.elapsed())));
        if !self.tls {
            return Ok(Transport::Plain(tcp));
        }

        trace.phase.set(Phase::Handshaking);
        let started = Instant::now();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            failure(
                FailureKind::Tls,
                "No certificate can be for the host's name.",
            )
        })?;
        let tls = TlsConnector::from(self.settings.tls.clone())
            .connect(name, tcp)
            .await
            .map_err(|error| {
                let problem = tls_problem(&error);
                failure(
                    FailureKind::Tls,
                    problem.unwrap_or_else(|| {
                        format!("The connection ended within the TLS handshake: {error}.")
                    }),
                )
            })?;
        trace.time(|timings| timings.tls_us = Some(microseconds(started.elapsed())));
        Ok(Transport::Tls(Box::new(tls)))
    }

    /// The host's addresses, without those that the rule forbids.
    async fn allowed_addresses(&self, host: &str, trace: &Trace) -> Result<Vec<IpAddr>, Failure> {
        let rule = &self.settings.address_rule;
        let allowed: Vec<IpAddr> = match host.parse::<IpAddr>() {
            Ok(literal) => Vec::from_iter(rule.allows(literal).then_some(literal)),
            Err(_) => {
                let started = Instant::now();
                let resolved = self.resolver.resolve(host).await;
                trace.time(|timings| timings.dns_us = Some(microseconds(started.elapsed())));
                let resolved = resolved.map_err(|why| {
                    failure(
                        FailureKind::Dns,
                        format!("The host's name did not resolve: {why}."),
                    )
                })?;
                resolved
                    .iter()
                    .copied()
                    .filter(|ip| rule.allows(*ip))
                    .collect()
            }
        };
        if allowed.is_empty() {
            // Which addresses they are is not for the customer to know.
            return Err(failure(
                FailureKind::AddressForbidden,
                "The host has only private, local or reserved addresses, which are not allowed.",
            ));
        }
        Ok(allowed)
    }
}

/// Tries each address in turn; one that does not answer leaves time for those after it.
async fn dial(
    addresses: &[IpAddr],
    port: u16,
    limit: Duration,
    clock: &Clock,
) -> Result<TcpStream, Failure> {
    let deadline = clock.now() + limit;
    let mut last_failure = None;
    for (index, ip) in addresses.iter().enumerate() {
        let addresses_left = (addresses.len() - index) as u32;
        let patience = deadline.since(clock.now()) / addresses_left;
        let connecting = TcpStream::connect(SocketAddr::new(*ip, port));
        match within(clock, patience, connecting).await {
            Some(Ok(tcp)) => {
                // Requests are written whole, so nothing is gained by waiting for more. Where it
                // cannot be set, they go out a little later.
                let _ = tcp.set_nodelay(true);
                return Ok(tcp);
            }
            Some(Err(error)) => last_failure = Some(dial_failure(&error)),
            None => {
                let detail = took_longer(Phase::Connecting, limit);
                last_failure = Some(failure(FailureKind::ConnectionFailed, detail));
            }
        }
    }
    Err(last_failure.expect("there is an address to dial"))
}

/// What comes of it, unless it takes longer.
async fn within<T>(clock: &Clock, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let deadline = clock.now() + limit;
    tokio::select! {
        biased;
        result = future => Some(result),
        () = clock.sleep_until(deadline) => None,
    }
}

fn dial_failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => failure(
            FailureKind::ConnectionRefused,
            "The connection was refused: nobody listens at the host's port.",
        ),
        _ => failure(
            FailureKind::ConnectionFailed,
            format!("No connection came about: {error}."),
        ),
    }
}

/// The sentence for a phase that exceeded its limit.
pub fn took_longer(phase: Phase, limit: Duration) -> String {
    let mut sentence = format!(
        "{} took longer than {} s.",
        phase.name(),
        limit.as_secs_f64()
    );
    sentence[..1].make_ascii_uppercase();
    sentence
}

/// What TLS found wrong, in plain words; `None` for an error that is not TLS's.
pub fn tls_problem(error: &io::Error) -> Option<String> {
    let inner: &(dyn Error + 'static) = error.get_ref()?;
    let error = inner.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(problem) => certificate_problem(problem),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "The receiver wants a client certificate, and there is none.".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            "The receiver found no TLS version, cipher or kind of certificate that both sides accept; \
             a certificate with a P-521 key is not supported."
                .to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "The receiver does not speak HTTP/1.1 over TLS, and HTTP/2 is not offered.".to_owned()
        }
        rustls::Error::AlertReceived(alert) => {
            format!("The receiver refused the TLS connection: {alert:?}.")
        }
        rustls::Error::InvalidMessage(_) => "The receiver does not speak TLS.".to_owned(),
        rustls::Error::PeerIncompatible(_) => {
            "The receiver speaks no version or cipher of TLS that is accepted.".to_owned()
        }
        other => format!("TLS failed: {other}."),
    })
}

fn certificate_problem(problem: &CertificateError) -> String {
    use CertificateError::*;
    match problem {
        Expired | ExpiredContext { .. } => "The receiver's certificate has expired.".to_owned(),
        NotValidYet | NotValidYetContext { .. } => {
            "The receiver's certificate is not valid yet.".to_owned()
        }
        NotValidForName | NotValidForNameContext { .. } => {
            "The receiver's certificate is for another host.".to_owned()
        }
        UnknownIssuer => {
            "The issuer of the receiver's certificate is unknown; the receiver may have left out \
             an intermediate certificate."
                .to_owned()
        }
        UnsupportedSignatureAlgorithmContext { .. }
        | UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "The receiver's certificate, or one that it depends on, has a key or signature of a kind \
             that is not supported, such as P-521 or ECDSA with SHA-512; RSA, P-256, P-384 and \
             Ed25519 are."
                .to_owned()
        }
        Revoked => "The receiver's certificate has been revoked.".to_owned(),
        other => format!("The receiver's certificate is not acceptable: {other}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_told_in_seconds() {
        for (phase, limit, expected) in [
            (Phase::Connecting, 5.0, "Connecting took longer than 5 s."),
            (
                Phase::Handshaking,
                0.5,
                "The TLS handshake took longer than 0.5 s.",
            ),
        ] {
            assert_eq!(took_longer(phase, Duration::from_secs_f64(limit)), expected);
        }
    }
}
