//! From a host's name to a connection that may carry a request: resolve, check every address,
//! dial, shake hands.
//!
//! It is the connector that awc's pools call. awc is always given `http://host:port`; the TLS of `https`
//! endpoints is made here, so that the stream wrapper stands above it and its errors are known as
//! errors of TLS. No address is dialled that the rule does not allow, and nothing comes between the
//! check and the dialling. Failures are noted in the exchange's trace; awc only learns that there is one.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use actix_web::http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use super::SendSettings;
use super::resolve::{NoAddress, Resolver};
use super::stream::{FRAMES_BYTES_MAX, OpenConnections, Stream, Transport};
use super::tls_problem::tls_problem;
use super::trace::{Phase, Trace, failure};
use crate::clock::Clock;
use crate::domain::attempt::{FailureKind, SendFailure, Timings};
use crate::shortage::{Descriptors, Shortage};

/// How long an address may take before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

const NO_PUBLIC_ADDRESS: &str = "The host's name does not exist or has no public address.";

#[derive(Clone)]
pub struct Connector {
    pub settings: Arc<SendSettings>,
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
            match connector.connect(&uri, &trace).await {
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
    /// Name and connection have one limit, the handshake one of its own.
    async fn connect(&self, uri: &Uri, trace: &Trace) -> Result<Transport, SendFailure> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if self.tls { 443 } else { 80 });
        let tcp = self.in_time(trace, self.reach(host, port, trace)).await?;
        match self.tls {
            false => Ok(Transport::Plain(tcp)),
            true => self.in_time(trace, self.encrypt(host, tcp, trace)).await,
        }
    }

    /// The future's result, within the limit of a connection.
    async fn in_time<T>(
        &self,
        trace: &Trace,
        step: impl Future<Output = Result<T, SendFailure>>,
    ) -> Result<T, SendFailure> {
        let limit = self.settings.connect_timeout;
        within(&self.clock, limit, step).await.unwrap_or_else(|| {
            let detail = too_slow(trace.phase.get(), limit, trace.timings.get());
            Err(failure(FailureKind::ConnectionFailed, detail))
        })
    }

    /// A connection to one of the host's addresses.
    async fn reach(&self, host: &str, port: u16, trace: &Trace) -> Result<TcpStream, SendFailure> {
        let addresses = self.allowed_addresses(host, trace).await?;
        trace.phase.set(Phase::Connecting);
        let _timed = trace.timed(|timings, took| timings.connect_us = Some(took));
        let tcp = dial(&addresses, port, self.settings.descriptors, &trace.shortage)
            .await
            .map_err(|error| dial_failure(&error))?;
        // Requests are written whole, so nothing is gained by waiting for more. Where it cannot be
        // set, they go out a little later.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }

    async fn encrypt(
        &self,
        host: &str,
        tcp: TcpStream,
        trace: &Trace,
    ) -> Result<Transport, SendFailure> {
        trace.phase.set(Phase::Handshaking);
        let _timed = trace.timed(|timings, took| timings.tls_us = Some(took));
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
                trace.shortage.set(Shortage::of(&error));
                let problem = tls_problem(&error);
                failure(
                    FailureKind::Tls,
                    problem.unwrap_or_else(|| {
                        format!("The connection ended within the TLS handshake: {error}.")
                    }),
                )
            })?;
        Ok(Transport::Tls(Box::new(tls)))
    }

    /// The host's addresses, without those that the rule forbids.
    async fn allowed_addresses(
        &self,
        host: &str,
        trace: &Trace,
    ) -> Result<Vec<IpAddr>, SendFailure> {
        let rule = &self.settings.address_rule;
        let allowed: Vec<IpAddr> = match host.parse::<IpAddr>() {
            Ok(literal) if rule.allows(literal) => vec![literal],
            Ok(_) => {
                return Err(failure(
                    FailureKind::AddressForbidden,
                    "The address is private, local or reserved, which is not allowed.",
                ));
            }
            Err(_) => {
                let timed = trace.timed(|timings, took| timings.dns_us = Some(took));
                let resolved = self.resolver.resolve(trace.application, host).await;
                drop(timed);
                let resolved = resolved.map_err(|why| {
                    if let NoAddress::NotAsked(shortage) = &why {
                        trace.shortage.set(Some(*shortage));
                    }
                    dns_failure(&why)
                })?;
                resolved
                    .iter()
                    .copied()
                    .filter(|ip| rule.allows(*ip))
                    .collect()
            }
        };
        if allowed.is_empty() {
            // A name that leads into this network must look like one that does not exist. Otherwise
            // customers could find out by their endpoints which names there are.
            log::debug!("{host} has only addresses that are not allowed");
            return Err(failure(FailureKind::Dns, NO_PUBLIC_ADDRESS));
        }
        Ok(allowed)
    }
}

/// Connects to the address that answers first (RFC 8305): the families take turns, and while one
/// does not answer the next is tried beside it. A shortage of this machine for any of them is noted at
/// once and stays unless another connects: nothing is known of the receiver then.
async fn dial(
    addresses: &[IpAddr],
    port: u16,
    descriptors: Descriptors,
    lacking: &Cell<Option<Shortage>>,
) -> io::Result<TcpStream> {
    let note = |(error, shortage): (io::Error, Option<Shortage>)| {
        lacking.set(lacking.get().or(shortage));
        error
    };
    if let [only] = addresses {
        return dial_one(*only, port, descriptors).await.map_err(note);
    }
    let mut untried = interleaved(addresses).into_iter().peekable();
    let mut dialling = JoinSet::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(ip) = untried.next() {
            dialling.spawn(dial_one(ip, port, descriptors));
        }
        let more = untried.peek().is_some();
        tokio::select! {
            biased;
            dialled = dialling.join_next() => match dialled {
                Some(Ok(Ok(tcp))) => {
                    lacking.set(None);
                    return Ok(tcp);
                }
                Some(Ok(Err(error))) => failed = telling(failed, note(error)),
                Some(Err(ended)) => failed = io::Error::other(ended),
                None if more => {}
                None => return Err(failed),
            },
            // By the system's time: it paces packets, and is not the limit of anything.
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => {}
        }
    }
}

/// A connection to one address; else the error, and the shortage of this machine behind it, if any.
async fn dial_one(
    ip: IpAddr,
    port: u16,
    descriptors: Descriptors,
) -> Result<TcpStream, (io::Error, Option<Shortage>)> {
    let socket = match ip {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    };
    let connected = match socket.and_then(|one| descriptors.check(&one).map(|()| one)) {
        Ok(socket) => socket.connect((ip, port).into()).await,
        Err(error) => Err(error),
    };
    connected.map_err(|error| {
        let shortage = match error.kind() {
            io::ErrorKind::AddrNotAvailable => has_source(ip).then_some(Shortage::Ports),
            _ => Shortage::of(&error),
        };
        (error, shortage)
    })
}

/// Whether this machine has an address of its own to reach another from.
///
/// EADDRNOTAVAIL of connect(2) says that the local side of a connection could not be chosen, for one of
/// two reasons. All local ports towards this address and port are taken: that is ours, and passes. Or
/// there is no address to connect from: an IPv6 address with a route to it where no interface has an
/// IPv6 address, ::1 where IPv6 is off. That is as lasting as having no route (ENETUNREACH, of both
/// families), and is recorded as a failed attempt. UDP chooses by the same rules from ports of its own and
/// sends nothing, so it can distinguish the two.
fn has_source(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let probe = UdpSocket::bind((local, 0)).and_then(|socket| socket.connect((ip, 9)));
    probe.is_ok()
}

/// The first address' family, then the other, in turns; the order within each stays.
fn interleaved(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let first_is_v6 = addresses.first().is_some_and(IpAddr::is_ipv6);
    let (first, second): (Vec<IpAddr>, Vec<IpAddr>) =
        addresses.iter().partition(|ip| ip.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut mixed = Vec::with_capacity(addresses.len());
    while mixed.len() < addresses.len() {
        mixed.extend(first.next());
        mixed.extend(second.next());
    }
    mixed
}

/// The more telling of two failures: that this machine has no way to one family of addresses says
/// less than the failure of the other.
fn telling(before: io::Error, now: io::Error) -> io::Error {
    let says_little = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable
        )
    };
    match says_little(&now) && !says_little(&before) {
        true => before,
        false => now,
    }
}

/// The future's result, unless it takes longer.
async fn within<T>(clock: &Clock, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    let deadline = clock.now() + limit;
    tokio::select! {
        biased;
        result = future => Some(result),
        () = clock.sleep_until(deadline) => None,
    }
}

fn dns_failure(why: &NoAddress) -> SendFailure {
    let detail = match why {
        NoAddress::Unknown => NO_PUBLIC_ADDRESS.to_owned(),
        NoAddress::Silent(why) => format!("The host's name did not resolve: {why}."),
        NoAddress::NotAsked(_) => "The host's name could not be looked up.".to_owned(),
    };
    failure(FailureKind::Dns, detail)
}

fn dial_failure(error: &io::Error) -> SendFailure {
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

/// The sentence for a part of connecting that exceeded its limit, with the part of the name in it.
fn too_slow(phase: Phase, limit: Duration, timings: Timings) -> String {
    match (phase, timings.dns_us) {
        (Phase::Connecting, Some(dns_us)) => format!(
            "Resolving the host's name and connecting took longer than {} s; the name took {:.3} s.",
            limit.as_secs_f64(),
            f64::from(dns_us) / 1e6
        ),
        _ => took_longer(phase, limit),
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn dial_freely(addresses: &[IpAddr], port: u16) -> io::Result<TcpStream> {
        let lacking = Cell::new(None);
        let dialled = dial(addresses, port, Descriptors::of_process(), &lacking).await;
        assert_eq!(lacking.get(), None);
        dialled
    }

    #[test]
    fn the_families_of_addresses_take_turns() {
        let addresses = ["::1", "::2", "::3", "127.0.0.1", "127.0.0.2"];
        let addresses = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let mixed = interleaved(&addresses);
        let mixed: Vec<String> = mixed.iter().map(IpAddr::to_string).collect();
        assert_eq!(mixed, ["::1", "127.0.0.1", "::2", "127.0.0.2", "::3"]);
    }

    /// A port of 127.0.0.2 at which no connection comes about, though nobody refuses one.
    async fn silent_port() -> (u16, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queued = Vec::new();
        let patience = Duration::from_millis(200);
        while let Ok(connected) = tokio::time::timeout(patience, TcpStream::connect(address)).await
        {
            queued.push(connected.unwrap());
        }
        (address.port(), listener, queued)
    }

    #[actix_web::test]
    async fn an_address_that_is_silent_does_not_hold_up_the_next() {
        let (port, _listener, _queued) = silent_port().await;
        let there = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let addresses = ["127.0.0.2", "127.0.0.1"].map(|text| text.parse().unwrap());
        let started = std::time::Instant::now();
        let tcp = dial_freely(&addresses, port).await.unwrap();
        assert_eq!(tcp.peer_addr().unwrap(), there.local_addr().unwrap());
        assert!(started.elapsed() >= ATTEMPT_DELAY);
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "half of a limit"
        );
    }

    #[actix_web::test]
    async fn the_failure_that_tells_most_is_told() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        let error = dial_freely(&addresses, port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let unreachable = || io::Error::from(io::ErrorKind::NetworkUnreachable);
        let told = telling(error, unreachable());
        assert_eq!(told.kind(), io::ErrorKind::ConnectionRefused);
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let told = telling(unreachable(), refused);
        assert_eq!(told.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[actix_web::test]
    async fn a_missing_route_or_address_of_our_own_is_no_shortage() {
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            // Nobody listens there, and ::1 may not be an address of this machine.
            let dialled = dial_one(ip, 1, Descriptors::of_process()).await;
            let (error, shortage) = dialled.unwrap_err();
            assert_eq!(shortage, None, "{ip}: {error}");
        }
        assert!(
            has_source(Ipv4Addr::LOCALHOST.into()),
            "ports would be ours"
        );
    }

    #[actix_web::test]
    async fn what_this_machine_lacks_is_noted_unless_another_address_connects() {
        let none = Descriptors::up_to(0);
        let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = there.local_addr().unwrap().port();
        for addresses in [vec!["127.0.0.1"], vec!["127.0.0.1", "127.0.0.2"]] {
            let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            let lacking = Cell::new(None);
            dial(&addresses, port, none, &lacking).await.unwrap_err();
            assert_eq!(lacking.get(), Some(Shortage::Files));
        }
        let lacking = Cell::new(Some(Shortage::Files));
        let addresses = ["127.0.0.1", "127.0.0.2"].map(|text| text.parse().unwrap());
        let all = Descriptors::of_process();
        dial(&addresses, port, all, &lacking).await.unwrap();
        assert_eq!(lacking.get(), None);
    }

    #[test]
    fn a_slow_name_is_told_where_connecting_took_too_long() {
        let timings = Timings {
            dns_us: Some(4_200_000),
            ..Timings::default()
        };
        assert_eq!(
            too_slow(Phase::Connecting, Duration::from_secs(5), timings),
            "Resolving the host's name and connecting took longer than 5 s; the name took 4.200 s."
        );
    }

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
