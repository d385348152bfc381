//! Starting and stopping, as a story.
//!
//! The command line calls [`serve`]; a test calls [`Server::start`] with a clock of its own and
//! stops it when it likes. Only this module knows all the others.

use std::any::Any;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::header::CACHE_CONTROL;
use actix_web::middleware::DefaultHeaders;
use actix_web::{App, HttpResponse, HttpServer, web};
use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use socket2::SockRef;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api;
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Flags};
use crate::console;
use crate::delivery;
use crate::delivery::address::{AddressRule, OwnAddresses};
use crate::jobs::Jobs;
use crate::scheduler::{self, Scheduler};
use crate::shortage;
use crate::store::{self, Store};
use crate::telemetry::{self, Metrics};
use crate::watched::{self, Kind, Thread};

/// A publisher's connection stays open for this long between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// A connection is closed after this time without a request, also when a part of one has come.
const IDLE_MAX: Duration = Duration::from_secs(KEEP_ALIVE.as_secs() + 10);
/// How often gauges are brought up to date and the supervisor is told that we live.
const PULSE: Duration = Duration::from_secs(1);
/// How often the machine's own addresses are looked up.
const OWN_ADDRESSES_EVERY: Duration = Duration::from_secs(30);
/// How long the process outlives a failure, for the answers to those who wait.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long it goes on before that, so that whoever asks for health now hears of the failure.
const FAILURE_TOLD: Duration = Duration::from_millis(500);
/// How much of a stop's time is for requests, when attempts take all of it.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// How much of an answer the system holds for a connection before it can be sent, in bytes.
const UNSENT_MAX: u32 = 128 << 10;
/// Connections to `server.metrics_listen`.
const METRICS_CONNECTIONS_MAX: usize = 64;
/// Files that are open beside connections: databases, listeners, event queues, and those that are read
/// for a moment.
const FILES_BESIDE: usize = 256;

type Listening = JoinHandle<std::io::Result<()>>;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub store: Store,
    pub scheduler: Scheduler,
    jobs: Jobs,
    pub metrics: Arc<Metrics>,
    /// The machine's, which endpoints do not reach.
    pub own_addresses: OwnAddresses,
    /// Finds them anew now and then.
    finding: JoinHandle<()>,
    http: ServerHandle,
    /// Ends with the listener: by a stop, or by itself.
    listening: Option<Listening>,
    /// What requests get; another after a reload.
    contexts: Arc<api::Contexts>,
    /// How many each client has.
    pub connections: Arc<api::Connections>,
    failures: Arc<api::Failures>,
    drain: Duration,
}

/// Where the settings are read: at the start, and again at a reload.
struct Origin {
    file: Option<PathBuf>,
    flags: Flags,
}

/// Reads the settings and runs a server until SIGTERM or SIGINT.
pub fn serve(file: Option<PathBuf>, flags: Flags) -> Result<(), Box<dyn Error>> {
    let loaded = config::load_with_sources(file.as_deref(), flags)?;
    telemetry::init_logging(&loaded.config.log);
    log::info!(
        "postrider {}, {}",
        env!("CARGO_PKG_VERSION"),
        loaded.summary()
    );
    loaded
        .warnings()
        .iter()
        .for_each(|warning| log::warn!("{warning}"));
    raise_file_limit();
    if let Some(warning) = file_limit_problem(&loaded.config) {
        log::warn!("{warning}");
    }
    warn_of_private_receivers(&loaded.config, flags);
    let origin = Origin { file, flags };
    actix_rt::System::new().block_on(serve_until_signalled(loaded.config, origin))
}

async fn serve_until_signalled(config: Config, origin: Origin) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // Without a handler each of them would end the process at once.
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut user2 = signal(SignalKind::user_defined2())?;
    let listener = bind(config.server.listen)?;
    let metrics_listener = config.server.metrics_listen.map(bind).transpose()?;
    let owner_token = config.store.path.join("owner.token");
    let stall = Duration::from_secs(config.server.answer_stall_seconds);
    let mut current = config.clone();
    let mut server = Server::start(config, listener, Clock::System)?;
    if let Some(listener) = metrics_listener {
        serve_metrics(listener, &server, stall)?;
    }
    match owner_token.exists() {
        true => log::info!("the owner's token is in {}", owner_token.display()),
        // After a restore, say, which keeps the tokens and cannot write what their texts were.
        false => log::info!(
            "there is no {}: the owner's token is what it was; `postrider token reset-owner` makes \
             a new one",
            owner_token.display()
        ),
    }
    if let Some(problem) = server.contexts.current().config.server.link_problem() {
        log::warn!("{problem}");
    }
    log::info!("listening on http://{}", server.address);
    notify(&[NotifyState::Ready]);

    let mut listening = server.listening.take();
    let failure = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            reason = server.run(&mut listening) => break Some(reason),
            _ = hangup.recv() => {
                notify(&[NotifyState::Reloading]);
                reload(&server, &mut current, &origin);
                notify(&[NotifyState::Ready]);
            }
            _ = user1.recv() => log::info!("SIGUSR1 does nothing; SIGHUP reads the settings again"),
            _ = user2.recv() => log::info!("SIGUSR2 does nothing; SIGHUP reads the settings again"),
        }
    };
    notify(&[NotifyState::Stopping]);
    if let Some(reason) = failure {
        server.answer_the_last().await;
        // Whatever hangs or is broken in there must not keep the supervisor from starting anew.
        return Err(reason.into());
    }
    log::info!("stopping; a second signal ends the process at once");
    tokio::select! {
        stopped = server.stop() => stopped.map_err(Into::into),
        _ = terminate.recv() => cut_short(),
        _ = interrupt.recv() => cut_short(),
    }
}

/// Reads the settings again and takes over what needs no restart. Where anything is wrong, nothing
/// changes.
fn reload(server: &Server, current: &mut Config, origin: &Origin) {
    let read = config::load_with_sources(origin.file.as_deref(), origin.flags);
    let reloaded = read.and_then(|loaded| {
        let (next, waiting) = current.reloaded(&loaded.config)?;
        server.reload(&next)?;
        Ok((next, waiting, loaded))
    });
    match reloaded {
        Err(error) => log::error!("the settings were not reloaded, nothing changes: {error}"),
        Ok((next, waiting, loaded)) => {
            telemetry::set_log_level(&next.log);
            log::info!(
                "reloaded the profiles, the extra certificates and the log level: {}",
                loaded.summary()
            );
            loaded
                .warnings()
                .iter()
                .for_each(|warning| log::warn!("{warning}"));
            if !waiting.is_empty() {
                log::warn!("these need a restart to change: {}", waiting.join(", "));
            }
            *current = next;
        }
    }
}

/// Ends the process without draining. Nothing that was accepted is lost: it is on disk.
fn cut_short() -> ! {
    log::warn!("stopped at once; attempts that were in flight will be repeated");
    std::process::exit(0)
}

/// Says which private addresses endpoints may reach, each once: those of `--dev` in a warning of
/// their own.
fn warn_of_private_receivers(config: &Config, flags: Flags) {
    if flags.dev {
        log::warn!(
            "DEVELOPMENT MODE (--dev): endpoints may reach this machine's loopback addresses, and \
             with them every service on it. Never run like this where others register endpoints."
        );
    }
    let allowed = &config.delivery.danger_allow_private_addresses;
    let configured: Vec<String> = allowed
        .iter()
        .filter(|network| !(flags.dev && config::loopback().contains(network)))
        .map(ToString::to_string)
        .collect();
    if !configured.is_empty() {
        log::warn!(
            "endpoints may reach private addresses: {}",
            configured.join(", ")
        );
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

impl Server {
    /// Opens the store, starts deliveries, and answers requests at `listener`.
    pub fn start(
        mut config: Config,
        listener: TcpListener,
        clock: Clock,
    ) -> Result<Server, Box<dyn Error>> {
        let metrics = Arc::new(Metrics::new());
        let own_addresses = OwnAddresses::default();
        let _ = find_own_addresses(&own_addresses);
        let send_settings = Arc::new(delivery::Settings::from_config(&config, &own_addresses)?);
        let pages = web::Data::new(console::Pages::new(&config)?);
        let store = Store::open(
            store::Settings::from_config(&config),
            clock,
            metrics.clone(),
        )?;
        let threads = store.threads().clone();
        let main = threads.add(Kind::Main);
        threads.add(Kind::Acceptor);
        let scheduler = Scheduler::start(
            store.clone(),
            &config,
            send_settings.clone(),
            metrics.clone(),
        );
        let jobs = Jobs::start(store.clone(), &config);

        let address = listener.local_addr()?;
        // The port may have been the system's to choose; links name it.
        config.server.listen = address;
        let drain = Duration::from_secs(config.server.drain_seconds);
        let workers = config.server.workers;
        let connections = (config.limits.connections_max / workers).max(1);
        let shares = api::Shares::start(&config.limits, &store, metrics.clone());
        let stall = Duration::from_secs(config.server.answer_stall_seconds);
        let clock = store.clock();
        let connections_of_each = api::Connections::new(&config, clock.clone(), metrics.clone());
        let connections_of_each = Arc::new(connections_of_each);
        let failures = api::Failures::new(&config, clock.clone(), metrics.clone());
        let failures = Arc::new(failures);
        let context = web::Data::new(api::Context {
            store: store.clone(),
            addresses: address_check(&config, &own_addresses),
            config: Arc::new(config),
            metrics: metrics.clone(),
            started_at: store.clock().now(),
            example_requests: send_settings.example_requests(),
            preview: preview(&send_settings),
            reference: api::reference(),
            lanes: lane_watch(scheduler.lanes()),
            sending: sending_watch(scheduler.lanes()),
            shares: Arc::new(shares),
            sign_ins: Arc::default(),
            failures: failures.clone(),
        });
        let contexts = Arc::new(api::Contexts::new(context.clone()));
        let giving = contexts.clone();
        let cors = api::Cors::new(&context.config.server.cors_origins);
        let started = Arc::new(AtomicUsize::new(0));
        let app = move || {
            // This runs in each of actix's threads as it starts; one that panicked is started again.
            let number = started.fetch_add(1, Ordering::Relaxed) % workers;
            threads.add_current(Kind::Http(number));
            let (cors, contexts) = (cors.clone(), giving.clone());
            let seen = Rc::new(api::ContextSeen::default());
            App::new()
                // Answers hold what is not to be kept by anybody between; files of the pages say
                // themselves how long they are good.
                .wrap(DefaultHeaders::new().add((CACHE_CONTROL, "no-store")))
                .wrap_fn(move |mut request, service| {
                    contexts.give(&seen, &mut request);
                    let path = request.path().to_owned();
                    let answer = cors.around(request, service);
                    // A panic of a handler is the end of its request and of nothing else.
                    let answer = watched::contained_future(async move {
                        watched::planned_panic("request", &path);
                        answer.await
                    });
                    async { answer.await.unwrap_or_else(|_| Err(api::defect())) }
                })
                .wrap_fn(api::send_in_pieces)
                .wrap_fn(api::delay_guesses)
                .wrap_fn(api::close_unread)
                .configure(console::configure(pages.clone()))
                .configure(api::configure(context.clone()))
        };
        let (counting, failing) = (connections_of_each.clone(), store.clone());
        let http = HttpServer::new(app)
            // Before `listen`, which takes what is there.
            .on_connect(move |connection, data| {
                let limited = watched::contained(|| {
                    watched::planned_thread_panic();
                    on_connect(connection, data, stall);
                    if let Some(connection) = connection.downcast_ref() {
                        counting.opened(connection, data, IDLE_MAX);
                    }
                });
                // The connection would be without its limits, and the next one, too.
                if limited.is_err() {
                    failing.thread_panicked("a thread that answers requests".to_owned());
                }
            })
            .listen(listener)?
            .workers(workers)
            .max_connections(connections)
            .keep_alive(KEEP_ALIVE)
            .h1_write_buffer_size(api::WRITE_BUFFER)
            .shutdown_timeout(drain.as_secs())
            .disable_signals()
            .run();
        let handle = http.handle();
        let finding = keep_finding(own_addresses.clone(), store.clock().clone(), main);
        let finding = actix_rt::spawn(finding);
        let listening = actix_rt::spawn(http);
        Ok(Server {
            address,
            store,
            scheduler,
            jobs,
            metrics,
            finding,
            own_addresses,
            http: handle,
            listening: Some(listening),
            contexts,
            connections: connections_of_each,
            failures,
            drain,
        })
    }

    /// Keeps gauges fresh and the supervisor informed; returns only when the process must end, with
    /// the reason.
    async fn run(&self, listening: &mut Option<Listening>) -> String {
        let listening = async {
            match listening {
                Some(listening) => drop(listening.await),
                None => std::future::pending().await,
            }
        };
        let pulse = async {
            let mut ticks = tokio::time::interval(PULSE);
            loop {
                ticks.tick().await;
                let beat = watched::contained(|| {
                    watched::planned_panic("thread", "main");
                    self.pulse();
                });
                if beat.is_err() {
                    self.store.thread_panicked("the thread main".to_owned());
                }
                watched::planned_acceptor_panic();
                notify(&[NotifyState::Watchdog]);
            }
        };
        let accepting = async {
            watched::acceptor_panicked().await;
            // Connections that are open hear of it from health.
            let name = "a thread that accepts connections";
            self.store.thread_panicked(name.to_owned());
            std::future::pending().await
        };
        tokio::select! {
            fault = self.store.failed() => fault.to_string(),
            reason = accepting => reason,
            () = listening => "the API's listener ended by itself".to_owned(),
            reason = pulse => reason,
        }
    }

    /// Before the process ends for a failure: health says why for a moment, and those who wait read that
    /// they are refused.
    async fn answer_the_last(&self) {
        tokio::time::sleep(FAILURE_TOLD).await;
        self.failures.stop();
        let answered = self.http.stop(true);
        if tokio::time::timeout(LAST_ANSWERS, answered).await.is_err() {
            log::warn!("some connections were still open when the process ended");
        }
    }

    /// Requests and attempts that begin from now on go by these settings, as far as those can change
    /// without a restart. An error changes nothing.
    pub fn reload(&self, config: &Config) -> Result<(), ConfigError> {
        let send_settings = delivery::Settings::from_config(config, &self.own_addresses)?;
        let send_settings = Arc::new(send_settings);
        let old = self.contexts.current();
        let mut config = config.clone();
        // The port may have been the system's to choose.
        config.server.listen = self.address;
        self.contexts.replace(web::Data::new(api::Context {
            store: self.store.clone(),
            addresses: address_check(&config, &self.own_addresses),
            config: Arc::new(config),
            metrics: self.metrics.clone(),
            started_at: old.started_at,
            example_requests: send_settings.example_requests(),
            preview: preview(&send_settings),
            reference: old.reference,
            lanes: lane_watch(self.scheduler.lanes()),
            sending: sending_watch(self.scheduler.lanes()),
            shares: old.shares.clone(),
            sign_ins: old.sign_ins.clone(),
            failures: old.failures.clone(),
        }));
        self.scheduler.reload(&send_settings);
        Ok(())
    }

    /// Brings up to date what is shown and not counted as it happens.
    pub fn pulse(&self) {
        let oldest = self.scheduler.oldest_due();
        let now = self.store.clock().now();
        let age = oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        self.metrics.oldest_due_seconds.set(age);
        let waiting = self.scheduler.waiting_for_host();
        self.metrics.waiting_for_host.set(waiting as i64);
        self.metrics.sample(now);
        self.failures.tell();
        self.connections.tell();
        // Listeners and the store do not tell what they lacked.
        if let Some(shortage) = shortage::probe() {
            self.metrics.shortages.note(shortage, now);
        }
    }

    /// Begins no further attempt and lets those in flight end for as long as `drain_seconds`. What is
    /// published meanwhile is accepted, for the next start to send; only the last moments of that
    /// time are for the requests under way. Then makes everything durable and closes the store.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.finding.abort();
        let deadline = Instant::now() + self.drain;
        let refuse_from = deadline - LAST_REQUESTS.min(self.drain / 2);
        let http = &self.http;
        let scheduler = &mut self.scheduler;
        let (refuse, refusing) = oneshot::channel();
        let attempts = async {
            let ended = {
                let mut drained = pin!(scheduler.drain());
                let in_time = tokio::time::timeout_at(refuse_from, &mut drained)
                    .await
                    .is_ok();
                let _ = refuse.send(());
                in_time || tokio::time::timeout_at(deadline, drained).await.is_ok()
            };
            if !ended {
                let left = scheduler.in_flight();
                log::warn!("{left} attempts did not end in time; they will be repeated");
            }
        };
        let failures = &self.failures;
        let requests = async {
            let _ = refusing.await;
            failures.stop();
            let stopped = http.stop(true);
            if tokio::time::timeout_at(deadline.max(Instant::now() + LAST_ANSWERS), stopped)
                .await
                .is_err()
            {
                log::warn!("some requests did not end in time");
            }
        };
        tokio::join!(attempts, requests, self.jobs.stop());
        let store = self.store.clone();
        let closing = move || {
            if let Err(error) = store.keep_last_seen() {
                log::warn!("when credentials were used in the last minutes is lost: {error}");
            }
            store.close()
        };
        tokio::task::spawn_blocking(closing)
            .await
            .unwrap_or_else(|_| Err("closing the store panicked".to_owned()))?;
        log::info!("stopped; everything that was accepted is on disk");
        Ok(())
    }
}

fn on_connect(connection: &dyn Any, data: &mut Extensions, stall: Duration) {
    if let Some(connection) = connection.downcast_ref() {
        cut_when_stalled(connection, stall);
        limit_unsent(connection);
        send_at_once(connection);
    }
    data.insert(api::Unread::default());
}

/// Has the system send the last piece of an answer without waiting until those before it are
/// acknowledged, which a client that expects more puts off for 40 ms.
fn send_at_once(connection: &TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        log::warn!("long answers on a connection come late: {error}");
    }
}

/// Has the system take little more of an answer than is on its way to the reader. It would otherwise
/// keep up to 4 MB for each reader that takes nothing, and copying that for hundreds at once keeps
/// everybody else waiting.
fn limit_unsent(connection: &TcpStream) {
    if let Err(error) = SockRef::from(connection).set_tcp_notsent_lowat(UNSENT_MAX) {
        log::warn!("the system's part of answers that nobody reads is not limited: {error}");
    }
}

/// Has the system end the connection when its reader has taken nothing for so long of what is being
/// sent: neither actix-web nor a timer of ours sees that, since nothing happens.
fn cut_when_stalled(connection: &TcpStream, after: Duration) {
    let milliseconds = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(connection, milliseconds) {
        log::warn!("a connection has no limit for readers that take nothing: {error}");
    }
}

/// Not being able to look is told; the addresses from before still count.
fn find_own_addresses(own: &OwnAddresses) -> Result<(), String> {
    own.find().inspect_err(|problem| log::warn!("{problem}"))
}

/// A panic ends one look, and the next one comes.
async fn keep_finding(own: OwnAddresses, clock: Clock, main: Arc<Thread>) {
    loop {
        clock.sleep(OWN_ADDRESSES_EVERY).await;
        let own = own.clone();
        // Interfaces are read from the kernel, which may take its time.
        let found = tokio::task::spawn_blocking(move || find_own_addresses(&own)).await;
        if let Err(problem) = found.unwrap_or_else(|panic| Err(panic.to_string())) {
            main.note_error(problem);
        }
    }
}

fn address_check(config: &Config, own: &OwnAddresses) -> api::AddressCheck {
    let rule = AddressRule::new(&config.delivery, own.clone());
    Box::new(move |url| rule.url_problem(url))
}

fn preview(settings: &Arc<delivery::Settings>) -> api::Preview {
    let settings = settings.clone();
    Box::new(move |profile, draft| settings.preview(profile, draft))
}

/// What the API is told of lanes.
fn lane_watch(lanes: scheduler::Lanes) -> api::LaneWatch {
    Box::new(move |numbers| {
        let lanes = lanes.clone();
        Box::pin(async move {
            let looks = lanes.look(numbers).await.into_iter();
            looks
                .map(|look| {
                    let now = api::LaneNow {
                        in_flight: look.in_flight,
                        hanging: look.hanging,
                        throttled: look.throttled,
                        waits_for_host: look.waits_for_host,
                    };
                    (look.lane, now)
                })
                .collect()
        })
    })
}

fn sending_watch(lanes: scheduler::Lanes) -> api::SendingWatch {
    Box::new(move |numbers, message| {
        let lanes = lanes.clone();
        Box::pin(async move {
            let keys = lanes.sending(numbers, message).await;
            keys.into_iter().collect()
        })
    })
}

fn serve_metrics(listener: TcpListener, server: &Server, stall: Duration) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    let metrics = web::Data::from(server.metrics.clone());
    let threads = server.store.threads().clone();
    let http = HttpServer::new(move || {
        threads.add_current(Kind::MetricsHttp);
        App::new()
            .wrap_fn(api::close_unread)
            .app_data(metrics.clone())
            .route(
                "/metrics",
                web::get().to(|metrics: web::Data<Metrics>| async move {
                    HttpResponse::Ok()
                        .content_type(telemetry::METRICS_CONTENT_TYPE)
                        .body(metrics.encode())
                }),
            )
    })
    .on_connect(move |connection, data| on_connect(connection, data, stall))
    .listen(listener)?
    .workers(1)
    .max_connections(METRICS_CONNECTIONS_MAX)
    .disable_signals()
    .run();
    actix_rt::spawn(http);
    log::info!("metrics without a credential on http://{address}/metrics");
    Ok(())
}

/// Tells the supervisor, where there is one that listens.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        log::warn!("the supervisor could not be told: {error}");
    }
}

/// Connections in and out are files; take as many as the system allows.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log::warn!("the limit of open files could not be raised: {error}");
    }
}

/// Says that this process may open fewer files than the settings can make it need, with what to
/// change. A start raises its limit to the hard one, which is what counts.
pub fn file_limit_problem(config: &Config) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let needed = files_needed(config);
    (limit < needed).then(|| {
        format!(
            "this process may open {limit} files, and the settings may need {needed}: \
             limits.connections_max ({}), delivery.in_flight_max ({}), and the store. When they run \
             out, deliveries wait and connections are refused. Raise LimitNOFILE of the unit (or \
             `ulimit -Hn`), or lower these settings",
            config.limits.connections_max, config.delivery.in_flight_max
        )
    })
}

/// The most files that are open at once: connections in and out, idle ones and look-ups of each
/// delivery thread, and the databases with what else a process has open.
fn files_needed(config: &Config) -> u64 {
    let Config {
        delivery, limits, ..
    } = config;
    let each_worker = delivery::IDLE_CONNECTIONS_MAX + delivery::LOOKUPS_MAX;
    let connections = limits.connections_max + METRICS_CONNECTIONS_MAX + delivery.in_flight_max;
    (connections + delivery.workers * each_worker + FILES_BESIDE) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn the_system_sends_at_once_and_keeps_little_that_nobody_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap());
        let connection = connection.await.unwrap();
        on_connect(&connection, &mut Extensions::new(), Duration::from_secs(30));
        assert!(connection.nodelay().unwrap());
        let unsent = SockRef::from(&connection).tcp_notsent_lowat().unwrap();
        assert_eq!(unsent, UNSENT_MAX);
    }
}
