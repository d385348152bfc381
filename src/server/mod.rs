//! Starting and stopping, as a story.
//!
//! The command line calls [`serve`]; a test calls [`Server::start`] with a clock of its own and
//! stops it when it likes. Only this module knows all the others.

mod addresses;
mod context;
mod files;
mod http;
mod sockets;

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use files::file_limit_problem;

use context::Lasting;

use crate::api;
use crate::backup::{self, Backup, BackupSettings, TargetSettings};
use crate::clock::Clock;
use crate::config::{self, Config, ConfigError, Flags};
use crate::console;
use crate::delivery;
use crate::delivery::address::OwnAddresses;
use crate::jobs::Jobs;
use crate::notify::{Notifier, Post};
use crate::scheduler::Scheduler;
use crate::shortage;
use crate::store::{self, Store};
use crate::telemetry::{self, Metrics};
use crate::watched::{self, Kind};

/// How often gauges are brought up to date and the supervisor gets a sign of life.
const PULSE: Duration = Duration::from_secs(1);
/// How long the process outlives a failure, for answers to requests under way.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long it goes on before that, so that a request for health now still reports the failure.
const FAILURE_TOLD: Duration = Duration::from_millis(500);
/// The part of a stop's time that is left for requests, when attempts take all of it.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// How much longer than a stop a hand-over takes, for the supervisor.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);

type Listening = JoinHandle<std::io::Result<()>>;

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub store: Store,
    pub scheduler: Scheduler,
    jobs: Jobs,
    /// Tells people of endpoints that fail.
    notifier: Notifier,
    /// Copies the store, where the settings say where to.
    backup: Option<Backup>,
    pub metrics: Arc<Metrics>,
    /// The machine's addresses, which endpoints cannot reach.
    pub own_addresses: OwnAddresses,
    /// Looks up the machine's addresses again and again.
    finding: JoinHandle<()>,
    http: ServerHandle,
    /// Ends with the listener: by a stop, or by itself.
    listening: Option<Listening>,
    /// The context that requests get; a reload replaces it.
    contexts: Arc<api::Contexts>,
    /// The number of connections of each client.
    pub connections: Arc<api::Connections>,
    failures: Arc<api::Failures>,
    /// Somebody with the right to do so has asked for it.
    hand_over_asked: Arc<Notify>,
    drain: Duration,
}

/// Why a server ends in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Stop,
    /// Another machine goes on with the store.
    HandOver,
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
    files::raise_limit();
    if let Some(warning) = file_limit_problem(&loaded.config) {
        log::warn!("{warning}");
    }
    addresses::warn_of_private_receivers(&loaded.config, flags);
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
        let address = listener.local_addr()?;
        let (metrics, threads) = (server.metrics.clone(), server.store.threads().clone());
        actix_rt::spawn(http::serve_metrics(listener, metrics, threads, stall)?);
        log::info!("metrics without a credential on http://{address}/metrics");
    }
    tell_of_owner_token(&owner_token);
    if let Some(problem) = server.contexts.current().config.server.link_problem() {
        log::warn!("{problem}");
    }
    log::info!("listening on http://{}", server.address);
    notify(&[NotifyState::Ready]);

    let mut listening = server.listening.take();
    let ending = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(Ending::Stop),
            _ = interrupt.recv() => break Ok(Ending::Stop),
            reason = server.run(&mut listening) => break Err(reason),
            () = server.hand_over_asked() => break Ok(Ending::HandOver),
            _ = hangup.recv() => {
                notify(&[NotifyState::Reloading]);
                reload(&server, &mut current, &origin);
                notify(&[NotifyState::Ready]);
            }
            _ = user1.recv() => log::info!("SIGUSR1 does nothing; SIGHUP reads the settings again"),
            _ = user2.recv() => log::info!("SIGUSR2 does nothing; SIGHUP reads the settings again"),
        }
    };
    let ending = match ending {
        Ok(ending) => ending,
        Err(reason) => {
            notify(&[NotifyState::Stopping]);
            server.answer_the_last().await;
            // No orderly stop: a part that hangs or is broken must not keep the supervisor from starting anew.
            return Err(reason.into());
        }
    };
    match ending {
        Ending::Stop => {
            notify(&[NotifyState::Stopping]);
            log::info!("stopping; a second signal ends the process at once");
        }
        Ending::HandOver => {
            let extended = (server.drain + HAND_OVER_MAX).as_micros();
            let extended = u32::try_from(extended).unwrap_or(u32::MAX);
            notify(&[
                NotifyState::Stopping,
                NotifyState::ExtendTimeoutUsec(extended),
            ]);
            log::info!("handing over; a signal ends the process at once");
        }
    }
    tokio::select! {
        ended = server.end(ending) => ended.map_err(Into::into),
        _ = terminate.recv() => cut_short(),
        _ = interrupt.recv() => cut_short(),
    }
}

/// Reads the settings again and takes over those that need no restart. An error in any of them changes
/// nothing.
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

impl Server {
    /// Opens the store, starts deliveries, and answers requests at `listener`.
    pub fn start(
        mut config: Config,
        listener: TcpListener,
        clock: Clock,
    ) -> Result<Server, Box<dyn Error>> {
        let metrics = Arc::new(Metrics::new());
        let own_addresses = OwnAddresses::default();
        // A failure is in the log; addresses are looked up again soon.
        let _ = addresses::find_own(&own_addresses);
        let send_settings = Arc::new(delivery::SendSettings::from_config(
            &config,
            &own_addresses,
        )?);
        let pages = web::Data::new(console::Pages::new(&config)?);
        let post = Post::from_config(&config)?;
        let store = Store::open(
            store::StoreSettings::from_config(&config),
            clock,
            metrics.clone(),
        )?;
        let main = store.threads().add(Kind::Main);
        store.threads().add(Kind::Acceptor);
        let scheduler = Scheduler::start(
            store.clone(),
            &config,
            send_settings.clone(),
            metrics.clone(),
        );
        let jobs = Jobs::start(store.clone(), &config);
        let notifier = Notifier::start(store.clone(), post, metrics.clone());
        let backup = start_backup(&store, &config, &metrics)?;

        let address = listener.local_addr()?;
        // The system may have chosen the port; links name it.
        config.server.listen = address;
        let drain = Duration::from_secs(config.server.drain_seconds);
        let clock = store.clock().clone();
        let connections = api::Connections::new(&config, clock.clone(), metrics.clone());
        let connections = Arc::new(connections);
        let failures = api::Failures::new(&config, clock.clone(), metrics.clone());
        let failures = Arc::new(failures);
        let shares = api::Shares::start(&config.limits, &store, metrics.clone());
        let lasting = Lasting {
            store: store.clone(),
            metrics: metrics.clone(),
            started_at: clock.now(),
            shares: Arc::new(shares),
            schemas: Arc::default(),
            hand_over_asked: Arc::default(),
        };
        let hand_over_asked = lasting.hand_over_asked.clone();
        let context = lasting.with(config, &send_settings, &own_addresses, scheduler.lanes());
        let contexts = Arc::new(api::Contexts::new(context));
        let routes = api::configure(contexts.current(), failures.clone());
        let http = http::serve_api(
            listener,
            contexts.clone(),
            connections.clone(),
            routes,
            pages,
        )?;
        let finding = addresses::keep_finding(own_addresses.clone(), clock, main);
        Ok(Server {
            address,
            store,
            scheduler,
            jobs,
            notifier,
            backup,
            metrics,
            own_addresses,
            finding: actix_rt::spawn(finding),
            http: http.handle(),
            listening: Some(actix_rt::spawn(http)),
            contexts,
            connections,
            failures,
            hand_over_asked,
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

    /// Brings the gauges up to date that are not counted as it happens, and logs the minutes that are over.
    pub fn pulse(&self) {
        let oldest = self.scheduler.oldest_due();
        let now = self.store.clock().now();
        let age = oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64());
        self.metrics.oldest_due_seconds.set(age);
        let waiting = self.scheduler.waiting_for_host();
        self.metrics.waiting_for_host.set(waiting as i64);
        self.metrics.sample(now);
        if let Some(backup) = &self.backup {
            backup.show();
        }
        self.failures.tell();
        self.connections.tell();
        // Listeners and the store do not report a shortage, so it is looked for.
        if let Some(shortage) = shortage::probe() {
            self.metrics.shortages.note(shortage, now);
        }
    }

    /// Applies these settings to requests and attempts that begin from now on, as far as the settings can
    /// change without a restart. An error changes nothing.
    pub fn reload(&self, config: &Config) -> Result<(), ConfigError> {
        let send_settings = delivery::SendSettings::from_config(config, &self.own_addresses)?;
        let send_settings = Arc::new(send_settings);
        let old = self.contexts.current();
        let mut config = config.clone();
        config.server.listen = self.address;
        let lanes = self.scheduler.lanes();
        let context = Lasting::of(&old).with(config, &send_settings, &self.own_addresses, lanes);
        self.contexts.replace(context);
        self.scheduler.reload(&send_settings);
        Ok(())
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

    /// Returns once the API was asked to hand the store over.
    pub async fn hand_over_asked(&self) {
        self.hand_over_asked.notified().await;
    }

    /// Stops as [`Server::stop`] does, copies the end of the store, marks it so that no server starts on it, and tells
    /// whoever follows the copy to go on. After an error a server can start on it as before.
    pub async fn hand_over(&mut self) -> Result<(), String> {
        self.end(Ending::HandOver).await
    }

    /// Begins no further attempt and lets those in flight end for as long as `drain_seconds`. Messages that
    /// are published meanwhile are accepted, and the next start sends them; only the last moments of that
    /// time are for the requests under way. Then makes everything durable and closes the store.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.end(Ending::Stop).await
    }

    async fn end(&mut self, ending: Ending) -> Result<(), String> {
        self.finding.abort();
        if let Some(backup) = &self.backup {
            backup.stop_verifying();
            if ending == Ending::HandOver {
                backup.run_now();
            }
        }
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
            telemetry::note_stopping();
            let stopped = http.stop(true);
            if tokio::time::timeout_at(deadline.max(Instant::now() + LAST_ANSWERS), stopped)
                .await
                .is_err()
            {
                log::warn!("some requests did not end in time");
            }
        };
        tokio::join!(attempts, requests, self.jobs.stop(), self.notifier.stop());
        let store = self.store.clone();
        let backup = self.backup.take();
        let closing = move || {
            if let Err(error) = store.keep_last_seen() {
                log::warn!("when credentials were used in the last minutes is lost: {error}");
            }
            let closed = store.close();
            // The end of the store is copied, too.
            match (backup, ending) {
                (Some(mut backup), Ending::Stop) => backup.stop(),
                (Some(mut backup), Ending::HandOver) => {
                    closed?;
                    let handed_over = backup.hand_over();
                    return handed_over.map_err(|error| format!("not handed over: {error}"));
                }
                (None, Ending::Stop) => {}
                (None, Ending::HandOver) => return Err("there is no backup.to".to_owned()),
            }
            closed
        };
        tokio::task::spawn_blocking(closing)
            .await
            .unwrap_or_else(|_| Err("closing the store panicked".to_owned()))?;
        log::info!("stopped; everything that was accepted is on disk");
        Ok(())
    }
}

/// Begins to copy the store, where the settings say where to.
fn start_backup(
    store: &Store,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Option<Backup>, Box<dyn Error>> {
    let section = &config.backup;
    backup::discard_scratch(&config.store.path);
    let Some(to) = &section.to else {
        return Ok(None);
    };
    let settings = BackupSettings {
        target: TargetSettings {
            to: to.clone(),
            key: section.key.clone(),
        },
        every: Duration::from_secs(section.every_seconds),
        keep: Duration::from_secs(u64::from(section.keep_days) * 24 * 3600),
        verify_every: (section.verify_every_hours > 0)
            .then(|| Duration::from_secs(section.verify_every_hours * 3600)),
    };
    let backup = Backup::start(store, settings, metrics.clone());
    Ok(Some(backup.map_err(|error| format!("backup.to: {error}"))?))
}

fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn tell_of_owner_token(file: &Path) {
    match file.exists() {
        true => log::info!("the owner's token is in {}", file.display()),
        // Say, after a restore: it keeps the tokens' hashes, and cannot write their texts.
        false => log::info!(
            "there is no {}: the owner's token is what it was; `postrider token reset-owner` makes \
             a new one",
            file.display()
        ),
    }
}

/// Tells the supervisor, where there is one that listens.
fn notify(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(false, states) {
        log::warn!("the supervisor could not be told: {error}");
    }
}

/// Ends the process without draining. Nothing that was accepted is lost: it is on disk.
fn cut_short() -> ! {
    log::warn!("stopped at once; attempts that were in flight will be repeated");
    std::process::exit(0)
}
