//! The addresses of a name: from `/etc/hosts` first, then from the DNS servers.
//!
//! No thread waits for an answer, so a server that never answers costs a socket and nothing else.
//! The files are read again when they have changed.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioRuntimeProvider};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver, system_conf};

use super::address::is_localhost;
use super::resolve::{NoAddress, Resolved};
use crate::lock::locked;
use crate::shortage::{Descriptors, Shortage};

/// Addresses of one name that are ever tried.
const ADDRESSES_MAX: usize = 16;
/// How often is looked whether the system's files have changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const HOSTS_FILE: &str = "/etc/hosts";
const RESOLVER_FILE: &str = "/etc/resolv.conf";

pub struct Dns {
    /// In place of the system's, unless empty.
    servers: Vec<SocketAddr>,
    sockets: Sockets,
    files: RefCell<Files>,
}

/// The hosts and the resolver; the error says why there is no resolver.
type Current = (Rc<Hosts>, Result<Resolver<Sockets>, Rc<str>>);

/// The contents of the system's files.
struct Files {
    looked: Instant,
    changed: [Option<SystemTime>; 2],
    hosts: Rc<Hosts>,
    /// The error is why there is none.
    resolver: Result<Resolver<Sockets>, Rc<str>>,
    /// The shortage that kept a file that exists from being opened.
    lacking: Option<Shortage>,
}

impl Dns {
    pub fn new(servers: Vec<SocketAddr>, descriptors: Descriptors) -> Dns {
        let sockets = Sockets::new(descriptors);
        let files = RefCell::new(Files::read(&servers, &sockets));
        Dns {
            servers,
            sockets,
            files,
        }
    }

    /// Asks for a name's addresses, for as long as `limit`.
    pub async fn look_up(&self, name: &str, limit: Duration) -> Resolved {
        let refused = self.sockets.refused();
        let found = self.ask(name, limit).await;
        match self.sockets.refused_since(&refused) {
            // A part of the question was not asked, so the answer may lack addresses.
            Some(shortage) => Err(NoAddress::NotAsked(shortage)),
            None => found,
        }
    }

    async fn ask(&self, name: &str, limit: Duration) -> Resolved {
        let (hosts, resolver) = self.current()?;
        let known = known_addresses(&hosts, name);
        if !known.is_empty() {
            return Ok(known.into());
        }
        let resolver = resolver.map_err(NoAddress::Silent)?;
        // A URL has its host in ASCII already, and hosts may have characters that IDNA has not.
        let name = Name::from_ascii(name).map_err(|_| NoAddress::Unknown)?;
        match tokio::time::timeout(limit, resolver.lookup_ip(name)).await {
            Ok(Ok(found)) => match distinct(found.iter()) {
                none if none.is_empty() => Err(NoAddress::Unknown),
                addresses => Ok(addresses.into()),
            },
            Ok(Err(error)) => Err(no_address(&error)),
            Err(_) => Err(NoAddress::Silent("no DNS server answered".into())),
        }
    }

    /// The hosts and the resolver as the system's files now have them. Two small local files are
    /// looked at once a second and read when they have changed: that is not worth a thread.
    fn current(&self) -> Result<Current, NoAddress> {
        let mut files = self.files.borrow_mut();
        if files.looked.elapsed() >= LOOK_EVERY {
            files.looked = Instant::now();
            if files.changed != changed() || files.lacking.is_some() {
                *files = Files::read(&self.servers, &self.sockets);
            }
        }
        match files.lacking {
            Some(shortage) => Err(NoAddress::NotAsked(shortage)),
            None => Ok((files.hosts.clone(), files.resolver.clone())),
        }
    }
}

impl Files {
    fn read(servers: &[SocketAddr], sockets: &Sockets) -> Files {
        let changed = changed();
        let unopened = [HOSTS_FILE, RESOLVER_FILE].map(|path| std::fs::File::open(path).err());
        let lacking = unopened.iter().flatten().find_map(Shortage::of);
        Files {
            looked: Instant::now(),
            changed,
            hosts: Rc::new(Hosts::from_system().unwrap_or_default()),
            resolver: resolver(servers, sockets).map_err(|error| error.to_string().into()),
            lacking,
        }
    }
}

fn changed() -> [Option<SystemTime>; 2] {
    [HOSTS_FILE, RESOLVER_FILE].map(|path| std::fs::metadata(path).ok()?.modified().ok())
}

/// A resolver with the system's search list, its servers or those of the settings.
fn resolver(servers: &[SocketAddr], sockets: &Sockets) -> Result<Resolver<Sockets>, NetError> {
    let (system, mut options) = system_conf::read_system_conf().unwrap_or_else(|_| {
        // As the C library does where the file is missing or names no server.
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        let config = ResolverConfig::from_name_servers(vec![local]);
        (config, ResolverOpts::default())
    });
    let servers = match servers {
        [] => system.name_servers().to_vec(),
        servers => servers.iter().map(|server| name_server(*server)).collect(),
    };
    // The domain of the host's own name counts only where there is no list (resolv.conf(5)).
    let domain = match system.search() {
        [] => system.domain().cloned(),
        _ => None,
    };
    let config = ResolverConfig::from_parts(domain, system.search().to_vec(), servers);
    // A lost packet is asked for again well within an attempt's time.
    options.timeout = options.timeout.min(Duration::from_millis(1500));
    options.attempts = options.attempts.max(2);
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    // The cache is ours; who may look up how much is decided above.
    options.cache_size = 0;
    options.max_active_requests = usize::from(u16::MAX);
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = Resolver::builder_with_config(config, sockets.clone());
    *builder.options_mut() = options;
    builder.build()
}

/// The sockets to DNS servers: Tokio's, as many as may be, and a note of those that could not be made.
/// hickory's own report of such an error depends on the other servers and on the number of its tries.
#[derive(Clone)]
struct Sockets {
    tokio: TokioRuntimeProvider,
    descriptors: Descriptors,
    refused: Arc<Mutex<Refused>>,
}

/// The sockets that this machine had no room for.
#[derive(Clone, Default)]
struct Refused {
    count: u64,
    last: Option<Shortage>,
}

impl Sockets {
    fn new(descriptors: Descriptors) -> Sockets {
        Sockets {
            tokio: TokioRuntimeProvider::default(),
            descriptors,
            refused: Arc::default(),
        }
    }

    fn refused(&self) -> Refused {
        locked(self.refused.lock()).clone()
    }

    /// The shortage that any look-up met since: one that meets it means that those beside it meet it, too.
    fn refused_since(&self, before: &Refused) -> Option<Shortage> {
        let now = self.refused();
        now.last.filter(|_| now.count != before.count)
    }

    fn noted<T>(&self, opened: io::Result<T>) -> io::Result<T> {
        if let Some(shortage) = opened.as_ref().err().and_then(Shortage::of) {
            let mut refused = locked(self.refused.lock());
            refused.count += 1;
            refused.last = Some(shortage);
        }
        opened
    }
}

type Opening<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

impl RuntimeProvider for Sockets {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = <TokioRuntimeProvider as RuntimeProvider>::Timer;
    type Udp = <TokioRuntimeProvider as RuntimeProvider>::Udp;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> Self::Handle {
        self.tokio.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Opening<Self::Tcp> {
        let (this, opening) = (self.clone(), self.tokio.connect_tcp(server, local, timeout));
        Box::pin(async move {
            let opened = opening.await;
            this.noted(opened.and_then(|one| this.descriptors.check(&one.0).map(|()| one)))
        })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Opening<Self::Udp> {
        let (this, opening) = (self.clone(), self.tokio.bind_udp(local, server));
        Box::pin(async move {
            let opened = opening.await;
            this.noted(opened.and_then(|one| this.descriptors.check(&one).map(|()| one)))
        })
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    server
}

/// The addresses that `/etc/hosts` has, or that need no asking.
fn known_addresses(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(query_name) = Name::from_ascii(name) else {
        return Vec::new();
    };
    let found = [RecordType::AAAA, RecordType::A]
        .into_iter()
        .filter_map(|kind| hosts.lookup_static_host(&Query::query(query_name.clone(), kind)));
    let found = found.flat_map(|lookup| {
        let answers = lookup.answers().iter();
        answers
            .filter_map(|record| record.data.ip_addr())
            .collect::<Vec<_>>()
    });
    let found = distinct(found);
    if found.is_empty() && is_localhost(name) {
        return vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
    }
    found
}

/// The addresses of the newer protocol first. Half of the places are for each protocol, and the other
/// takes the places that one leaves.
fn distinct(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (mut v6, mut v4) = (Vec::new(), Vec::new());
    for address in found {
        let family = if address.is_ipv6() { &mut v6 } else { &mut v4 };
        if family.len() < ADDRESSES_MAX && !family.contains(&address) {
            family.push(address);
        }
    }
    v6.truncate(ADDRESSES_MAX - v4.len().min(ADDRESSES_MAX / 2));
    v4.truncate(ADDRESSES_MAX - v6.len());
    v6.append(&mut v4);
    v6
}

fn no_address(error: &NetError) -> NoAddress {
    use hickory_resolver::net::{DnsError, NoRecords};
    use hickory_resolver::proto::op::ResponseCode;
    match error {
        NetError::Dns(DnsError::NoRecordsFound(NoRecords {
            response_code: ResponseCode::NXDomain | ResponseCode::NoError,
            ..
        })) => NoAddress::Unknown,
        NetError::Timeout => NoAddress::Silent("no DNS server answered".into()),
        NetError::Dns(_) => NoAddress::Silent("the DNS servers could not tell".into()),
        // Not a name that DNS can carry.
        NetError::Proto(_) => NoAddress::Unknown,
        _ => NoAddress::Silent("the DNS servers could not be asked".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_family_takes_the_places_of_the_other() {
        for (v6, v4, expected) in [
            (0, 0, (0, 0)),
            (2, 3, (2, 3)),
            (20, 20, (8, 8)),
            (20, 1, (15, 1)),
            (1, 20, (1, 15)),
            (20, 0, (16, 0)),
        ] {
            let v6 = (0..v6).map(|number| Ipv6Addr::from(number).into());
            let v4 = (0..v4).map(|number| Ipv4Addr::from(number).into());
            let found: Vec<IpAddr> = v6.chain(v4).collect();
            let kept = distinct(found.iter().chain(&found).copied());
            let of_v6 = kept.iter().filter(|ip| ip.is_ipv6()).count();
            assert_eq!((of_v6, kept.len() - of_v6), expected);
        }
    }
}
